"""Carrying a flight to its one terminal row."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from activities.requests.flight import Flight, State
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch, InvalidRequest, Overloaded
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import HistoryPoint
from modelpilot.requests.route_request import RouteRequestInput
from tests.support.core import COST_USD, A, B, Core, failure, settle
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream

CANCELED = Outcome("canceled", "sim/a", "simulator", error_code="request_canceled")


async def ended(core: Core, accepted: RouteRequestInput | None = None, **changes: Any) -> Outcome:
    """The outcome of a flight, once that is recorded and the flight forgotten."""
    flight = core.launched(accepted, **changes)
    await asyncio.wait_for(flight.recorded, 10.0)
    assert (flight.state, len(core.registry)) == (State.RECORDED, 0)
    return (await flight.ended).outcome


async def test_an_answer_goes_through_every_state_once() -> None:
    """Accepting, calling, ended, recorded: the row is what the client got, and then nothing is left of the flight."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    core.ledger.gate.clear()
    flight = core.launched()
    assert (flight.state, core.registry.active) == (State.ACCEPTING, 1)
    await core.providers.called.wait()
    assert (flight.state, flight.running) == (State.CALLING, True)
    gate.set()
    record = await flight.ended
    assert (flight.state, flight.running, core.registry.active, len(core.registry)) == (State.ENDED, False, 0, 1)
    core.ledger.gate.set()
    await flight.recorded
    assert (flight.state, len(core.registry)) == (State.RECORDED, 0)
    assert core.ledger.rows == {flight.key: record}
    assert record.outcome.cost_usd == pytest.approx(COST_USD)
    assert [point.request_id for point in core.history.points] == ["r1"]
    assert core.ledger.points == core.history.points, "in the copy at once, and with the row for good"


async def test_a_failure_without_fallback_is_the_end() -> None:
    """No fallback models: the failed outcome is the request's, and nothing is learnt from it."""
    core = Core()
    core.providers.will(A, [failure()])
    outcome = await ended(core)
    assert (outcome.status, outcome.can_fall_back) == ("failed", False)
    assert (core.history.points, core.ledger.handed_over) == ([], set())


async def test_a_failure_that_may_fall_back_is_not_the_end() -> None:
    """Its attempts are in the ledger before the workflow is asked to go on; the terminal row is not."""
    core = Core()
    core.providers.will(A, [failure()])
    core.workflows.gate.clear()
    flight = core.launched(request(plan(A, B)))
    await core.workflows.asked.wait()
    assert (flight.state, flight.running, flight.ended.done()) == (State.FALLING_BACK, True, False)
    assert [attempt.seq for attempt in core.ledger.attempts[flight.key].values()] == [0]
    assert (core.ledger.handed_over, core.ledger.rows) == ({flight.key}, {})
    core.workflows.gate.set()
    await until(lambda: flight.key in core.workflows.handed_over)
    assert core.providers.models == ["a"]


async def test_a_second_end_does_not_replace_the_first() -> None:
    """What was told and recorded stands, whatever comes later."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    flight = core.launched()
    await core.providers.called.wait()
    await core.controller.end(flight, CANCELED)
    first = await flight.ended
    gate.set()
    await flight.recorded
    await settle()
    assert (first.outcome.status, flight.record) == ("canceled", first)
    assert core.ledger.written == [first]


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), InvalidRequest("no such kind")])
async def test_a_bug_in_the_first_phase_is_a_failed_outcome(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing hangs on an exception that nobody expected, and an accepted request is not refused for it."""
    core = Core()

    async def broken(*_: object) -> Outcome:
        raise error

    monkeypatch.setattr(core.caller, "first_phase", broken)
    outcome = await ended(core)
    assert (outcome.status, outcome.error_code) == ("failed", "internal_error")
    assert str(error) not in (outcome.error_message or "")


