"""How an answer is delivered: the steps for it and the faults on it, and a `Delivery` that carries them out.

Planning is pure. A `Delivery` works on a real connection and records how the call ended.
"""

import asyncio
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from simulator.calls import Call, CallLog
from simulator.faults import Active, SimError, context_error, filter_error, status_error
from simulator.generate import Dialect, Frame
from simulator.models import SimModel

JSON = "application/json"
SSE = "text/event-stream"
# The reset comes so much after the last token, because a reset may destroy what the reader has not yet taken.
_CUT_AFTER_MS = 20
_COMMENTS = b": the simulator has nothing to say\n\n" * 3
_HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait `ms` milliseconds after the step before."""

    ms: float


@dataclass(frozen=True, slots=True)
class Head:
    """Send the status and the headers; `length` in bytes is None for a body that is sent in chunks."""

    status: int
    content_type: str
    length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a part of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Say nothing more until the client gives up or the server stops."""


Step = Wait | Head | Send | Reset | Hang


@dataclass(frozen=True, slots=True)
class Timing:
    """When things are sent: the first token after `first_ms`, each other one `token_ms` later, in milliseconds.

    `early_head` sends the headers at once instead of with the first token.
    """

    first_ms: float
    token_ms: float = 0
    early_head: bool = False


def timing(model: SimModel, faults: Active, latency_ms: float | None) -> Timing:
    """Return the pace: `latency_ms` (or the `latency` fault) for the whole answer, else the model's own."""
    total = faults.number("latency") if "latency" in faults else latency_ms
    own = Timing(model.ttft_ms, 1000 / model.tokens_per_second) if total is None else Timing(total)
    first = faults.number("firsttoken")
    return own if first is None else Timing(first, own.token_ms, early_head=True)


def early_steps(faults: Active) -> list[Step] | None:
    """Return the steps of a call that never gets headers, or None."""
    return [Hang()] if "hang" in faults else [Reset()] if "reset" in faults else None


def fault_error(dialect: str, model: SimModel, prompt_tokens: int, faults: Active, api_key: str) -> SimError | None:
    """Return the error that the faults, or a prompt beyond the context window, ask for; None if there is none."""
    status = faults.number("status")
    if status is not None:
        return status_error(int(status), api_key)
    if faults.text("refusekey") == api_key:
        return status_error(401, api_key)
    if "context" in faults or prompt_tokens > model.context_window:
        return context_error(dialect, prompt_tokens, model.context_window)
    return filter_error(dialect) if "filter" in faults else None


def plan_error(dialect: Dialect, error: SimError, faults: Active, now: datetime) -> list[Step]:
    """Return the steps of an error answer; errors come at once unless the `latency` fault delays them."""
    status, body = dialect.error(error)
    headers = {} if status < 400 else _retry_after(faults, now)
    wait: list[Step] = [Wait(faults.number("latency") or 0)] if "latency" in faults else []
    return [*wait, Head(status, JSON, len(body), headers), Send(body)]


def _retry_after(faults: Active, now: datetime) -> dict[str, str]:
    seconds = faults.number("retrydate")
    if seconds is not None:
        return {"Retry-After": format_datetime((now + timedelta(seconds=seconds)).astimezone(UTC), usegmt=True)}
    text = faults.text("retryafter")
    return {} if text is None else {"Retry-After": text}


def plan_body(dialect: Dialect, body: bytes, tokens: int, faults: Active, pace: Timing) -> list[Step]:
    """Return the steps of a whole answer, broken as the faults ask."""
    wait: list[Step] = [Wait(pace.first_ms + pace.token_ms * max(tokens - 1, 0))]
    if replaced := _replacement(dialect, faults):
        return [*wait, *replaced]
    half = len(body) // 2
    if "truncated" in faults:
        body = body[:half]
    elif "malformed" in faults:
        body = body[:1] + b"," + body[1:]
    broken = "cut" in faults or "stall" in faults
    ending: list[Step] = ([Wait(_CUT_AFTER_MS), Reset()] if "cut" in faults else [Hang()]) if broken else []
    head = Head(200, JSON, len(body))
    parts: list[Step] = [head, *wait] if pace.early_head else [*wait, head]
    return [*parts, Send(body[:half] if broken else body), *ending]


def plan_stream(dialect: Dialect, frames: Sequence[Frame], faults: Active, pace: Timing) -> list[Step]:
    """Return the steps of a streamed answer, broken as the faults ask."""
    wait = Wait(pace.first_ms)
    if replaced := _replacement(dialect, faults):
        return [wait, *replaced]
    kept, ending = _disturb(dialect, list(frames), faults)
    # Without pacing and faults the whole stream is one write of known length: benchmarks spend no time on it.
    whole = not pace.token_ms and not ending and not pace.early_head
    head = Head(200, SSE, sum(len(frame.data) for frame in kept) if whole else None)
    parts: list[Step] = [head, wait] if pace.early_head else [wait, head]
    return [*parts, *_paced(kept, pace.token_ms), *ending]


def produced_tokens(tokens: int, faults: Active) -> int:
    """Return how many of an answer's `tokens` are produced, and would be billed, before a fault ends it."""
    if {"errorbody", "html", "comments"} & set(faults.names):
        return 0
    if "truncated" in faults:
        return tokens // 2
    limits = [faults.number(name) for name in ("cut", "stall", "streamerror") if name in faults]
    return min([tokens, *(int(limit or 0) for limit in limits)])


