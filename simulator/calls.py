"""The log of calls: what the simulator was asked and how each call ended, so that tests can count provider calls."""

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.request import ChatRequest
from simulator.text import digest

Outcome = Literal["running", "completed", "disconnected", "failed"]
_EXCERPT = 500  # Characters kept from each end of a prompt: enough to find a tag, little enough for 10,000 calls.


@dataclass(slots=True)
class Call:
    """One call. `received_s` is in seconds since 1970, `duration_ms` in milliseconds (None while it runs).

    `concurrent` is how many calls with the same prompt were running when it came, itself included. `right` is whether
    the answer was right (None if there was none). `tokens` are those of the answer, as far as they are produced.
    """

    number: int
    received_s: float
    path: str
    request_id: str
    body_digest: str
    model: str = ""
    tag: str = ""
    prompt: str = ""
    prompt_digest: str = ""
    stream: bool = False
    faults: list[str] = field(default_factory=list)
    concurrent: int = 0
    status: int | None = None
    outcome: Outcome = "running"
    right: bool | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    duration_ms: float | None = None
    started_s: float = field(default_factory=time.perf_counter)  # wall clocks may jump

    def as_json(self) -> dict[str, Any]:
        """Return the call with camelCase names."""
        return {_camel(name): getattr(self, name) for name in self.__slots__ if name != "started_s"}

    def matches(self, tag: str, model: str, outcome: str) -> bool:
        """Whether the call has this tag (or it is part of the prompt), model and outcome; empty ones always match."""
        found = not tag or tag == self.tag or tag in self.prompt
        base = self.model.partition("+")[0].rsplit("/", 1)[-1]
        return found and (not model or model in (self.model, base)) and (not outcome or outcome == self.outcome)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def excerpt(prompt: str) -> str:
    """Return the ends of a long prompt, or all of a short one."""
    return prompt if len(prompt) <= 2 * _EXCERPT else f"{prompt[:_EXCERPT]} … {prompt[-_EXCERPT:]}"


class CallLog:
    """The last `limit` calls, oldest first."""

    def __init__(self, limit: int) -> None:
        self._calls: deque[Call] = deque(maxlen=limit)
        self._running: Counter[str] = Counter()
        self._numbers = 0
        self._changed = asyncio.Event()

    def begin(self, path: str, headers: Mapping[str, str], body: bytes) -> Call:
        """Record that a call came in."""
        self._numbers += 1
        body_digest = hashlib.sha256(body).hexdigest()[:16]
        call = Call(self._numbers, time.time(), path, headers.get("x-request-id", ""), body_digest)
        self._calls.append(call)
        return call

    def describe(self, call: Call, chat: ChatRequest) -> None:
        """Record what the call asks for; from now on it counts among the running calls of its prompt."""
        call.model, call.stream, call.prompt = chat.model, chat.stream, excerpt(chat.prompt)
        call.prompt_tokens = chat.prompt_tokens
        call.tag, call.prompt_digest = str(chat.simulator.get("tag", "")), digest(chat.prompt)
        self._running[call.prompt_digest] += 1
        call.concurrent = self._running[call.prompt_digest]
        self._notify()

    def end(self, call: Call, outcome: Outcome) -> None:
        """Record how the call ended; only the first ending counts."""
        if call.outcome != "running":
            return
        call.outcome, call.duration_ms = outcome, round((time.perf_counter() - call.started_s) * 1000, 1)
        self._running[call.prompt_digest] -= 1
        if self._running[call.prompt_digest] <= 0:
            del self._running[call.prompt_digest]
        self._notify()

    def clear(self) -> None:
        """Forget all calls that have been recorded."""
        self._calls.clear()

    def find(self, tag: str = "", model: str = "", outcome: str = "") -> list[Call]:
        """Return the matching calls, oldest first."""
        return [call for call in self._calls if call.matches(tag, model, outcome)]

    async def wait(self, least: int, wait_ms: float, **wanted: str) -> list[Call]:
        """Return the matching calls as soon as there are `least` of them, or after `wait_ms` milliseconds."""
        try:
            async with asyncio.timeout(wait_ms / 1000):
                while len(found := self.find(**wanted)) < least:
                    await self._changed.wait()
                return found
        except TimeoutError:
            return self.find(**wanted)

    def _notify(self) -> None:
        # A fresh event per change: everybody who waits wakes once and looks again.
        self._changed.set()
        self._changed = asyncio.Event()


def summary(calls: list[Call]) -> dict[str, Any]:
    """Count calls by outcome, model and status, and give the most that ran at once for one prompt."""
    outcomes = Counter(call.outcome for call in calls)
    return {
        "total": len(calls),
        **{name: outcomes.get(name, 0) for name in ("completed", "disconnected", "failed", "running")},
        "byModel": Counter(call.model for call in calls),
        "byStatus": Counter(str(call.status) for call in calls if call.status is not None),
        "maxConcurrent": max((call.concurrent for call in calls), default=0),
    }
