"""The fallback activity by itself: what ends it, what makes Temporal try again, and with which wait."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.requests.flight import Flight
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.retries import FALLBACK_SEQ
from modelpilot.requests.outcome import Attempt, Remedy
from modelpilot.requests.route_request import CallPlan, FallbackInput
from tests.support.core import A, B, C, Core, failure
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream


def environment(attempt: int = 1) -> ActivityEnvironment:
    """Temporal's test environment at a given attempt (1-based)."""
    env = ActivityEnvironment()
    env.info = replace(env.info, attempt=attempt, scheduled_time=datetime.now(UTC))
    return env


async def failed(core: Core, call_plan: CallPlan) -> tuple[Flight, FallbackInput]:
    """A flight whose first phase has failed."""
    core.providers.will(A, [failure()])
    flight = core.flight(request(call_plan))
    core.controller.launch(flight)
    return flight, FallbackInput(flight.request, await flight.first)


@pytest.mark.parametrize(("attempt", "model"), [(1, "b"), (2, "c"), (3, "b")])
async def test_the_model_follows_from_the_attempt(attempt: int, model: str) -> None:
    """Attempt i (0-based) uses model i mod n, in whichever process it runs."""
    core = Core()
    _, work = await failed(core, plan(A, B, C))
    outcome = await environment(attempt).run(core.provider_steps.call_fallback, work)
    assert (outcome.status, core.providers.models) == ("completed", ["a", model])
    assert outcome.attempts[-1].seq == 100 + attempt - 1


@pytest.mark.parametrize(
    ("call_plan", "wait_s", "delay"),
    [
        (plan(A, B), None, None),
        (plan(A, B), 7.0, timedelta(seconds=7)),
        (replace(plan(A, B), total_ms=120_000), 9_999.0, timedelta(seconds=60)),
        (plan(A, B, C), 7.0, None),
    ],
)
async def test_a_failed_attempt_makes_temporal_try_again(
    call_plan: CallPlan, wait_s: float | None, delay: timedelta | None
) -> None:
    """Retryable; Retry-After (at most 60 s) is the wait where the next model is the same, else the policy's is."""
    core = Core()
    flight, work = await failed(core, call_plan)
    core.providers.will(B, [failure("rate_limited", retry_after_s=wait_s)])
    with pytest.raises(ApplicationError) as caught:
        await environment().run(core.provider_steps.call_fallback, work)
    assert (caught.value.non_retryable, caught.value.next_retry_delay) == (False, delay)
    assert (caught.value.type, caught.value.category) == ("rate_limited", ApplicationErrorCategory.BENIGN)
    assert "the provider says" not in caught.value.message
    assert set(core.ledger.attempts[flight.key]) == {0, 100}
    assert not flight.final.done()


async def test_a_model_that_was_passed_over_shifts_no_turn() -> None:
    """At attempt 0 the first fallback could not be called, and the second one failed: what follows is the first one's
    turn, and not the second one's again."""
    core = Core()
    flight, work = await failed(core, plan(A, B, C))
    passed = Attempt(seq=FALLBACK_SEQ, model=C.id, provider=C.provider, status="error", error_type="http_503")
    await core.ledger.record_attempts(flight.key, [passed])
    outcome = await environment(2).run(core.provider_steps.call_fallback, work)
    assert (outcome.status, core.providers.models) == ("completed", ["a", "b"])
    assert [attempt.seq for attempt in outcome.attempts] == [0, 100, 101]


@pytest.mark.parametrize(("attempt", "total_ms", "asked_s"), [(2, 1_900, None), (1, 900, None), (1, 60_000, 60.0)])
async def test_a_wait_that_does_not_fit_ends_the_request_at_once(
    attempt: int, total_ms: int, asked_s: float | None
) -> None:
    """The total time bounds the waits as well: the client hears the provider's error now, not a timeout later."""
    core = Core()
    flight, work = await failed(core, replace(plan(A, B), total_ms=total_ms, retry_attempts=9))
    core.providers.will(B, [failure("rate_limited", retry_after_s=asked_s)])
    outcome = await environment(attempt).run(core.provider_steps.call_fallback, work)
    assert (outcome.status, outcome.error_code) == ("failed", "rate_limited")
    assert core.ledger.rows[flight.key].outcome == outcome


@pytest.mark.parametrize(("attempt", "remedy"), [(3, Remedy.FALL_BACK), (1, Remedy.GIVE_UP)])
async def test_the_last_failure_is_an_outcome(attempt: int, remedy: Remedy) -> None:
    """Attempts used up, or nothing that a retry mends: the failed outcome, committed."""
    core = Core()
    flight, work = await failed(core, plan(A, B))
    core.providers.will(B, [failure("content_filter", remedy)])
    outcome = await environment(attempt).run(core.provider_steps.call_fallback, work)
    assert (outcome.status, outcome.error_code) == ("failed", "content_filter")
    assert core.ledger.rows[flight.key].outcome == outcome


