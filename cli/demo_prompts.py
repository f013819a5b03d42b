"""The prompts of `modelpilot demo`: varied, and the same in every run."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_SEED = 20_26
_DIFFICULTIES = ("easy", "medium", "hard")
# Most questions that people ask are not hard.
_SHARES = (5, 3, 2)

_LANGUAGES = ("Python", "TypeScript", "Go", "Rust", "SQL", "Java")
_TONGUES = ("German", "French", "Japanese", "Spanish", "Polish", "Turkish")
_TOPICS = (
    "the warranty of a coffee machine",
    "a late parcel",
    "next week's release",
    "the new parking rules",
    "a noisy heat pump",
    "the results of the customer survey",
    "a failed payment",
    "the school trip to the museum",
)
_PEOPLE = ("Ada Byron", "Juan Soto", "Mei Tanaka", "Olu Adeyemi", "Sara Lind")
_CITIES = ("Lisbon", "Nairobi", "Oslo", "Quito", "Hanoi")
_TASKS = {
    "easy": ("reverses a text", "sums a list of numbers", "counts the words of a file"),
    "medium": ("merges two sorted iterators", "parses a CSV line with quotes", "retries a call with backoff"),
    "hard": (
        "implements a lock-free bounded queue and argues why it is linearizable",
        "computes a minimum-cost flow and proves the bound on its running time",
        "diffs two syntax trees with moves, in less than cubic time",
    ),
}
_PUZZLES = {
    "medium": ("A train leaves at {a}:05 with {b} km/h. When has it gone {c} km?", "What is {b} % of {c}, less {a}?"),
    "hard": (
        "How many ways are there to tile a {a} by {b} board with dominoes? Explain the recurrence.",
        "Prove that n^{a} - n is divisible by 6 for every odd {a}, or find a counterexample.",
    ),
}


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """One user message. The marker at its end tells the simulator how hard it is (docs/simulator.md)."""

    kind: str
    difficulty: str
    text: str


def demo_prompts(count: int) -> list[DemoPrompt]:
    """The first `count` prompts of an endless list."""
    return list(itertools.islice(_endless(), count))


def _endless() -> Iterator[DemoPrompt]:
    pick = random.Random(_SEED)  # noqa: S311 - reproducible, not secret
    kinds = sorted(_KINDS)
    while True:
        kind = pick.choice(kinds)
        difficulty = pick.choices(_DIFFICULTIES, _SHARES)[0]
        yield DemoPrompt(kind, difficulty, f"{_KINDS[kind](pick, difficulty)} [{difficulty}]")


def _code(pick: random.Random, difficulty: str) -> str:
    return f"Write a {pick.choice(_LANGUAGES)} function that {pick.choice(_TASKS[difficulty])}."


def _math(pick: random.Random, difficulty: str) -> str:
    a, b, c = pick.randint(2, 12), pick.randint(13, 97), pick.randint(100, 900)
    if difficulty == "easy":
        return f"What is {a} * {b}?"
    return pick.choice(_PUZZLES[difficulty]).format(a=a, b=b, c=c)


def _summary(pick: random.Random, difficulty: str) -> str:
    notes = " ".join(_note(pick) for _ in range({"easy": 3, "medium": 10, "hard": 30}[difficulty]))
    return f"Summarize these notes in {pick.randint(1, 3)} sentences:\n{notes}"


def _note(pick: random.Random) -> str:
    verb = pick.choice(("asked about", "complained about", "wrote again about", "was glad about"))
    return f"{pick.choice(_PEOPLE)} from {pick.choice(_CITIES)} {verb} {pick.choice(_TOPICS)}."


def _translation(pick: random.Random, difficulty: str) -> str:
    style = {"easy": "", "medium": ", politely", "hard": ", as a sonnet that keeps every fact"}[difficulty]
    return f"Translate into {pick.choice(_TONGUES)}{style}: {_note(pick)}"


def _chat(pick: random.Random, difficulty: str) -> str:
    opening = {
        "easy": "Give me a short, friendly answer to a question about",
        "medium": "What should I consider before I decide about",
        "hard": "Argue both sides, then weigh them against each other, concerning",
    }[difficulty]
    return f"{opening} {pick.choice(_TOPICS)}."


def _extraction(pick: random.Random, difficulty: str) -> str:
    fields = {"easy": "name", "medium": "name, city and topic", "hard": "name, city, topic, mood and what to do next"}
    return f"Extract {fields[difficulty]} as JSON: {_note(pick)}"


def _classification(pick: random.Random, difficulty: str) -> str:
    labels = {"easy": "positive or negative", "medium": "praise, question or complaint", "hard": "one of 20 intents"}
    return f"Classify as {labels[difficulty]}: {_note(pick)}"


_KINDS: Mapping[str, Callable[[random.Random, str], str]] = {
    "chat": _chat,
    "classification": _classification,
    "code": _code,
    "extraction": _extraction,
    "math": _math,
    "summary": _summary,
    "translation": _translation,
}
