"""Deadlines and the bound of connections, on real sockets of this process, with limits of milliseconds."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from api.http import connections
from api.http.bodies import BODY_PACE, BodyPace, read_bytes
from api.http.connections import (
    MOST_CONNECTIONS,
    ConnectionLimits,
    most_connections,
    raise_descriptor_limit,
)
from api.http.registry import RouteSpec, add_routes
from tests.support.http import Wire, serving
from tests.support.management_fakes import FakeStores
from tests.support.processes import until

SOON = 0.05
GET = b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n"


def limits(**changes: Any) -> ConnectionLimits:
    """Limits that nothing meets, but for `changes`."""
    far: dict[str, Any] = {"head_s": 60.0, "keep_alive_s": 60.0, "unread_s": 60.0, "sweep_s": 0.01, "most": 100}
    return ConnectionLimits(**far | changes)


def metric(name: str, **labels: str) -> float:
    """What `/metrics` would show."""
    return REGISTRY.get_sample_value(f"modelpilot_{name}", labels) or 0.0


class Routes:
    """An application with a route that reads a body, one that streams slowly, and one with a giant answer."""

    def __init__(self, pace: BodyPace | None = None) -> None:
        self.app = FakeStores().app(extra_routes=[self._register])
        self.app[BODY_PACE] = pace or BodyPace()
        self.go_on = asyncio.Event()
        self.is_canceled = False

    def _register(self, app: web.Application) -> None:
        handlers = {"/read": self._read, "/stream": self._stream, "/giant": self._giant}
        add_routes(
            app, [RouteSpec("POST", path, handler, "public", "A route", "test") for path, handler in handlers.items()]
        )

    async def _read(self, request: web.Request) -> web.Response:
        return web.Response(text=str(len(await read_bytes(request))))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await self.go_on.wait()
        await response.write(b"ended")
        return response

    async def _giant(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 100_000)
        except (ConnectionError, asyncio.CancelledError):
            self.is_canceled = True
            raise


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Servers and connections of one test; closed in reverse order."""
    async with AsyncExitStack() as opened:
        yield opened


def head(path: str, *lines: str) -> bytes:
    """The head of a request."""
    return "\r\n".join((f"POST {path} HTTP/1.1", "host: here", *lines, "", "")).encode()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    """It needs no key to hold a descriptor."""
    ended = metric("connections_ended_total", overdue="silent")
    async with serving(Routes().app, limits(head_s=SOON)) as port, Wire.to(port) as wire:
        assert await wire.ended() == b""
    assert metric("connections_ended_total", overdue="silent") == ended + 1


@pytest.mark.parametrize("before", [b"", GET], ids=["the first", "a later one"])
async def test_a_head_that_does_not_end_is_answered_with_408(before: bytes) -> None:
    """However often a further byte of it comes."""
    async with serving(Routes().app, limits(head_s=SOON)) as port, Wire.to(port) as wire:
        if before:
            wire.send(before)
            assert (await wire.answer()).status == 200
        wire.send(b"GET /healthz HTTP/1.1\r\nx-slow: ")
        dripping = asyncio.create_task(_drip(wire))
        assert (await wire.answer()).status == 408
        assert await wire.ended() == b""
        dripping.cancel()


async def _drip(wire: Wire) -> None:
    while True:
        wire.send(b"x")
        await asyncio.sleep(SOON / 5)


async def heads_are_overdue(port: int) -> None:
    """Return when a connection that was made now is closed for saying nothing."""
    async with Wire.to(port) as silent:
        await silent.ended()


async def everything_was_read(port: int) -> None:
    """Return when the server has taken what was sent to it until now."""
    async with Wire.to(port) as other:
        other.send(GET)
        assert (await other.answer()).status == 200


async def test_between_requests_no_head_is_due() -> None:
    """Clients keep connections for later."""
    async with serving(Routes().app, limits(head_s=SOON)) as port, Wire.to(port) as wire:
        for _ in range(3):
            wire.send(GET)
            assert (await wire.answer()).status == 200
            await heads_are_overdue(port)


