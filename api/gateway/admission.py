"""Whether a routed request may come in, decided by counters before its body is read.

A gateway that takes more than it can finish answers nobody in time. What is refused here has cost a fraction of a
millisecond and no provider call, and the client learns when to come back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import Literal, Self

from aiohttp import web
from prometheus_client import Counter, Gauge

from api.http.bodies import BODY_OBSERVER
from api.http.registry import Handler
from modelpilot.errors import Overloaded
from modelpilot.requests.records import Backlog

Reason = Literal["in_flight", "waiting", "backlog", "body_bytes", "lag"]

_LAG_EVERY_S = 0.1
_LAG_TURNS = 4.0

# What to say, and when to come back: a backlog shrinks by some hundreds of rows per second, the rest at once.
_REFUSALS: dict[Reason, tuple[str, float]] = {
    "in_flight": ("This gateway is at its limit of requests in flight", 1.0),
    "waiting": ("Too many requests wait for their turn at this gateway", 1.0),
    "backlog": ("Too many requests wait for the end of their workflow", 10.0),
    "body_bytes": ("This gateway holds as many bytes of requests as it may", 2.0),
    "lag": ("This gateway is behind with its work", 2.0),
}

RUNNING = Gauge("modelpilot_requests_running", "Admitted requests that are not answered yet")
WAITING = Gauge("modelpilot_requests_waiting", "Admitted requests whose provider call has not begun")
BODY_BYTES = Gauge("modelpilot_request_body_bytes", "Bytes of the bodies of admitted requests")
BACKLOG = Gauge("modelpilot_backlog", "Rows of requests without a closed workflow")
BACKLOG_AGE = Gauge("modelpilot_backlog_age_seconds", "Since when the oldest of them has been accepted")
LAG = Gauge("modelpilot_event_loop_lag_seconds", "How late the event loop is, smoothed over its last turns")
REFUSED = Counter("modelpilot_requests_refused", "Requests answered with 503 at admission, by the limit", ["limit"])


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """At most so many requests `in_flight`, so many of them `waiting` for their provider call, rows without a closed
    workflow (`backlog`), bytes of bodies, and seconds that the event loop is late.

    A request needs fifteen turns of the loop or so until it is answered: with turns of 0.06 s that takes a second, and
    every request more makes the turns longer. Single turns of 0.2 s are ordinary (a large body, a collection), hence
    the running mean; and with fewer than `lag_running` requests it is the machine that is busy with
    something else, which a refusal would not mend.
    """

    in_flight: int = 1_000
    waiting: int = 64
    backlog: int = 1_000_000
    body_bytes: int = 256 * 1024 * 1024
    lag_s: float = 0.06
    lag_running: int = 50


class LoopLag:
    """How long a turn of the running loop takes, or how late its timer fires, as a running mean: a single long turn
    counts for a quarter, and is forgotten in half a second.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure, from now on."""
        self._next(asyncio.get_running_loop())

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def observe(self, late_s: float) -> None:
        """Count one turn that was so late."""
        self.seconds += (max(late_s, 0.0) - self.seconds) / _LAG_TURNS

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_LAG_EVERY_S, self._fired, loop, loop.time() + _LAG_EVERY_S)

    def _fired(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # A timer is late by half a turn in the mean; what is put behind it comes with the next turn.
        now = loop.time()
        loop.call_soon(self._turned, loop, now, now - due)
        self._next(loop)

    def _turned(self, loop: asyncio.AbstractEventLoop, began: float, late_s: float) -> None:
        self.observe(max(loop.time() - began, late_s))


class Admission:
    """The counters of one gateway. `backlog` may be replaced by whoever knows the figure; it is asked per request, so
    it must be a look at a number. For one event loop: nothing is locked.
    """

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self.limits = limits or AdmissionLimits()
        self.backlog: Callable[[], Backlog] = Backlog
        self.lag = LoopLag()
        self.running = self.waiting = self.body_bytes = 0

    def enter(self, body_bytes: int = 0) -> "Ticket":
        """Let a request in whose body has, as far as that is known, so many bytes. Raises Overloaded."""
        limit = self._beyond(body_bytes)
        if limit is not None:
            raise self.refusal(limit)
        self.running += 1
        self.body_bytes += body_bytes
        return Ticket(self, body_bytes)

    def _beyond(self, body_bytes: int) -> Reason | None:
        limits = self.limits
        if self.running >= limits.in_flight:
            return "in_flight"
        if self.waiting >= limits.waiting:
            return "waiting"
        if self.running >= limits.lag_running and self.lag.seconds > limits.lag_s:
            return "lag"
        if not self.has_room(body_bytes):
            return "body_bytes"
        return "backlog" if self._open_rows() >= limits.backlog else None

    def _open_rows(self) -> int:
        return self.backlog().rows

    def has_room(self, body_bytes: int) -> bool:
        """Whether so many more bytes of bodies fit."""
        return self.body_bytes + body_bytes <= self.limits.body_bytes

    def refusal(self, limit: Reason) -> Overloaded:
        """The error of a request that met this limit, counted."""
        REFUSED.labels(limit).inc()
        message, retry_after_s = _REFUSALS[limit]
        return Overloaded(message, retry_after_s=retry_after_s, details={"limit": limit})

    def publish(self) -> None:
        """Let the gauges ask these counters whenever they are read."""
        RUNNING.set_function(lambda: self.running)
        WAITING.set_function(lambda: self.waiting)
        BODY_BYTES.set_function(lambda: self.body_bytes)
        BACKLOG.set_function(self._open_rows)
        BACKLOG_AGE.set_function(lambda: self.backlog().age_s)
        LAG.set_function(lambda: self.lag.seconds)

    async def measure(self, app: web.Application) -> AsyncIterator[None]:
        """A cleanup context of the application: measures the lag of its loop."""
        self.lag.start()
        yield
        self.lag.stop()


class Ticket:
    """One admitted request. It runs until `leave`, and waits from the end of its body until its provider is `called`;
    a body that is still arriving keeps nobody from being served.
    """

    __slots__ = ("_admission", "_body_bytes", "_inside", "_waits")

    def __init__(self, admission: Admission, body_bytes: int) -> None:
        self._admission, self._body_bytes = admission, body_bytes
        self._inside, self._waits = True, False

    def grow(self, body_bytes: int) -> None:
        """The body has so many bytes more than was known. Raises Overloaded."""
        if not self._inside:
            return
        if not self._admission.has_room(body_bytes):
            raise self._admission.refusal("body_bytes")
        self._body_bytes += body_bytes
        self._admission.body_bytes += body_bytes

    def arrived(self) -> None:
        """The body is complete. Raises Overloaded where too many others arrived meanwhile."""
        if self._waits or not self._inside:
            return
        if self._admission.waiting >= self._admission.limits.waiting:
            raise self._admission.refusal("waiting")
        self._waits = True
        self._admission.waiting += 1

    def called(self) -> None:
        """The provider call begins, or there is none to wait for."""
        if self._waits:
            self._waits = False
            self._admission.waiting -= 1

    def leave(self) -> None:
        """The request is over. Only the first time counts."""
        if self._inside:
            self.called()
            self._inside = False
            self._admission.running -= 1
            self._admission.body_bytes -= self._body_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leave()


ADMISSION: web.AppKey[Admission] = web.AppKey("admission", Admission)
TICKET: web.RequestKey[Ticket] = web.RequestKey("ticket", Ticket)


def admitted(handler: Handler) -> Handler:
    """`handler` behind the application's admission. The bytes that a request announces are reserved from the start,
    those of a body without a length as they come.
    """

    @wraps(handler)
    async def admit(request: web.Request) -> web.StreamResponse:
        # A body beyond the limit for one is refused as such, unread.
        announced = min(request.content_length or 0, request._client_max_size)
        with request.app[ADMISSION].enter(announced) as ticket:
            request[TICKET] = request[BODY_OBSERVER] = ticket
            return await handler(request)

    return admit
