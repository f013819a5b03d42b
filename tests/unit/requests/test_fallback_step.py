"""The fallback activity: what ends it, what makes Temporal try again, and who goes on where its process ends."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.requests.flight import Flight, State
from activities.requests.steps import WORKER_SHUTDOWN, ProviderActivities
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.outcome import Outcome, Remedy
from modelpilot.requests.route_request import CallPlan, FallbackInput, StoreInput
from tests.support.core import A, B, C, Core, failure, settle
from tests.support.processes import until
from tests.support.routing_samples import NOW, plan, request, stream


def environment(attempt: int = 1, **info: Any) -> ActivityEnvironment:
    """Temporal's test environment at a given attempt (1-based)."""
    env = ActivityEnvironment()
    env.info = replace(env.info, attempt=attempt, **info)
    return env


async def failed(core: Core, call_plan: CallPlan, **changes: Any) -> tuple[Flight, FallbackInput]:
    """A flight whose first phase has failed, and whose workflow asks for a fallback."""
    core.providers.will(A, [failure("overloaded")])
    flight = core.launched(request(call_plan), **changes)
    await until(lambda: flight.key in core.workflows.handed_over)
    return flight, FallbackInput(flight.request, await core.recovery.first_phase(flight.request))


def worker(core: Core) -> ProviderActivities:
    """The steps of another process, in which no answer is open."""
    return Core(like=core, instance="worker-1").provider_steps


async def test_the_gateway_streams_into_its_open_answer() -> None:
    """The attempt runs where the answer is open, and ends the flight; its row is there when Temporal hears."""
    core = Core()
    flight, work = await failed(core, plan(A, B), stream=True)
    outcome = await environment().run(core.own_steps.call_fallback, work)
    record = await flight.ended
    assert (outcome.status, outcome.model, record.outcome) == ("completed", "sim/b", outcome)
    assert core.ledger.rows == {flight.key: record}
    assert record.degraded == ()
    assert flight.sink is not None
    assert len(await flight.sink.get()) == len(stream())
    assert (flight.state, len(core.registry)) == (State.RECORDED, 0)


async def test_temporal_hears_of_an_end_when_it_is_committed() -> None:
    """Nobody records another one meanwhile, while the answer leaves."""
    core = Core()
    core.acceptance.longest_s = 60.0
    core.ledger.gate.clear()
    flight, work = await failed(core, plan(A, B))
    running = asyncio.create_task(environment().run(core.own_steps.call_fallback, work))
    assert (await flight.ended).outcome.status == "completed"
    await settle()
    assert not running.done()
    core.ledger.gate.set()
    assert (await running).status == "completed"
    assert flight.key in core.ledger.rows


async def test_a_worker_records_what_its_attempt_came_to() -> None:
    """The gateway finds the end in the ledger."""
    core = Core()
    flight, work = await failed(core, plan(A, B))
    outcome = await environment().run(worker(core).call_fallback, work)
    assert (outcome.status, [attempt.seq for attempt in outcome.attempts]) == ("completed", [0, 100])
    assert core.ledger.rows[flight.key].degraded == ("recovered",)
    assert (await asyncio.wait_for(flight.ended, 10.0)).outcome == core.ledger.rows[flight.key].outcome


@pytest.mark.parametrize(
    ("attempt", "call_plan", "asked_s", "delay"),
    [
        (1, plan(A, B), None, None),
        (1, plan(A, B), 7.0, timedelta(seconds=7)),
        (1, plan(A, B, total_ms=120_000), 9_999.0, timedelta(seconds=60)),
        (1, plan(A, B, C), 7.0, None),
        (2, plan(A, B), None, timedelta(seconds=1)),
    ],
)
@pytest.mark.parametrize("where", ["gateway", "worker"])
async def test_a_failed_attempt_makes_temporal_try_again(
    where: str, attempt: int, call_plan: CallPlan, asked_s: float | None, delay: timedelta | None
) -> None:
    """Retryable, after the policy's wait, unless the provider asked for another one or Temporal counts other attempts
    than the ledger (on another queue it begins again); no text of a provider enters the history."""
    core = Core()
    flight, work = await failed(core, call_plan)
    core.providers.will(B, [failure("rate_limited", retry_after_s=asked_s)])
    steps = core.own_steps if where == "gateway" else worker(core)
    with pytest.raises(ApplicationError) as caught:
        await environment(attempt).run(steps.call_fallback, work)
    assert (caught.value.non_retryable, caught.value.next_retry_delay) == (False, delay)
    assert (caught.value.type, caught.value.category) == ("rate_limited", ApplicationErrorCategory.BENIGN)
    assert "the provider says" not in caught.value.message
    assert set(core.ledger.attempts[flight.key]) == {0, 100}
    assert (core.ledger.rows, flight.state) == ({}, State.FALLING_BACK)


