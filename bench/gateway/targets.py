"""Whom a chat request is sent to (the provider itself, our gateway, a peer), and how an answer is timed."""

import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

CALL_TIMEOUT_S = 60.0
# Longer than any pause between phases, so that no measured call opens a connection.
_KEEP_ALIVE_S = 600.0
_EVENT = b"data: "
_DONE = b"[DONE]"


class BadAnswer(Exception):
    """The answer was not what a client could use."""


class BadStatus(BadAnswer):
    """The answer was an error."""

    def __init__(self, status: int, content: bytes) -> None:
        super().__init__(f"status {status}: {content[:200].decode('utf-8', 'replace')}")
        self.status = status


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """One server that speaks OpenAI's chat completions. `model` is left out of bodies where it is None."""

    name: str
    url: str
    model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def body(self, prompt: str, *, stream: bool) -> bytes:
        """The request's body."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
        if self.model is not None:
            body["model"] = self.model
        return orjson.dumps({**body, "stream": True} if stream else body)


@dataclass(frozen=True, slots=True)
class Timed:
    """One successful call: the milliseconds asked for, and whether the answer calls itself degraded."""

    ms: float
    degraded: bool = False


Call = Callable[[str], Awaitable[Timed]]


def open_session() -> aiohttp.ClientSession:
    """A client that keeps as many connections as are used at once, up to the most that the system lets us open.

    Servers that are to have their usual limit are started before it.
    """
    with suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S),
        headers={"content-type": "application/json"},
    )


async def whole_answer(session: aiohttp.ClientSession, target: ChatTarget, prompt: str) -> Timed:
    """Time from sending the request to having read the whole answer. Raises BadAnswer and aiohttp's errors."""
    body = target.body(prompt, stream=False)
    began = time.perf_counter()
    async with session.post(target.url, data=body, headers=target.headers) as answer:
        content = await answer.read()
        ms = (time.perf_counter() - began) * 1_000.0
        _check(answer, content)
        return Timed(ms, degraded="x-modelpilot-degraded" in answer.headers)


async def first_token(session: aiohttp.ClientSession, target: ChatTarget, prompt: str) -> Timed:
    """Time from sending the request to the first piece of text; the stream is read to its end.

    Raises BadAnswer (no text, or no [DONE]) and aiohttp's errors.
    """
    body = target.body(prompt, stream=True)
    ms: float | None = None
    last, degraded = b"", False
    began = time.perf_counter()
    async with session.post(target.url, data=body, headers=target.headers) as answer:
        if answer.status != 200:
            _check(answer, await answer.read())
        async for line in answer.content:
            if not line.startswith(_EVENT):
                continue
            if ms is None and _has_text(line):
                ms = (time.perf_counter() - began) * 1_000.0
            before_last, last = last, line
        degraded = _is_degraded(before_last)
    if ms is None or last.removeprefix(_EVENT).strip() != _DONE:
        raise BadAnswer(f"{target.name}: the stream had no text or no end")
    return Timed(ms, degraded)


def _check(answer: aiohttp.ClientResponse, content: bytes) -> None:
    if answer.status != 200:
        raise BadStatus(answer.status, content)


def _has_text(line: bytes) -> bool:
    data = line.removeprefix(_EVENT).strip()
    choices = [] if data == _DONE else orjson.loads(data).get("choices") or []
    return any(choice.get("delta", {}).get("content") for choice in choices)


def _is_degraded(line: bytes) -> bool:
    # Our own object is on the last chunk before [DONE]; others have none.
    data = line.removeprefix(_EVENT).strip()
    return bool(orjson.loads(data).get("modelpilot", {}).get("degraded")) if data else False