async def test_an_idle_connection_is_closed_after_its_own_time() -> None:
    """So long as nothing comes."""
    async with serving(Routes().app, limits(keep_alive_s=SOON)) as port, Wire.to(port) as wire:
        wire.send(GET)
        assert (await wire.answer()).status == 200
        assert await wire.ended() == b""


async def test_a_request_in_two_pieces_is_answered() -> None:
    """As slow networks deliver it."""
    async with serving(Routes().app, limits()) as port, Wire.to(port) as wire:
        wire.send(GET[:20])
        await everything_was_read(port)
        wire.send(GET[20:] + GET)
        assert [(await wire.answer()).status, (await wire.answer()).status] == [200, 200]


async def test_an_answer_may_take_longer_than_any_deadline() -> None:
    """Streams are silent for as long as their model thinks."""
    routes = Routes()
    everything_soon = limits(head_s=SOON, keep_alive_s=SOON, unread_s=SOON)
    async with serving(routes.app, everything_soon) as port, Wire.to(port) as wire:
        wire.send(head("/stream", "connection: close"))
        assert await wire.line() == b"HTTP/1.1 200 OK\r\n"
        await heads_are_overdue(port)
        routes.go_on.set()
        assert (await wire.ended()).endswith(b"ended\r\n0\r\n\r\n")


async def test_a_client_that_does_not_read_is_cut() -> None:
    """Or its answer would be kept for ever."""
    routes = Routes()
    async with serving(routes.app, limits(unread_s=SOON)) as port, Wire.to(port, limit=1_000) as wire:
        wire.send(head("/giant"))
        await until(lambda: routes.is_canceled)


# Bodies.


@pytest.mark.parametrize("length", ["content-length: 1000", "transfer-encoding: chunked"])
async def test_a_body_that_stops_is_answered_with_408(length: str) -> None:
    """And its connection ends."""
    routes = Routes(BodyPace(idle_s=SOON))
    async with serving(routes.app, limits(linger_s=SOON)) as port, Wire.to(port) as wire:
        wire.send(head("/read", length))
        answer = await wire.answer()
        assert (answer.status, b"request_timeout" in answer.body) == (408, True)
        assert await wire.ended() == b""


async def test_a_body_that_drips_is_answered_with_408() -> None:
    """Its size bounds its time, however regularly something comes."""
    routes = Routes(BodyPace(grace_s=2 * SOON, bytes_per_second=1_000_000.0))
    async with serving(routes.app, limits(linger_s=SOON)) as port, Wire.to(port) as wire:
        wire.send(head("/read", "content-length: 1000000"))
        dripping = asyncio.create_task(_drip(wire))
        assert (await wire.answer()).status == 408
        dripping.cancel()


@pytest.mark.parametrize(
    ("elapsed_s", "received_bytes", "allowed_s"),
    [(0.0, 0, 10.0), (15.0, 0, 5.0), (20.0, 0, 0.0), (25.0, 1_000, 5.0), (25.0, 100_000, 10.0)],
)
def test_time_for_a_body_grows_with_what_came_of_it(elapsed_s: float, received_bytes: int, allowed_s: float) -> None:
    """Ten seconds without anything, twenty in all, and one more for every hundred bytes."""
    pace = BodyPace(idle_s=10.0, grace_s=20.0, bytes_per_second=100.0)
    assert pace.allowed_s(elapsed_s, received_bytes) == allowed_s


async def test_a_body_in_many_pieces_is_read() -> None:
    """The pace allows for pauses."""
    async with serving(Routes().app, limits()) as port, Wire.to(port) as wire:
        wire.send(head("/read", "content-length: 3"))
        for _ in range(3):
            await everything_was_read(port)
            wire.send(b"x")
        assert (await wire.answer()).body == b"3"