def _replacement(dialect: Dialect, faults: Active) -> list[Step]:
    """Return the steps of a 200 that is no answer at all, or [] if the answer stands."""
    if "errorbody" in faults:
        _, body = dialect.error(status_error(500, ""))
        return [Head(200, JSON, len(body)), Send(body)]
    if "html" in faults:
        return [Head(200, "text/html", len(_HTML)), Send(_HTML)]
    if "comments" in faults:
        return [Head(200, SSE, len(_COMMENTS)), Send(_COMMENTS)]
    return []


def _disturb(dialect: Dialect, frames: list[Frame], faults: Active) -> tuple[list[Frame], list[Step]]:
    """Return the frames that are still sent, and the steps that end the stream instead of a clean close."""
    if "nodone" in faults:
        frames = [frame for frame in frames if not frame.terminator]
    if "malformed" in faults:
        at = _after_token(frames, faults.number("malformed") or 0)
        frames.insert(at, Frame(_partly(frames[at - 1].data) + b"\n\n"))
    if "truncated" in faults:
        at = _after_token(frames, sum(frame.token for frame in frames) // 2)
        return [*frames[:at], Frame(_partly(frames[at].data))], []
    if (after := faults.number("streamerror")) is not None:
        return [*frames[: _after_token(frames, after)], Frame(dialect.error_frame(status_error(500, "")))], []
    if (after := faults.number("cut")) is not None:
        return frames[: _after_token(frames, after)], [Wait(_CUT_AFTER_MS), Reset()]
    if (after := faults.number("stall")) is not None:
        return frames[: _after_token(frames, after)], [Hang()]
    return frames, [Hang()] if "linger" in faults else []


def _partly(data: bytes) -> bytes:
    """Return the first two thirds of a frame: past the event's name, within its JSON."""
    return data[: len(data) * 2 // 3]


def _after_token(frames: Sequence[Frame], count: float) -> int:
    """Return the position behind token number `count`, at most that of the first closing frame."""
    seen = 0
    for position, frame in enumerate(frames):
        if frame.closing or (frame.token and seen >= count):
            return position
        seen += frame.token
    return len(frames)


def _paced(frames: Sequence[Frame], token_ms: float) -> list[Step]:
    if not token_ms:
        return [Send(b"".join(frame.data for frame in frames))]
    steps: list[Step] = []
    buffer: list[bytes] = []
    started = False
    for frame in frames:
        if frame.token and started:
            steps += [Send(b"".join(buffer)), Wait(token_ms)]
            buffer = []
        started = started or frame.token
        buffer.append(frame.data)
    return [*steps, Send(b"".join(buffer))] if buffer else steps


_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # linger on, zero seconds: close() sends RST instead of FIN


class Delivery:
    """One answer on its way to a client; `stopping` ends silences when the server shuts down."""

    def __init__(self, request: web.Request, call: Call, calls: CallLog, stopping: asyncio.Event) -> None:
        self._request = request
        self._call = call
        self._calls = calls
        self._stopping = stopping
        self._response: web.StreamResponse | None = None
        self._due_s = asyncio.get_running_loop().time()

    async def run(self, steps: Sequence[Step]) -> web.StreamResponse:
        """Carry out `steps`; a client that goes away ends them, and the call counts as `disconnected`."""
        try:
            response = await self._at_once(steps) or await self._step_by_step(steps)
        except (asyncio.CancelledError, ConnectionError):
            self._calls.end(self._call, "failed" if self._stopping.is_set() else "disconnected")
            raise
        else:
            failed = self._call.status is None or self._call.status >= 400 or _breaks_off(steps)
            self._calls.end(self._call, "failed" if failed else "completed")
            return response
        finally:
            self._calls.end(self._call, "failed")  # Only the first ending counts: this one is for surprises.

    async def _at_once(self, steps: Sequence[Step]) -> web.Response | None:
        """Send a plan of the form [Wait,] Head, Send in one write; return None for any other plan."""
        match steps:
            case [Wait(ms), Head() as head, Send(data)]:
                await self._wait(ms)
            case [Head() as head, Send(data)]:
                pass
            case _:
                return None
        self._call.status = head.status
        headers = {**self._headers(head), "Content-Type": head.content_type}
        response = web.Response(body=data, status=head.status, headers=headers)
        # Written here and not after the handler's return, so that a client that left is seen.
        await response.prepare(self._request)
        await response.write_eof()
        return response

    async def _step_by_step(self, steps: Sequence[Step]) -> web.StreamResponse:
        for step in steps:
            match step:
                case Wait(ms):
                    await self._wait(ms)
                case Head():
                    await self._head(step)
                case Send(data) if self._response:
                    await self._response.write(data)
                case Hang():
                    await self._stopping.wait()
                    self._reset()
                case Reset():
                    self._reset()
        response = self._response or web.Response()
        if not _breaks_off(steps):
            await response.write_eof()
        return response

    async def _wait(self, ms: float) -> None:
        """Wait until `ms` after the last due time, so that pacing does not drift."""
        self._due_s += ms / 1000
        delay_s = self._due_s - asyncio.get_running_loop().time()
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    async def _head(self, head: Head) -> None:
        self._call.status = head.status
        self._response = web.StreamResponse(status=head.status, headers=self._headers(head))
        self._response.content_type = head.content_type
        self._response.content_length = head.length
        await self._response.prepare(self._request)

    def _headers(self, head: Head) -> dict[str, str]:
        name = f"req_sim_{self._call.number}"
        return {"x-request-id": name, "request-id": name, **head.headers}

    def _reset(self) -> None:
        transport = self._request.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        transport.abort()


def _breaks_off(steps: Sequence[Step]) -> bool:
    return isinstance(steps[-1], (Hang, Reset))
