"""What a conversation is about: the task, what was said before it, and what has been done for it. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from simulator import codes, markers
from simulator.request import OWN_ROLES, Called, ChatRequest, Turn

# Blocks that agents put around what their user wrote.
_HARNESS = (
    "system-reminder", "environment_context", "environment_details", "user_instructions", "INSTRUCTIONS",
    "local-command-caveat", "local-command-stdout", "command-name", "command-message", "session_context",
    "permissions instructions", "collaboration_mode", "skills_instructions", "apps_instructions",
)  # fmt: skip
_HEADING = re.compile(r"^# AGENTS\.md instructions.*$", re.MULTILINE)
_SHOWN = 300  # characters of a tool's result
_MOST_RESULTS = 10


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool returned."""

    tool: str
    text: str


@dataclass(frozen=True)
class Talk:
    """A conversation as the simulator understands it.

    `task` is the last thing the user asked, without what a harness put around it; `asked` is all that users said since
    the answer before; `earlier` are the turns before; `done` are the tools called for it, one by one, and `results`
    what they returned. `images` are those that came with the task.
    """

    system: str
    task: str
    asked: str = ""
    images: tuple[str, ...] = ()
    earlier: tuple[Turn, ...] = ()
    done: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()

    @cached_property
    def lower(self) -> str:
        """The task in small letters."""
        return self.task.lower()


def read(request: ChatRequest) -> Talk:
    """Return what the conversation of `request` is about."""
    turns = codes.translated(request.turns)
    system = "\n".join(turn.text for turn in turns if turn.role in ("system", "developer") and turn.text)
    at = next((at for at in range(len(turns) - 1, -1, -1) if _asks(turns[at])), None)
    if at is None:
        return Talk(system, request.prompt, request.prompt)
    first = at
    while first and turns[first - 1].role not in OWN_ROLES:
        first -= 1
    together = [turn for turn in turns[first : at + 1] if turn.role == "user"]
    calls = [call for turn in turns[at:] for call in turn.calls]
    results = [result for turn in turns[at + 1 :] for result in turn.results]
    task = without_harness(turns[at].text)
    if marked := markers.given(task):
        task, calls, results = marked.task, [*calls, *marked.calls], [*results, *marked.results]
    return Talk(
        system,
        task,
        "\n".join(filter(None, (without_harness(turn.text) for turn in together))),
        tuple(image for turn in together for image in turn.images),
        turns[:first],
        tuple(call.name for call in calls),
        _named(results, calls),
    )


def _asks(turn: Turn) -> bool:
    return turn.role == "user" and bool(turn.text) and bool(without_harness(turn.text).strip())


def _named(results: Sequence[Called], calls: Sequence[Called]) -> tuple[Result, ...]:
    names = {call.id: call.name for call in calls}
    return tuple(Result(each.name or names.get(each.id, "The tool"), each.text) for each in results)


def without_harness(text: str) -> str:
    """Return `text` without the blocks that agents add to it; a text without any stays as it is."""
    if "</" not in text:
        return text
    found = text
    for tag in _HARNESS:
        found = _without(found, f"<{tag}", f"</{tag}>")
    return text if found == text else _HEADING.sub("", found).strip()


def _without(text: str, opening: str, closing: str) -> str:
    kept, start = [], 0
    while (begin := text.find(opening, start)) >= 0:
        end = text.find(closing, begin)
        if end < 0:
            break
        kept.append(text[start:begin])
        start = end + len(closing)
    return "".join([*kept, text[start:]]) if kept else text


def stated(results: Sequence[Result]) -> str:
    """Say what the tools returned, each result on a line and shortened."""
    return "\n".join(f"{each.tool} returned {_short(each.text)}" for each in results[-_MOST_RESULTS:])


def seen(talk: Talk) -> str | None:
    """Say what can be seen of the images of the task."""
    return f"I see {' and '.join(talk.images)}." if talk.images else None


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