async def test_a_large_body_is_read_whole() -> None:
    """Beyond the buffers between socket and handler."""
    async with serving(Routes().app, limits()) as port, Wire.to(port) as wire:
        wire.send(head("/read", "content-length: 5000000") + b"x" * 5_000_000)
        assert (await wire.answer()).body == b"5000000"


# The bound.


async def test_a_connection_too_many_is_told_so(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are there are not touched, and when one of them is gone there is room again."""
    warnings: list[dict[str, Any]] = []
    monkeypatch.setattr(connections.log, "warning", lambda event, **fields: warnings.append({"event": event} | fields))
    routes = Routes()
    refused = metric("connections_refused_total")
    port = await stack.enter_async_context(serving(routes.app, limits(most=2)))
    first, second = [await stack.enter_async_context(Wire.to(port)) for _ in range(2)]
    for wire in (first, second):
        wire.send(head("/stream", "connection: close"))
        assert await wire.line() == b"HTTP/1.1 200 OK\r\n"
    assert metric("connections") == 2
    for _ in range(3):
        async with Wire.to(port) as third:
            third.send(GET)
            answer = await third.answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert b'"overloaded"' in answer.body
    assert metric("connections_refused_total") == refused + 3
    await until(lambda: bool(warnings))
    assert [warning["event"] for warning in warnings] == ["connections_refused"]
    routes.go_on.set()
    assert (await first.ended()).endswith(b"0\r\n\r\n")
    async with Wire.to(port) as fourth:
        fourth.send(GET)
        assert (await fourth.answer()).status == 200


@pytest.mark.parametrize("used", [True, False], ids=["idle since a request", "silent from the start"])
async def test_idle_connections_make_room(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    """Nobody keeps others out by holding connections; requests that are being answered stay."""
    monkeypatch.setattr(connections, "_IDLE_S", 0.0)
    routes = Routes()
    port = await stack.enter_async_context(serving(routes.app, limits(most=2)))
    busy, idle, newer = Wire.to(port), Wire.to(port), Wire.to(port)
    answered = await stack.enter_async_context(busy)
    answered.send(head("/stream", "connection: close"))
    assert await answered.line() == b"HTTP/1.1 200 OK\r\n"
    holding = await stack.enter_async_context(idle)
    if used:
        holding.send(GET)
        assert (await holding.answer()).status == 200
    await until(lambda: metric("connections") == 2)
    taking = await stack.enter_async_context(newer)
    taking.send(GET)
    assert (await taking.answer()).status == 200
    assert await holding.ended() == b""
    routes.go_on.set()
    assert (await answered.ended()).endswith(b"ended\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("descriptors", "in_use", "most"),
    [
        (1_024, 100, 796),
        (1_024, 1_000, 512),
        (20_000, 1_000, MOST_CONNECTIONS),
        (1_000_000, 1_000, MOST_CONNECTIONS),
        (1, 1_000, 1),
    ],
)
def test_connections_leave_descriptors_for_the_rest(descriptors: int, in_use: int, most: int) -> None:
    """One for each provider call, some for the services, and at least half of a few."""
    assert most_connections(descriptors, in_use) == most


def test_the_limit_of_descriptors_is_raised_as_far_as_it_may() -> None:
    """The usual soft limit of 1,024 is for programs of the eighties."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        raised = raise_descriptor_limit()
        assert raised == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(before[1], 2 * MOST_CONNECTIONS)
        assert raise_descriptor_limit() == raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_running_out_of_descriptors_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are reset before we hear of them, so the sweep looks for itself."""
    warnings: list[str] = []
    monkeypatch.setattr(connections.log, "warning", lambda event, **_: warnings.append(event))
    monkeypatch.setattr(connections, "_has_descriptor", lambda: False)
    async with serving(Routes().app, limits()):
        await until(lambda: bool(warnings))
    assert warnings == ["descriptors_exhausted"]
    monkeypatch.undo()
    assert connections._has_descriptor()