async def test_a_retried_task_of_a_finished_fallback_calls_nothing() -> None:
    """The result was lost on its way to Temporal: the outcome is given again."""
    core = Core()
    _, work = await failed(core, plan(A, B))
    first = await environment().run(core.provider_steps.call_fallback, work)
    again = await environment(2).run(core.provider_steps.call_fallback, work)
    assert again == first
    other = Core(like=core, instance="gw-2")
    assert (await environment(2).run(other.provider_steps.call_fallback, work)).status == "completed"
    assert core.providers.models == ["a", "b"]


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
    flight = core.flight(request(plan(A, first)))
    core.controller.launch(flight)
    work = FallbackInput(flight.request, await flight.first)
    outcome = await environment().run(core.provider_steps.call_fallback, work)
    assert (outcome.status, core.providers.models, waited) == ("completed", ["a", first.provider_model], waits)


async def test_a_client_that_leaves_during_that_wait_ends_it() -> None:
    """Nobody waits for a provider on behalf of nobody."""
    core = Core()
    core.providers.will(A, [failure("rate_limited", retry_after_s=7.0)])
    flight = core.flight(request(plan(A, A)))
    core.controller.launch(flight)
    work = FallbackInput(flight.request, await flight.first)
    running = asyncio.create_task(environment().run(core.provider_steps.call_fallback, work))
    await until(lambda: flight.calling)
    core.controller.abandon(flight)
    assert (await running).status == "canceled"
    assert core.providers.models == ["a"]


async def test_a_client_that_left_before_the_fallback_ends_it() -> None:
    """Nothing is called for nobody, and the request ends as canceled with what the first phase cost."""
    core = Core()
    flight, work = await failed(core, plan(A, B))
    core.controller.abandon(flight)
    outcome = await environment().run(core.provider_steps.call_fallback, work)
    assert (outcome.status, core.providers.models) == ("canceled", ["a"])
    assert [attempt.seq for attempt in core.ledger.rows[flight.key].outcome.attempts] == [0]


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_cancellation_during_the_call(by_client: bool) -> None:
    """By the client or by Temporal: the upstream call is closed, and one canceled row has its cost."""
    core, env = Core(), environment()
    flight, work = await failed(core, plan(A, B))
    core.providers.will(B, [*stream()[:2], asyncio.Event()])
    running = asyncio.create_task(env.run(core.provider_steps.call_fallback, work))
    await until(lambda: core.providers.models == ["a", "b"])
    if by_client:
        core.controller.abandon(flight)
    else:
        env.cancel(ActivityCancellationDetails(cancel_requested=True))
    outcome = await running
    assert outcome.status == "canceled"
    assert core.providers.made[1].closed
    assert core.ledger.rows[flight.key].outcome.cost_usd


async def test_a_worker_that_shuts_down_leaves_the_request_to_another() -> None:
    """A rolling restart cancels no request: the attempt is kept with its cost, and Temporal tries elsewhere."""
    core, env = Core(), environment()
    flight, work = await failed(core, plan(A, B))
    core.providers.will(B, [*stream()[:2], asyncio.Event()], stream())
    running = asyncio.create_task(env.run(core.provider_steps.call_fallback, work))
    await until(lambda: core.providers.models == ["a", "b"])
    env.cancel(ActivityCancellationDetails(worker_shutdown=True))
    with pytest.raises(ApplicationError) as caught:
        await running
    assert not caught.value.non_retryable
    assert core.ledger.rows == {}
    assert core.ledger.attempts[flight.key][100].cost_usd
    other = Core(like=core, instance="gw-2")
    outcome = await environment(2).run(other.provider_steps.call_fallback, work)
    assert (outcome.status, [attempt.seq for attempt in outcome.attempts]) == ("completed", [0, 100, 101])


async def test_heartbeats_tell_that_the_worker_lives() -> None:
    """A long call is not taken for a dead worker."""
    core, env, gate, beats = Core(), environment(), asyncio.Event(), []
    env.on_heartbeat = lambda *details: beats.append(details)
    _, work = await failed(core, plan(A, B))
    core.providers.will(B, [gate, *stream()])
    running = asyncio.create_task(env.run(core.provider_steps.call_fallback, work))
    await until(lambda: len(beats) >= 5)
    gate.set()
    assert (await running).status == "completed"