@pytest.mark.parametrize(("retries", "remedy"), [(1, Remedy.FALL_BACK), (3, Remedy.GIVE_UP)])
@pytest.mark.parametrize("where", ["gateway", "worker"])
async def test_the_last_failure_is_an_outcome(where: str, retries: int, remedy: Remedy) -> None:
    """Attempts used up, or nothing that a retry mends: the failed outcome, committed."""
    core = Core()
    flight, work = await failed(core, plan(A, B, retry_attempts=retries))
    core.providers.will(B, [failure("content_filter", remedy)])
    steps = core.own_steps if where == "gateway" else worker(core)
    outcome = await environment().run(steps.call_fallback, work)
    assert (outcome.status, outcome.error_code) == ("failed", "content_filter")
    assert replace(core.ledger.rows[flight.key].outcome, can_fall_back=True) == replace(outcome, can_fall_back=True)


async def test_a_retried_task_of_a_finished_fallback_calls_nothing() -> None:
    """The result was lost on its way to Temporal: the outcome is given again, here and elsewhere."""
    core = Core()
    _, work = await failed(core, plan(A, B))
    first = await environment().run(core.own_steps.call_fallback, work)
    for steps in (core.own_steps, worker(core)):
        assert await environment(2).run(steps.call_fallback, work) == first
    assert core.providers.models == ["a", "b"]


async def test_an_end_that_is_not_committed_yet_is_given_again() -> None:
    """With Postgres away the flight has ended and is not forgotten: nothing is called once more, and Temporal, which
    keeps the outcome, does not wait for the commit for ever."""
    core = Core()
    flight, work = await failed(core, plan(A, B))
    core.ledger.gate.clear()
    first = await environment().run(core.own_steps.call_fallback, work)
    assert (first.status, flight.state) == ("completed", State.ENDED)
    assert await environment(2).run(core.own_steps.call_fallback, work) == first
    assert core.providers.models == ["a", "b"]
    core.ledger.gate.set()
    await flight.recorded


