"""Taking over: the ledger, then the living owner, and only then a call of our own; and what is recorded of it."""

import asyncio
import time
from dataclasses import replace

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.requests.recovery import record_lost
from activities.requests.steps import WORKER_SHUTDOWN, RoutingActivities
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.outcome import INLINE_LIMIT_BYTES, Attempt, Outcome, Remedy
from modelpilot.requests.route_request import RouteRequestInput, StepReport, StoreInput
from tests.support.core import COST_USD, KEYRING, A, B, Core, failure, settle
from tests.support.processes import until
from tests.support.routing_samples import chat_body, plan, request, stream

FAILED = Attempt(0, "sim/a", "simulator", "error", "server_error", 500, cost_usd=0.25)


def orphaned(**changes: object) -> RouteRequestInput:
    """A request that gw-1 accepted just now."""
    return replace(request(plan(A), created_at=time.time()), **changes)  # type: ignore[arg-type]


def worker(core: Core, *, owner_alive: bool = False, name: str = "worker-1") -> Core:
    """A worker of the same installation, the gateway dead unless said otherwise."""
    other = Core(like=core, instance=name)
    if not owner_alive:
        core.leases.alive.discard("gw-1")
    return other


async def test_what_was_recorded_is_never_called_again() -> None:
    """Although its owner is dead."""
    core = Core()
    flight = core.launched(orphaned())
    await flight.recorded
    other = worker(core)
    outcome = await other.recovery.first_phase(flight.request)
    assert (outcome.status, outcome.answer) == ("completed", (await flight.ended).outcome.answer)
    assert len(core.providers.made) == 1
    assert core.leases.asked == []


async def test_recorded_attempts_mean_that_the_first_phase_is_over() -> None:
    """The owner handed over, or died before the fallback: the workflow goes on with that, and not with the failed
    model."""
    core = Core()
    accepted = orphaned(plan=plan(A, B))
    later = replace(FAILED, seq=100, model="sim/b", error_type="overloaded")
    await core.ledger.record_attempts(accepted.key, [FAILED, later])
    outcome = await worker(core).recovery.first_phase(accepted)
    assert (outcome.status, outcome.attempts, outcome.error_code) == ("failed", (FAILED,), "server_error")
    assert (accepted.may_fall_back(outcome), outcome.remaining_ms) == (True, 30_000.0)
    assert core.providers.made == []


async def test_a_living_owner_is_waited_for() -> None:
    """No second call while the first may still be running; its outcome is taken when it is recorded."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    flight = core.launched(orphaned())
    await core.providers.called.wait()
    resuming = asyncio.create_task(worker(core, owner_alive=True).recovery.first_phase(flight.request))
    await until(lambda: len(core.leases.asked) > 5)
    assert (resuming.done(), len(core.providers.made)) == (False, 1)
    gate.set()
    assert (await resuming).status == "completed"
    assert len(core.providers.made) == 1


async def test_a_dead_owner_is_taken_over_with_exactly_one_call() -> None:
    """As soon as its lease is dead, however many processes ask; what came of it is recorded as recovered."""
    core = Core()
    accepted = orphaned()
    workers = [worker(core, name=f"worker-{number}").provider_steps for number in range(3)]
    steps = [each for each in workers for _ in range(2)]
    reports = await asyncio.gather(*(ActivityEnvironment().run(each.call_provider, accepted) for each in steps))
    assert {report.outcome.status for report in reports} == {"completed"}
    assert len(core.providers.made) == 1
    row = core.ledger.rows[accepted.key]
    assert row.degraded == ("recovered",)
    assert row.outcome.cost_usd == pytest.approx(COST_USD)


async def test_an_owner_that_dies_while_it_is_waited_for_is_taken_over() -> None:
    """The wait ends when the lease does; so it does for the owner's successor."""
    core = Core()
    core.leases.claims[orphaned().key, 0] = "worker-9"
    core.leases.alive.add("worker-9")
    resuming = asyncio.create_task(worker(core, owner_alive=True).recovery.first_phase(orphaned()))
    for dead in ("gw-1", "worker-9"):
        asked = len(core.leases.asked)
        await until(lambda seen=asked: len(core.leases.asked) > seen + 3)  # type: ignore[misc]
        assert (resuming.done(), core.providers.made) == (False, [])
        core.leases.alive.discard(dead)
    assert (await resuming).status == "completed"
    assert len(core.providers.made) == 1


async def test_two_tasks_of_one_process_make_one_call() -> None:
    """Temporal may hand the same task out twice to the process that is taking over (its body comes from Postgres)."""
    core = Core()
    accepted = orphaned(body=None)
    core.ledger.bodies[accepted.key] = b'{"messages": [{"role": "user", "content": "from Postgres"}]}'
    steps = worker(core).provider_steps
    core.ledger.body_gate.clear()
    resuming = [asyncio.create_task(ActivityEnvironment().run(steps.call_provider, accepted)) for _ in range(2)]
    await until(lambda: bool(core.leases.claims))
    await settle()
    core.ledger.body_gate.set()
    assert {report.outcome.status for report in await asyncio.gather(*resuming)} == {"completed"}
    assert len(core.providers.made) == 1
    assert core.providers.made[0].call.body["messages"][0]["content"] == "from Postgres"