async def test_a_row_that_cannot_be_computed_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arithmetic over what a call cost fails: the request ends all the same."""
    core = Core()
    build = core.controller._record

    def broken(flight: Flight, outcome: Outcome) -> Any:
        if outcome.attempts:
            raise OverflowError("cannot convert float infinity to integer")
        return build(flight, outcome)

    monkeypatch.setattr(core.controller, "_record", broken)
    assert (await ended(core)).error_code == "internal_error"


async def test_a_model_that_cannot_be_learnt_from_costs_no_row() -> None:
    """The copy in memory refuses the point, for example since the embedder was changed."""
    core = Core()

    def refuse(_: HistoryPoint) -> None:
        raise EmbedderMismatch("another dimension")

    core.controller._learn = refuse
    assert (await ended(core)).status == "completed"
    assert core.ledger.points == []


async def test_an_embedder_away_loses_the_point_only() -> None:
    """The row is committed all the same."""
    core = Core()
    assert (await ended(core, vector=None)).status == "completed"
    assert (core.history.points, core.ledger.points) == ([], [])


@pytest.mark.parametrize("error", [DependencyUnavailable("away"), Overloaded("too many writes are waiting")])
async def test_a_failing_ledger_is_tried_again(error: Exception) -> None:
    """With the whole record each time; the client does not wait for it."""
    core = Core()
    core.ledger.refusals = [error] * 5
    flight = core.launched()
    record = await flight.ended
    assert core.ledger.rows == {}
    await flight.recorded
    assert core.ledger.written == [record] * 6
    assert core.ledger.rows == {flight.key: record}


async def test_a_record_that_the_ledger_refuses_goes_in_without_text() -> None:
    """What was spent is worth a row of its own; the client has the whole answer."""
    core = Core()
    core.ledger.refusals = [ValueError("NUL in a text")]
    flight = core.launched()
    record = await flight.ended
    await flight.recorded
    (row,) = core.ledger.rows.values()
    assert record.outcome.answer is not None
    assert (row.outcome.answer, row.decision, core.ledger.points) == (None, {}, [])
    assert row.outcome.cost_usd == pytest.approx(COST_USD)


async def test_a_record_that_is_refused_again_is_given_up() -> None:
    """It cannot succeed: it is neither tried without end nor kept in memory."""
    core = Core()
    core.ledger.refusals = [ValueError("NUL in a text")] * 2
    assert (await ended(core)).status == "completed"
    assert (core.ledger.rows, len(core.ledger.written)) == ({}, 2)


async def test_a_request_that_the_ledger_has_not_accepted_comes_with_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closer must find it; one that it has is not sent twice."""
    core = Core()
    core.postgres.up = False
    flight = core.launched()
    await flight.recorded
    assert core.ledger.open == {flight.key: flight.request}
    second = Core()
    sent: list[object] = []
    record = second.ledger.record

    async def watched(*given: Any) -> bool:
        sent.append(given[2])
        return await record(*given)

    monkeypatch.setattr(second.ledger, "record", watched)
    await ended(second)
    assert sent == [None]


async def test_a_refused_request_leaves_no_trace() -> None:
    """Neither a call nor a row nor a flight; everybody who waits hears why."""
    core = Core()
    core.ledger.accept_refusals = [Overloaded("too many writes are waiting")]
    flight = core.launched(named=True, stream=True)
    with pytest.raises(Overloaded):
        await flight.ended
    await until(lambda: len(core.registry) == 0)
    assert flight.sink is not None
    assert await flight.sink.get() == []
    assert (flight.state, core.providers.made, core.ledger.rows) == (State.REFUSED, [], {})


async def test_no_entry_leaks() -> None:
    """Every mixture of answered, failed, abandoned, refused and fallen back: afterwards the registry is empty, and
    every accepted request has its row."""
    core = Core()
    core.workflows.up = False
    core.providers.will(A, *([failure()] if number % 3 == 0 else stream() for number in range(2 * 3 * 5 * 7)))
    flights: list[Flight] = []
    for number in range(2 * 3 * 5 * 7):
        core.ledger.accept_refusals = [Overloaded("away")] if number % 5 == 0 else []
        accepted = replace(request(plan(A, B) if number % 2 else plan(A)), request_id=f"r{number}")
        flights.append(core.launched(accepted, named=number % 5 == 0))
        await asyncio.wait({flights[-1].accepted})
        if number % 7 == 0:
            core.controller.abandon(flights[-1])
    await until(lambda: len(core.registry) == 0)
    assert core.registry.active == 0
    assert all(flight.ended.done() for flight in flights)
    assert {flight.key for flight in flights if flight.state is State.RECORDED} == set(core.ledger.rows)
    assert sum(flight.state is State.REFUSED for flight in flights) == 2 * 3 * 7
