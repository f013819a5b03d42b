"""Answers from what was said before: `my X is Y`, `remember: …`, `repeat what I said`. Pure."""

import re
from collections.abc import Iterator

from simulator.request import OWN_ROLES
from simulator.talk import Talk, without_harness

_MOST_SEARCHED = 20_000  # characters of a message, from its end
_FACT = re.compile(
    r"\b(my|the) ([a-z][\w -]{0,40}?) (?:is|are) ([^!?\n]{1,200}?)(?=[!?\n,;]|\.(?:\s|$)| and (?:my|the|i)\b|$)",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"\b(?:what(?:'s| is| are| was)|tell me|who is) (my|the) ([a-z][\w -]{0,40}?)\s*(?:[?.!,]|$)", re.IGNORECASE
)
_REMEMBER = re.compile(r"\bremember(?:\s+that|\s+this)?\s*:?\s+([^\n]{1,300})", re.IGNORECASE)
_RECALL = re.compile(r"\b(?:what|which)\b.{0,60}\bremember\b", re.IGNORECASE)
_REPEAT = re.compile(
    r"\b(?:repeat|what (?:was|were|did)|say again)\b.{0,20}?"
    r"\b(?:(?P<first>my first)|(?P<mine>i|my)|(?P<yours>you|your))\b"
    r"(?:.{0,20}?\b(?:said?|say|message|question|answer|words|ask(?:ed)?)\b)",
    re.IGNORECASE,
)


def recalled(talk: Talk) -> str | None:
    """Return the answer to a question about earlier turns, or None if the task is none."""
    lower = talk.lower
    if "remember" in lower and _RECALL.search(talk.task):
        return _remembered(talk)
    if ("repeat" in lower or "what" in lower or "again" in lower) and (match := _REPEAT.search(talk.task)):
        return _repeated(talk, match)
    if (" my " in lower or " the " in lower) and (match := _ASKED.search(talk.task)):
        return _fact(talk, match[1].lower(), match[2].lower())
    return None


def _said(talk: Talk) -> Iterator[str]:
    """What users said, the latest first."""
    yield talk.task
    for turn in reversed(talk.earlier):
        if turn.role == "user" and (text := without_harness(turn.text)):
            yield text


def _fact(talk: Talk, whose: str, name: str) -> str | None:
    for text in _said(talk):
        said = text[-_MOST_SEARCHED:]
        if f"{whose} {name}" not in said.lower():
            continue
        found = [match[3] for match in _FACT.finditer(said) if (match[1].lower(), match[2].lower()) == (whose, name)]
        if found:
            return f"{'Your' if whose == 'my' else 'The'} {name} is {found[-1].strip()}."
    return f"You have not told me your {name}." if whose == "my" else None


def _remembered(talk: Talk) -> str | None:
    for text in _said(talk):
        match = None if _RECALL.search(text) else _REMEMBER.search(text)
        if match:
            return f"You asked me to remember: {match[1].strip()}"
    return None


def _repeated(talk: Talk, match: re.Match[str]) -> str:
    if match["yours"]:
        answers = [turn.text for turn in talk.earlier if turn.role in OWN_ROLES and turn.text]
        return f"I said: {answers[-1]}" if answers else "I have not said anything before."
    texts = list(_said(talk))[1:]
    if not texts:
        return "You have not said anything before."
    return f"You said: {texts[-1] if match['first'] else texts[0]}"