@pytest.mark.parametrize("down", ["ledger", "leases"])
async def test_without_postgres_nothing_is_called(down: str) -> None:
    """Nobody knows what was spent, so nothing is; the recovery goes on when it is back."""
    core = Core()
    other = worker(core)
    store = getattr(core, down)
    store.down = True
    resuming = asyncio.create_task(other.recovery.first_phase(orphaned()))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert (resuming.done(), core.providers.made) == (False, [])
    store.down = False
    assert (await resuming).status == "completed"


async def test_a_recovery_decides_nothing_anew() -> None:
    """The model of the input is called although the router would choose another one today, with all its time."""
    core = Core()
    outcome = await worker(core).recovery.first_phase(orphaned(plan=plan(B), created_at=time.time() - 3_600.0))
    assert (outcome.model, core.providers.models) == ("sim/b", ["b"])
    assert core.embedder.texts == []
    assert outcome.remaining_ms > 25_000


async def test_a_recovery_claims_its_own_repeats() -> None:
    """Each call of the phase has its number, and nobody else makes it."""
    core = Core()
    core.sleep = _no_sleep
    core.providers.will(A, [failure("server_error", Remedy.RETRY_SAME, retry_after_s=0.0)], stream())
    accepted = orphaned(plan=plan(A, same_model_retries=1))
    outcome = await worker(core).recovery.first_phase(accepted)
    assert (outcome.status, [attempt.seq for attempt in outcome.attempts]) == ("completed", [0, 1])
    assert core.leases.asked == [(accepted.key, 0), (accepted.key, 1)]


async def _no_sleep(_: float) -> bool:
    return True


async def test_a_request_whose_body_has_expired_fails_without_a_call() -> None:
    """An answer to an empty prompt would be paid for, and recorded as if it were this request's."""
    core = Core()
    outcome = await worker(core).recovery.first_phase(orphaned(body=None, plan=plan(A, B)))
    assert (outcome.status, outcome.error_code, outcome.can_fall_back) == ("failed", "request_expired", False)
    assert (outcome.cost_usd, core.providers.made) == (0.0, [])


async def test_a_recovered_failure_that_may_fall_back_is_not_the_end() -> None:
    """Its attempts are committed, with the hand-over, before the workflow asks for the fallback."""
    core = Core()
    core.providers.will(A, [failure("overloaded")])
    accepted = orphaned(plan=plan(A, B))
    report = await ActivityEnvironment().run(worker(core).provider_steps.call_provider, accepted)
    assert (report.outcome.error_code, accepted.may_fall_back(report.outcome)) == ("overloaded", True)
    assert (core.ledger.handed_over, core.ledger.rows) == ({accepted.key}, {})
    assert set(core.ledger.attempts[accepted.key]) == {0}