async def test_a_fallback_beside_our_own_waits_for_it() -> None:
    """Temporal seemed to be away, and the gateway went on: the workflow's attempt gets that end."""
    core, gate = Core(), asyncio.Event()
    core.workflows.up = False
    core.providers.will(A, [failure()])
    core.providers.will(B, [gate, *stream()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: core.providers.models == ["a", "b"])
    work = FallbackInput(flight.request, await core.recovery.first_phase(flight.request))
    running = asyncio.create_task(environment().run(core.own_steps.call_fallback, work))
    await settle()
    gate.set()
    assert (await running).status == "completed"
    assert (core.providers.models, len(core.ledger.rows)) == (["a", "b"], 1)


@pytest.mark.parametrize(("first", "waits"), [(A, [7.0]), (B, [])])
async def test_the_first_fallback_waits_only_for_the_model_that_asked(first: ModelSpec, waits: list[float]) -> None:
    """The first fallback is immediate; where it is the same model again, its own Retry-After is the wait."""
    waited: list[float] = []

    async def sleep(wait_s: float) -> bool:
        waited.append(wait_s)
        return True

    core = Core()
    core.sleep = sleep
    core.providers.will(A, [failure("rate_limited", retry_after_s=7.0)], stream())
    flight = core.launched(request(plan(A, first)))
    await until(lambda: flight.key in core.workflows.handed_over)
    work = FallbackInput(flight.request, await core.recovery.first_phase(flight.request))
    outcome = await environment().run(core.own_steps.call_fallback, work)
    assert (outcome.status, core.providers.models, waited) == ("completed", ["a", first.provider_model], waits)


async def test_a_client_that_leaves_during_that_wait_ends_it() -> None:
    """Nobody waits for a provider on behalf of nobody."""
    core = Core()
    core.providers.will(A, [failure("rate_limited", retry_after_s=7.0)])
    flight = core.launched(request(plan(A, A)))
    await until(lambda: flight.key in core.workflows.handed_over)
    work = FallbackInput(flight.request, await core.recovery.first_phase(flight.request))
    running = asyncio.create_task(environment().run(core.own_steps.call_fallback, work))
    await until(lambda: flight.call is not None)
    core.controller.abandon(flight)
    assert (await running).status == "canceled"
    assert (core.providers.models, core.ledger.rows[flight.key].outcome.status) == (["a"], "canceled")


async def test_a_client_that_left_before_the_fallback_ends_it() -> None:
    """Nothing is called for nobody, and the request ends as canceled with what the first phase cost."""
    core = Core()
    flight, work = await failed(core, plan(A, B))
    core.controller.abandon(flight)
    outcome = await environment().run(core.own_steps.call_fallback, work)
    assert (outcome.status, core.providers.models) == ("canceled", ["a"])
    assert [attempt.seq for attempt in core.ledger.rows[flight.key].outcome.attempts] == [0]


@pytest.mark.parametrize("by", ["client", "temporal", "temporal, in a worker"])
async def test_a_cancellation_during_the_call(by: str) -> None:
    """By the client or by Temporal: the upstream call is closed, and one canceled row has its cost."""
    core, env = Core(), environment()
    flight, work = await failed(core, plan(A, B))
    core.providers.will(B, [*stream()[:2], asyncio.Event()])
    steps = worker(core) if by.endswith("worker") else core.own_steps
    running = asyncio.create_task(env.run(steps.call_fallback, work))
    await until(lambda: core.providers.models == ["a", "b"])
    await settle()
    if by == "client":
        core.controller.abandon(flight)
    else:
        env.cancel(ActivityCancellationDetails(cancel_requested=True))
    outcome = await running
    assert outcome.status == "canceled"
    assert core.providers.made[1].closed
    row = core.ledger.rows[flight.key].outcome
    assert (row.status, [attempt.seq for attempt in row.attempts]) == ("canceled", [0, 100])
    assert row.cost_usd


@pytest.mark.parametrize("where", ["gateway", "worker"])
async def test_a_shutdown_leaves_the_request_to_another_process(where: str) -> None:
    """A rolling restart cancels no request: the attempt is kept with its cost, uses up none of the request's, and the
    workflow goes on elsewhere."""
    core, env = Core(), environment()
    flight, work = await failed(core, plan(A, B, retry_attempts=1))
    core.providers.will(B, [*stream()[:2], asyncio.Event()], stream())
    steps = core.own_steps if where == "gateway" else worker(core)
    running = asyncio.create_task(env.run(steps.call_fallback, work))
    await until(lambda: core.providers.models == ["a", "b"])
    await settle()
    if where == "gateway":
        core.controller.release()
    else:
        env.worker_shutdown()
        env.cancel(ActivityCancellationDetails(worker_shutdown=True))
    with pytest.raises(ApplicationError) as caught:
        await running
    assert (caught.value.non_retryable, caught.value.type) == (True, WORKER_SHUTDOWN)
    assert core.ledger.rows == {}
    assert core.ledger.attempts[flight.key][100].cost_usd
    other = Core(like=core, instance="worker-2").provider_steps
    outcome = await environment().run(other.call_fallback, work)
    assert (outcome.status, [attempt.seq for attempt in outcome.attempts]) == ("completed", [0, 100, 101])


@pytest.mark.parametrize("shutdown", [True, False])
async def test_a_shutdown_before_the_call_uses_up_no_attempt(shutdown: bool) -> None:
    """The worker was still reading the request. A cancellation by the client is one, though."""
    core, env = Core(), environment()
    _, work = await failed(core, plan(A, B))
    core.ledger.body_gate.clear()
    reading = replace(work, request=replace(work.request, body=None))
    running = asyncio.create_task(env.run(worker(core).call_fallback, reading))
    await settle()
    if shutdown:
        env.worker_shutdown()
    env.cancel(ActivityCancellationDetails(worker_shutdown=shutdown, cancel_requested=not shutdown))
    if not shutdown:
        with pytest.raises(asyncio.CancelledError):
            await running
        return
    with pytest.raises(ApplicationError) as caught:
        await running
    assert (caught.value.non_retryable, caught.value.type) == (True, WORKER_SHUTDOWN)
    assert core.providers.models == ["a"]


async def test_two_tasks_of_one_worker_make_one_call() -> None:
    """Temporal, having missed a heartbeat, hands the attempt out again to the process that is making it: its claim is
    its own, and yet there is one call."""
    core, gate = Core(), asyncio.Event()
    _, work = await failed(core, plan(A, B))
    core.providers.will(B, [gate, *stream()])
    steps = worker(core)
    running = [asyncio.create_task(environment().run(steps.call_fallback, work)) for _ in range(2)]
    await until(lambda: core.providers.models == ["a", "b"])
    await settle()
    gate.set()
    assert [outcome.status for outcome in await asyncio.gather(*running)] == ["completed", "completed"]
    assert core.providers.models == ["a", "b"]


async def test_an_answer_that_a_worker_cannot_commit_is_not_called_for_again() -> None:
    """Postgres went away during the call: Temporal keeps the outcome, and the last step commits it."""
    core, gate = Core(), asyncio.Event()
    flight, work = await failed(core, plan(A, B))
    core.providers.will(B, [gate, *stream()])
    running = asyncio.create_task(environment().run(worker(core).call_fallback, work))
    await until(lambda: core.providers.models == ["a", "b"])
    core.ledger.down = True
    gate.set()
    outcome = await running
    assert (outcome.status, core.ledger.rows) == ("completed", {})
    core.ledger.down = False
    await core.performance.store_performance(StoreInput(flight.request, outcome))
    assert core.ledger.rows[flight.key].outcome == replace(outcome, can_fall_back=False)


async def test_a_cancellation_while_a_worker_commits_loses_no_cost() -> None:
    """The row is committed without the one who waited for it."""
    core, env = Core(), environment()
    flight, work = await failed(core, plan(A, B))
    core.ledger.gate.clear()
    running = asyncio.create_task(env.run(worker(core).call_fallback, work))
    await core.ledger.recording.wait()
    env.cancel(ActivityCancellationDetails(cancel_requested=True))
    with pytest.raises(asyncio.CancelledError):
        await running
    core.ledger.gate.set()
    await until(lambda: flight.key in core.ledger.rows)
    assert core.ledger.rows[flight.key].outcome.status == "completed"


@pytest.mark.parametrize(("gone_s", "calls"), [(29.0, 2), (31.0, 1)])
async def test_the_time_that_is_left_is_measured_by_one_clock(gone_s: float, calls: int) -> None:
    """Temporal's, from the failure to the attempt: that of the worker's host may be years away."""
    core = Core()
    _, work = await failed(core, plan(A, B))
    work = replace(work, began_at=NOW - 1e9)
    env = environment(started_time=datetime.fromtimestamp(NOW - 1e9 + gone_s, UTC))
    outcome = await env.run(worker(core).call_fallback, work)
    assert len(core.providers.made) == calls
    assert outcome.status == ("completed" if calls == 2 else "failed")


async def test_a_gateway_measures_by_its_own_clock() -> None:
    """It knows since when the client waits."""
    core = Core()
    flight, work = await failed(core, plan(A, B))
    flight.received_at -= 31.0
    outcome = await environment().run(core.own_steps.call_fallback, work)
    assert (outcome.status, outcome.error_code, core.providers.models) == ("failed", "overloaded", ["a"])


async def test_a_request_that_is_not_in_flight_any_more_is_no_answer_of_the_gateway() -> None:
    """It went between two looks: the attempt is made once more, in the ledger's name."""
    core = Core()
    with pytest.raises(DependencyUnavailable):
        await core.controller.fall_back(FallbackInput(request(plan(A, B)), Outcome("failed", "sim/a", "simulator")))


async def test_heartbeats_tell_that_the_worker_lives() -> None:
    """A long call is not taken for a dead worker."""
    core, env, gate, beats = Core(), environment(), asyncio.Event(), []
    env.on_heartbeat = lambda *details: beats.append(details)
    _, work = await failed(core, plan(A, B))
    core.providers.will(B, [gate, *stream()])
    running = asyncio.create_task(env.run(core.own_steps.call_fallback, work))
    await until(lambda: len(beats) >= 5)
    gate.set()
    assert (await running).status == "completed"
