"""The door: who may come in is decided by counters, before a body is read, and counters always come back to zero."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from api.gateway.admission import TICKET, Admission, AdmissionLimits, LoopLag, Ticket, admitted
from api.http.bodies import read_bytes
from api.http.connections import ConnectionLimits
from api.http.errors import describe
from api.http.registry import RouteSpec, add_routes
from modelpilot.errors import Overloaded
from modelpilot.requests.records import Backlog
from tests.support.http import Wire, serving
from tests.support.management_fakes import FakeStores, secret_of
from tests.support.processes import until

LIMITS = AdmissionLimits(in_flight=3, waiting=2, backlog=10, body_bytes=100, lag_s=1.0, lag_running=0)


def refused(admission: Admission, body_bytes: int = 0) -> str | None:
    """The limit that refuses one more request; None where it would be let in."""
    try:
        admission.enter(body_bytes).leave()
    except Overloaded as error:
        return str(error.details["limit"])
    return None


@pytest.mark.parametrize(
    ("counters", "body_bytes", "limit"),
    [
        ({}, 100, None),
        ({"running": 2}, 0, None),
        ({"running": 3}, 0, "in_flight"),
        ({"waiting": 1}, 0, None),
        ({"waiting": 2}, 0, "waiting"),
        ({"body_bytes": 60}, 40, None),
        ({"body_bytes": 60}, 41, "body_bytes"),
        ({}, 101, "body_bytes"),
        ({"backlog": lambda: Backlog(9)}, 0, None),
        ({"backlog": lambda: Backlog(10)}, 0, "backlog"),
    ],
)
def test_each_limit_refuses_from_its_figure_on(counters: dict[str, Any], body_bytes: int, limit: str | None) -> None:
    """The last one that fits is let in, the next is not, and the error names the limit."""
    admission = Admission(LIMITS)
    for name, value in counters.items():
        setattr(admission, name, value)
    assert refused(admission, body_bytes) == limit


def test_a_late_event_loop_refuses_until_it_is_in_time_again() -> None:
    """One long turn is nothing, two are overload, and a few short ones later it is over."""
    admission = Admission(LIMITS)
    admission.lag.observe(3.0)
    assert refused(admission) is None
    admission.lag.observe(3.0)
    assert refused(admission) == "lag"
    admission.lag.observe(0.0)
    admission.lag.observe(-0.1)
    assert refused(admission) is None


async def test_the_lag_of_the_loop_is_measured() -> None:
    """By a timer of the loop itself."""
    lag = LoopLag()
    lag.start()
    loop = asyncio.get_running_loop()
    lag._fired(loop, loop.time() - 4.0)
    await asyncio.sleep(0)
    assert 1.0 <= lag.seconds <= 4.0
    lag.stop()


def test_a_refusal_says_when_to_come_back() -> None:
    """503 with Retry-After, and not the header that keeps SDKs from repeating."""
    with pytest.raises(Overloaded) as caught:
        Admission(AdmissionLimits(in_flight=0)).enter()
    view = describe(caught.value)
    assert (view.status, view.code) == (503, "overloaded")
    assert int(view.headers["retry-after"]) >= 1
    assert "x-should-retry" not in view.headers


def test_a_request_waits_from_its_body_to_its_call() -> None:
    """A body that is still arriving keeps nobody from being served."""
    admission = Admission(LIMITS)
    ticket = admission.enter(5)
    assert (admission.running, admission.waiting, admission.body_bytes) == (1, 0, 5)
    ticket.arrived()
    ticket.arrived()
    assert admission.waiting == 1
    ticket.called()
    ticket.called()
    assert (admission.running, admission.waiting, admission.body_bytes) == (1, 0, 5)
    ticket.leave()
    ticket.leave()
    ticket.arrived()
    assert (admission.running, admission.waiting, admission.body_bytes) == (0, 0, 0)


def test_who_arrives_after_too_many_others_is_refused() -> None:
    """Bodies that were let in one after the other can be complete at the same time."""
    admission = Admission(LIMITS)
    first, second, third = (admission.enter() for _ in range(3))
    first.arrived()
    second.arrived()
    with pytest.raises(Overloaded):
        third.arrived()
    third.leave()
    assert (admission.running, admission.waiting) == (2, 2)


STEPS = st.lists(st.tuples(st.sampled_from(["enter", "grow", "arrived", "called", "leave"]), st.integers(0, 60)))


@given(STEPS)
def test_no_order_of_events_breaks_a_limit_or_leaves_something_behind(steps: list[tuple[str, int]]) -> None:
    """Handlers end by exception, by cancellation, twice or without ever having called a provider."""
    admission = Admission(LIMITS)
    tickets: list[Ticket] = []
    for step, number in steps:
        try:
            if step == "enter":
                tickets.append(admission.enter(number))
            elif tickets:
                ticket = tickets[number % len(tickets)]
                ticket.grow(number) if step == "grow" else getattr(ticket, step)()
        except Overloaded:
            pass
        assert 0 <= admission.waiting <= admission.running <= LIMITS.in_flight
        assert 0 <= admission.body_bytes <= LIMITS.body_bytes
    for ticket in tickets:
        ticket.leave()
    assert (admission.running, admission.waiting, admission.body_bytes) == (0, 0, 0)


def test_lag_refuses_nobody_where_little_runs() -> None:
    """Somebody else has the processor, and fewer requests would not give it back."""
    admission = Admission(replace(LIMITS, lag_running=1))
    for _ in range(9):
        admission.lag.observe(5.0)
    assert refused(admission) is None
    with admission.enter():
        assert refused(admission) == "lag"


def test_the_figures_are_published() -> None:
    """The gauges show the counters as they are when somebody reads them."""
    admission = Admission(LIMITS)
    admission.publish()
    admission.backlog = lambda: Backlog(7)
    admission.lag.observe(0.5)
    refusals = REGISTRY.get_sample_value("modelpilot_requests_refused_total", {"limit": "backlog"}) or 0.0
    admission.refusal("backlog")
    with admission.enter(3) as ticket:
        ticket.arrived()
        names = ("requests_running", "requests_waiting", "request_body_bytes", "backlog", "event_loop_lag_seconds")
        assert [REGISTRY.get_sample_value(f"modelpilot_{name}") for name in names] == [1, 1, 3, 7, 0.125]
    assert REGISTRY.get_sample_value("modelpilot_requests_refused_total", {"limit": "backlog"}) == refusals + 1


# Over HTTP.


class Door:
    """An application with one admitted route, whose handler reads the body and then waits until it may answer."""

    def __init__(self, limits: AdmissionLimits, **changes: Any) -> None:
        self.admission, self.may_answer = Admission(limits), asyncio.Event()
        self.bodies: list[int] = []
        stores = FakeStores()
        self.app = stores.app(extra_routes=[self._register], admission=self.admission, **changes)
        self.key = stores.keys.add("app", scopes=frozenset({"route"}))

    def _register(self, app: web.Application) -> None:
        add_routes(app, [RouteSpec("POST", "/run", admitted(self._run), "route", "Runs", "test")])

    async def _run(self, request: web.Request) -> web.Response:
        self.bodies.append(len(await read_bytes(request)))
        request[TICKET].called()
        await self.may_answer.wait()
        return web.Response(text="done")

    def head(self, *lines: str, key: str | None = None) -> bytes:
        """The head of a request with these further header lines."""
        first = ("POST /run HTTP/1.1", "host: here", f"authorization: Bearer {key or self.key}")
        return "\r\n".join((*first, *lines, "", "")).encode()


async def test_a_client_that_is_still_sending_is_refused_at_once() -> None:
    """The answer comes before the body, says that the connection ends, and nothing of the body was kept."""
    door = Door(AdmissionLimits(in_flight=0))
    async with serving(door.app, ConnectionLimits(most=10, linger_s=0.5)) as port, Wire.to(port) as wire:
        wire.send(door.head("content-length: 20000000") + b"x" * 1_000)
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert answer.headers["retry-after"]
        wire.send(b"x" * 100_000)  # what was under way is taken, so that no reset overtakes the answer
        assert wire.is_open
        assert await wire.ended() == b""
    assert (door.bodies, door.admission.body_bytes) == ([], 0)


async def test_a_small_body_that_was_refused_leaves_the_connection_open() -> None:
    """Connecting anew would cost more than the refusal."""
    door = Door(AdmissionLimits(in_flight=0))
    async with serving(door.app) as port, Wire.to(port) as wire:
        for _ in range(2):
            wire.send(door.head("content-length: 10") + b"x" * 10)
            answer = await wire.answer()
            assert (answer.status, answer.headers.get("connection")) == (503, None)


async def test_a_client_that_asks_first_sends_nothing_in_vain() -> None:
    """`Expect: 100-continue` is answered with the refusal instead of the invitation."""
    door = Door(AdmissionLimits(in_flight=0))
    async with serving(door.app) as port, Wire.to(port) as wire:
        wire.send(door.head("content-length: 20000000", "expect: 100-continue"))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")


async def test_a_client_that_asks_first_is_told_to_continue() -> None:
    """Once its body is wanted, and its answer follows as usual."""
    door = Door(AdmissionLimits())
    door.may_answer.set()
    async with serving(door.app) as port, Wire.to(port) as wire:
        wire.send(door.head("content-length: 10", "expect: 100-continue"))
        assert await wire.line() == b"HTTP/1.1 100 Continue\r\n"
        assert await wire.line() == b"\r\n"
        wire.send(b"x" * 10)
        assert (await wire.answer()).body == b"done"


async def test_a_stranger_that_asks_first_is_not_told_to_continue() -> None:
    """Nobody uploads anything without a key."""
    door = Door(AdmissionLimits())
    async with serving(door.app) as port, Wire.to(port) as wire:
        wire.send(door.head("content-length: 20000000", "expect: 100-continue", key=secret_of("stranger")))
        assert (await wire.answer()).status == 401


async def test_another_expectation_is_refused() -> None:
    """As HTTP has it."""
    door = Door(AdmissionLimits())
    async with serving(door.app) as port, Wire.to(port) as wire:
        wire.send(door.head("content-length: 10", "expect: miracles"))
        assert (await wire.answer()).status == 417


async def test_announced_bytes_are_reserved_before_they_come() -> None:
    """The second of two bodies that do not fit together is refused, the third one fits."""
    door = Door(AdmissionLimits(body_bytes=100))
    async with serving(door.app) as port, Wire.to(port) as first, Wire.to(port) as second:
        first.send(door.head("content-length: 60"))
        await until(lambda: door.admission.body_bytes == 60)
        second.send(door.head("content-length: 41") + b"x" * 41)
        assert (await second.answer()).status == 503
        door.may_answer.set()
        second.send(door.head("content-length: 40") + b"x" * 40)
        assert (await second.answer()).status == 200
        first.send(b"x" * 60)
        assert (await first.answer()).status == 200
    assert (door.bodies, door.admission.body_bytes) == ([40, 60], 0)


async def test_bytes_without_a_length_are_reserved_as_they_come() -> None:
    """A chunked body that grows beyond what is left is refused on the way."""
    door = Door(AdmissionLimits(body_bytes=100))
    async with serving(door.app) as port, Wire.to(port) as wire:
        wire.send(door.head("transfer-encoding: chunked") + b"3c\r\n" + b"x" * 60 + b"\r\n")
        await until(lambda: door.admission.body_bytes == 60)
        wire.send(b"29\r\n" + b"x" * 41 + b"\r\n")
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert (door.admission.running, door.admission.body_bytes) == (0, 0)


async def test_a_body_over_the_limit_for_one_stays_a_413() -> None:
    """What can never be taken is no overload."""
    door = Door(AdmissionLimits(body_bytes=100), max_body_bytes=100)
    async with serving(door.app) as port, Wire.to(port) as wire:
        wire.send(door.head("content-length: 20000000"))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_a_client_that_leaves_gives_back_what_it_had() -> None:
    """While its body arrives, and while it waits for its answer."""
    door = Door(AdmissionLimits())
    async with serving(door.app) as port:
        async with Wire.to(port) as wire:
            wire.send(door.head("content-length: 60"))
            await until(lambda: door.admission.body_bytes == 60)
        async with Wire.to(port) as other:
            other.send(door.head("content-length: 5") + b"x" * 5)
            await until(lambda: door.bodies == [5])
        await until(lambda: door.admission.running == 0)
    assert door.admission.body_bytes == 0