async def test_an_outcome_that_cannot_be_committed_now_is_committed_by_the_last_step() -> None:
    """Postgres went away during the call: the workflow has the outcome, and nothing is called again."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    other, accepted = worker(core), orphaned()
    running = asyncio.create_task(ActivityEnvironment().run(other.provider_steps.call_provider, accepted))
    await core.providers.called.wait()
    core.ledger.down = True
    gate.set()
    outcome = (await running).outcome
    assert (outcome.status, core.ledger.rows) == ("completed", {})
    with pytest.raises(DependencyUnavailable):
        await other.performance.store_performance(StoreInput(accepted, outcome))
    core.ledger.down = False
    report = await other.performance.store_performance(StoreInput(accepted, outcome))
    row = core.ledger.rows[accepted.key]
    assert report == StepReport(detail={"row": True, "point": f"{row.prompt_hash}/sim/a"})
    assert row.outcome.answer == outcome.answer


async def test_a_worker_that_shuts_down_during_the_call_leaves_it_to_another() -> None:
    """Nothing is recorded, as after a crash; the workflow asks another worker."""
    core, env = Core(), ActivityEnvironment()
    core.providers.will(A, [*stream()[:2], asyncio.Event()], stream())
    accepted = orphaned()
    running = asyncio.create_task(env.run(worker(core).provider_steps.call_provider, accepted))
    await core.providers.called.wait()
    await settle()
    env.worker_shutdown()
    env.cancel(ActivityCancellationDetails(worker_shutdown=True))
    with pytest.raises(ApplicationError) as caught:
        await running
    assert caught.value.type == WORKER_SHUTDOWN
    assert (core.ledger.rows, core.ledger.attempts[accepted.key]) == ({}, {})
    core.leases.alive.discard("worker-1")
    other = worker(core, name="worker-2")
    report = await ActivityEnvironment().run(other.provider_steps.call_provider, accepted)
    assert report.outcome.status == "completed"


async def test_a_worker_that_shuts_down_while_it_waits_for_a_living_owner_ends_nothing() -> None:
    """The request is its owner's, and the wait another worker's."""
    core, env = Core(), ActivityEnvironment()
    steps = worker(core, owner_alive=True).provider_steps
    running = asyncio.create_task(env.run(steps.call_provider, orphaned()))
    await until(lambda: len(core.leases.asked) > 3)
    env.worker_shutdown()
    env.cancel(ActivityCancellationDetails(worker_shutdown=True))
    with pytest.raises(ApplicationError) as caught:
        await running
    assert (caught.value.type, core.ledger.rows) == (WORKER_SHUTDOWN, {})


async def test_a_large_body_is_read_back_and_stored_with_its_point() -> None:
    """The recovered request is recorded like any other: row, request type, point."""
    core = Core()
    text = "Translate this: " + "x" * INLINE_LIMIT_BYTES
    accepted = orphaned(body=None)
    core.ledger.bodies[accepted.key] = str(chat_body(text)).replace("'", '"').encode()
    report = await ActivityEnvironment().run(worker(core).provider_steps.call_provider, accepted)
    assert core.ledger.rows[accepted.key].request_type == "translation"
    assert len(core.ledger.points) == 1
    assert text[:100] not in repr(report)


async def test_a_large_answer_stays_out_of_temporal() -> None:
    """The history gets a reference, the ledger the answer."""
    core = Core()
    core.providers.will(A, stream("word " * 40_000))
    accepted = orphaned()
    report = await ActivityEnvironment().run(worker(core).provider_steps.call_provider, accepted)
    assert (report.outcome.answer, report.outcome.answer_stored) == (None, True)
    assert core.ledger.rows[accepted.key].outcome.answer is not None
    assert len(repr(report)) < 2_000


async def test_the_last_step_records_what_the_workflow_came_to() -> None:
    """With the cost of attempts that the workflow knows nothing of; nothing is called."""
    core = Core()
    accepted = orphaned(plan=plan(A, B), decision={**orphaned().decision, "degraded": ["vector"]})
    await core.ledger.record_attempts(accepted.key, [FAILED])
    answered = Attempt(101, "sim/b", "simulator", "ok", cost_usd=0.5)
    done = Outcome("completed", "sim/b", "simulator", (answered,), {}, finish_reason="stop", cost_usd=0.5)
    await worker(core).performance.store_performance(StoreInput(accepted, done))
    row = core.ledger.rows[accepted.key]
    assert (row.outcome.attempts, row.outcome.cost_usd) == ((FAILED, answered), 0.75)
    assert (row.degraded, row.fallback_used) == (("vector", "recovered"), True)
    assert core.providers.made == []


async def test_a_row_that_is_there_stands() -> None:
    """Whatever a workflow thinks later."""
    core = Core()
    flight = core.launched(orphaned())
    await flight.recorded
    later = StoreInput(flight.request, Outcome("failed", "sim/a", "simulator", error_code="internal_error"))
    report = await worker(core).performance.store_performance(later)
    assert report.detail["point"] == core.ledger.points[0].point_id
    assert (core.ledger.rows[flight.key].outcome.status, len(core.ledger.written)) == ("completed", 1)


async def test_an_embedder_away_loses_the_point_only() -> None:
    """The row is committed all the same."""
    core, accepted = Core(), orphaned()
    other = worker(core)
    other.embedder.down = True
    await ActivityEnvironment().run(other.provider_steps.call_provider, accepted)
    assert (core.ledger.rows[accepted.key].outcome.status, core.ledger.points) == ("completed", [])


@pytest.mark.parametrize("body", [True, False])
async def test_a_request_that_ended_nowhere_gets_a_failed_row(body: bool) -> None:
    """Its workflow was terminated by hand: what it had cost until then is in the row."""
    core = Core()
    accepted = orphaned() if body else orphaned(body=None)
    await core.ledger.record_attempts(accepted.key, [FAILED])
    await record_lost(core.ledger, KEYRING.mac, accepted)
    row = core.ledger.rows[accepted.key]
    assert (row.outcome.status, row.outcome.error_code, row.degraded) == ("failed", "internal_error", ("recovered",))
    assert (row.outcome.attempts, row.outcome.cost_usd) == ((FAILED,), 0.25)
    core.ledger.down = True
    with pytest.raises(DependencyUnavailable):
        await record_lost(core.ledger, KEYRING.mac, accepted)


async def test_the_first_steps_report_how_the_decision_was_made() -> None:
    """It is part of the request: nothing is computed again; what was never reported is empty."""
    core = Core()
    submission = await core.submit()
    assert submission.flight is not None
    accepted, steps = submission.flight.request, RoutingActivities()
    reports = {step.__name__: await step(accepted) for step in (steps.load_router, steps.embed_prompt)}
    reports |= {step.__name__: await step(accepted) for step in (steps.query_history, steps.score_models)}
    assert reports == accepted.steps
    assert reports["score_models"].detail["selected"] == "sim/a"
    assert await steps.score_models(orphaned()) == StepReport()
