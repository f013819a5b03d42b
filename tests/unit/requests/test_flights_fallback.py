"""A failed first phase: the workflow goes on, or this gateway where that cannot."""

import asyncio
from typing import Any

import pytest

from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.route_request import FallbackInput
from tests.support.core import A, B, Core, failure, settle
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream

AWAY = DependencyUnavailable("Temporal does not answer")


async def test_without_temporal_the_gateway_falls_back_itself() -> None:
    """With the same claims, and the answer says so."""
    core = Core()
    core.workflows.up = False
    core.providers.will(A, [failure()])
    flight = core.launched(request(plan(A, B)))
    record = await flight.ended
    assert (record.outcome.status, record.outcome.model, record.degraded) == ("completed", "sim/b", ("temporal",))
    assert [attempt.seq for attempt in record.outcome.attempts] == [0, 100]
    assert core.leases.asked == [(flight.key, 100)]
    assert core.ledger.handed_over == {flight.key}, "a closer lets a worker see that it has ended"


async def test_a_hand_over_that_fails_is_the_same() -> None:
    """Temporal was believed to be there."""
    core = Core()
    core.workflows.refusal = AWAY
    core.providers.will(A, [failure()])
    record = await core.launched(request(plan(A, B))).ended
    assert (record.outcome.model, record.degraded) == ("sim/b", ("temporal",))


async def test_temporal_going_away_behind_the_hand_over_is_no_hang() -> None:
    """The workflow was started, but nobody will carry it out for a while: the gateway goes on itself."""
    core = Core()
    core.providers.will(A, [failure()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.key in core.workflows.handed_over)
    await settle()
    assert not flight.ended.done()
    core.workflows.up = False
    record = await asyncio.wait_for(flight.ended, 10.0)
    assert (record.outcome.model, record.degraded) == ("sim/b", ("temporal",))


async def test_a_workflow_of_which_nothing_is_heard_is_no_hang() -> None:
    """Behind the request's time its first failure is told, and nothing more is called."""
    core = Core()
    core.providers.will(A, [failure("overloaded")])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.key in core.workflows.handed_over)
    flight.received_at -= 60.0  # seconds, twice the total time
    outcome = (await asyncio.wait_for(flight.ended, 10.0)).outcome
    assert (outcome.status, outcome.error_code, core.providers.models) == ("failed", "overloaded", ["a"])


async def test_without_postgres_the_first_failure_is_the_end() -> None:
    """Nobody knows who else calls; Temporal has accepted the request, and gets its row later."""
    core = Core()
    core.postgres.up = False
    core.providers.will(A, [failure()])
    flight = core.launched(request(plan(A, B)))
    record = await flight.ended
    assert (record.outcome.status, record.degraded, core.providers.models) == ("failed", ("postgres",), ["a"])
    assert core.workflows.handed_over == {}


async def test_postgres_going_away_before_the_hand_over_is_the_same() -> None:
    """The request is in it, but its attempts cannot be."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, failure()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.in_ledger)
    core.ledger.down = True
    gate.set()
    record = await flight.ended
    assert (record.outcome.status, core.providers.models) == ("failed", ["a"])
    core.ledger.down = False
    await flight.recorded


@pytest.mark.parametrize("held", [False, True])
async def test_a_closer_that_held_the_first_task_is_said_to_the_workflow(
    held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides how the workflow gets to a worker."""
    core = Core()
    core.providers.will(A, [failure()])
    hand_over = core.ledger.hand_over

    async def told(*given: Any) -> bool:
        await hand_over(*given)
        return held

    monkeypatch.setattr(core.ledger, "hand_over", told)
    flight = core.launched(request(plan(A, B)))
    await until(lambda: core.workflows.handed_over == {flight.key: held})


async def test_temporal_going_away_during_an_attempt_of_its_own_makes_no_second_one() -> None:
    """The gateway waits for the attempt that it is making for the workflow; that one's end is the request's, although
    the ledger does not know it yet."""
    core, gate = Core(), asyncio.Event()
    core.ledger.gate.clear()
    core.providers.will(A, [failure()])
    core.providers.will(B, [gate, *stream()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.key in core.workflows.handed_over)
    work = FallbackInput(flight.request, await core.recovery.first_phase(flight.request))
    running = asyncio.create_task(core.controller.fall_back(work))
    await until(lambda: core.providers.models == ["a", "b"])
    core.workflows.up = False
    for _ in range(5):
        await asyncio.sleep(0.001)
    gate.set()
    record = await flight.ended
    await running
    await settle()
    assert (record.outcome.status, record.degraded, core.providers.models) == ("completed", (), ["a", "b"])
    core.ledger.gate.set()
    await flight.recorded
    assert len(core.ledger.written) == 1


async def test_an_attempt_that_another_process_makes_is_not_made_here() -> None:
    """A worker of the shared queue has claimed it when Temporal goes away: its end is taken."""
    core = Core()
    core.leases.alive.add("worker-1")
    core.providers.will(A, [failure()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.key in core.workflows.handed_over)
    core.leases.claims[flight.key, 100] = "worker-1"
    core.workflows.up = False
    await until(lambda: (flight.key, 100) in core.leases.asked)
    assert not flight.ended.done()
    done = Outcome("completed", B.id, B.provider, flight.failed.attempts if flight.failed else (), {"choices": []})
    await Core(like=core, instance="worker-1").recovery.record(flight.request, done)
    record = await asyncio.wait_for(flight.ended, 10.0)
    assert (record.outcome.model, core.providers.models) == ("sim/b", ["a"])
