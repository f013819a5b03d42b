"""Connections to the HTTP server: deadlines for what comes on them, and a bound on their number.

aiohttp waits for ever for the head of a request and for a client that does not read, and at the limit of descriptors
libuv closes whatever it accepts, without a word. A sweep over all connections ends what is overdue; it needs no timer
per connection, and of a request being answered it sees nothing but a client that does not read. Bodies have their
deadlines where they are read (`api.http.bodies.BodyPace`).
"""

import asyncio
import os
import resource
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, cast

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import Counter, Gauge

log = structlog.get_logger(__name__)

# A gateway's memory is the next limit: an idle connection takes some 20 KB.
MOST_CONNECTIONS = 16_384
# For Postgres, Temporal, Milvus, files and connections that are being refused, besides one per request in flight.
RESERVED_DESCRIPTORS = 128
# Of so many connections one is looked for that may be closed in favour of a new one.
_LOOKED_AT = 32
_REFUSING_AT_ONCE = 64  # others are cut without an answer
_REFUSING_S = 1.0
_IDLE_S = 1.0
_READ_BYTES = 64 * 1024
_LOG_EVERY_S = 10.0

_CLOSING = b"connection: close\r\ncontent-type: application/json\r\n"
_TOO_MANY = b'{"error":{"message":"Too many connections","type":"overloaded_error","param":null,"code":"overloaded"}}'
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n%scontent-length: %d\r\n\r\n%s" % (
    _CLOSING,
    len(_TOO_MANY),
    _TOO_MANY,
)
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

OPEN = Gauge("modelpilot_connections", "Open connections of clients")
MOST = Gauge("modelpilot_connections_limit", "How many connections of clients there may be")
REFUSED = Counter("modelpilot_connections_refused", "Connections that were closed at once, since there were too many")
ENDED = Counter("modelpilot_connections_ended", "Connections that were ended, by what was overdue", ["overdue"])

Overdue = Literal["silent", "head", "reading", "closing", "room"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`head_s`: from the connection, or the first byte of a later request, to the end of its head. `keep_alive_s`: how
    long a connection may be idle between requests; longer than that of a load balancer in front, which would else send
    into a closed connection. `unread_s`: how long a client may take nothing of an answer, or not let go of a closed
    connection; longer than `CLIENT_STALLS_S` of streams, which say more. `linger_s`: how long the rest of a body that
    was refused is read, so that its client sees why. `most`: connections at the same time; None: by descriptors, with
    one left for each of `descriptors_in_use` and `RESERVED_DESCRIPTORS` more.
    """

    head_s: float = 10.0
    keep_alive_s: float = 75.0
    unread_s: float = 90.0
    linger_s: float = 5.0
    sweep_s: float = 1.0
    most: int | None = None
    descriptors_in_use: int = 1_000


def raise_descriptor_limit() -> int:
    """Raise this process's limit of descriptors as far as it may be raised, and say what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # More than this are never needed, and where "unlimited" is 2^63 some kernels refuse it.
    wanted = 2 * MOST_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * MOST_CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return 2 * MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else soft


def most_connections(descriptors: int, in_use: int) -> int:
    """How many connections leave enough of `descriptors` for everything else: at least half of them, where few are
    allowed."""
    return max(min(descriptors - max(min(in_use + RESERVED_DESCRIPTORS, descriptors // 2), 1), MOST_CONNECTIONS), 1)


class Connection(RequestHandler):
    """aiohttp's handler of one connection, with what the sweep needs to know."""

    __slots__ = ("_closing_since", "_guard", "_head_begun", "_head_since", "_heads", "_own_transport", "_unread_since")

    def __init__(self, guard: "GuardedServer", **options: Any) -> None:
        super().__init__(guard, **options)
        self._guard, self._heads, self._head_begun = guard, 0, False
        self._head_since: float | None = None
        self._unread_since: float | None = None
        self._closing_since: float | None = None
        self._own_transport: asyncio.Transport | None = None  # aiohttp forgets it before it is closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first head is due."""
        super().connection_made(transport)
        self._own_transport, self._head_since = self.transport, self._loop.time()
        self._guard.open[self] = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is due any more."""
        self._guard.open.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """With the first byte of a later request its head is due, and no longer when it is complete."""
        super().data_received(data)
        if self._request_count != self._heads:
            self._heads, self._head_since, self._head_begun = self._request_count, None, False
        elif data and not self._head_begun and self.is_idle:
            self._head_since, self._head_begun = self._head_since or self._loop.time(), True

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread_since = self._loop.time()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._unread_since = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered, and no body read or thrown away."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    def may_make_room(self, now: float) -> bool:
        """Whether nothing has come for a moment, so that closing it hurts nobody."""
        if not self.is_idle or self._head_begun:
            return False
        since = self._head_since or self._next_keepalive_close_time - self._keepalive_timeout
        return now - since > _IDLE_S

    def overdue(self, now: float, limits: ConnectionLimits) -> Overdue | None:
        """What has been waited for too long."""
        if self._own_transport is not None and self._own_transport.is_closing():
            self._closing_since = self._closing_since or now
            return "closing" if now - self._closing_since > limits.unread_s else None
        if self._unread_since is not None and now - self._unread_since > limits.unread_s:
            return "reading"
        if self._head_since is None or now - self._head_since <= limits.head_s or not self.is_idle:
            return None
        return "head" if self._head_begun else "silent"

    def end(self, overdue: Overdue) -> None:
        """Close it, with a word to a client that has begun a request; cut it where it does not read."""
        ENDED.labels(overdue).inc()
        if self._own_transport is not None and overdue in ("reading", "closing"):
            self._own_transport.abort()
        elif self.transport is not None:
            if overdue == "head":
                self.transport.write(_TIMED_OUT)
            self.force_close()


class _Refusal(asyncio.Protocol):
    """A connection too many: told so, and closed when its client has had a moment to read it. Closing at once would
    take the answer along with whatever the client has sent.
    """

    def __init__(self, refusing: set["_Refusal"]) -> None:
        self._refusing = refusing
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        if len(self._refusing) >= _REFUSING_AT_ONCE:
            stream.abort()
            return
        self._refusing.add(self)
        stream.write(_REFUSAL)
        stream.write_eof()
        self._timer = asyncio.get_running_loop().call_later(_REFUSING_S, stream.abort)

    def eof_received(self) -> bool:
        return False  # the client closes, so do we

    def connection_lost(self, exc: Exception | None) -> None:
        self._refusing.discard(self)
        if self._timer is not None:
            self._timer.cancel()


class GuardedServer(web.Server):
    """aiohttp's server with a bound on its connections and a sweep over them.

    New connections beyond the bound are answered with 503 and closed, rather than left in the listen queue: their
    clients and load balancers learn it at once, and go elsewhere. Before that, a connection that idles is closed in
    their favour, so that nobody keeps others out by holding connections.
    """

    def __init__(self, handler: Any, *, limits: ConnectionLimits, most: int, **options: Any) -> None:
        super().__init__(handler, **options)
        self.open: OrderedDict[Connection, None] = OrderedDict()
        self._limits, self._most = limits, most
        self._refusing: set[_Refusal] = set()
        self._refused = 0  # since the last line in the log
        self._next_log = 0.0
        self._timer = self._loop.call_later(limits.sweep_s, self._sweep)
        OPEN.set_function(lambda: len(self.open) + len(self._refusing))
        MOST.set(most)

    def __call__(self) -> Any:
        """The protocol of a connection that was just accepted."""
        if len(self.open) >= self._most and not self._make_room():
            self._refused += 1
            REFUSED.inc()
            return _Refusal(self._refusing)
        return Connection(self, loop=self._loop, **self._kwargs)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """Close all connections."""
        self._timer.cancel()
        await super().shutdown(timeout)

    def _make_room(self) -> bool:
        """Close one that idles. A few are looked at, and those in use are put behind the others."""
        now = self._loop.time()
        for _ in range(min(_LOOKED_AT, len(self.open))):
            connection = next(iter(self.open))
            self.open.move_to_end(connection)
            if connection.may_make_room(now):
                connection.end("room")
                return True
        return False

    def _sweep(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(self._limits.sweep_s, self._sweep)
        for connection in list(self.open):
            overdue = connection.overdue(now, self._limits)
            if overdue is not None:
                connection.end(overdue)
        exhausted = not _has_descriptor()
        if exhausted:
            self._make_room()
        if (self._refused or exhausted) and now >= self._next_log:
            what = "descriptors_exhausted" if exhausted else "connections_refused"
            log.warning(what, refused=self._refused, open=len(self.open), most=self._most)
            self._refused, self._next_log = 0, now + _LOG_EVERY_S


def _has_descriptor() -> bool:
    """Whether this process could open one more. Without one, new connections are reset before we hear of them."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


class GuardedRunner(web.AppRunner):
    """aiohttp's runner of an application, over a `GuardedServer`."""

    def __init__(self, app: web.Application, limits: ConnectionLimits, **options: Any) -> None:
        # Twice `read_bufsize` of a body are taken before anybody wants it: by default 512 KiB of each refused request.
        super().__init__(
            app,
            keepalive_timeout=limits.keep_alive_s,
            lingering_time=limits.linger_s,
            read_bufsize=_READ_BYTES,
            **options,
        )
        self._limits = limits

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        most = self._limits.most or most_connections(raise_descriptor_limit(), self._limits.descriptors_in_use)
        return GuardedServer(
            plain.request_handler,
            limits=self._limits,
            most=most,
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            loop=plain._loop,
            **plain._kwargs,
        )
