"""Taking over: in-flight entry, then ledger, then the living owner, and only then a call of our own."""

import asyncio
import time
from dataclasses import replace

from activities.requests.recording import INLINE_LIMIT_BYTES
from activities.requests.recovery import LOST_AFTER_S
from modelpilot.requests.outcome import Attempt, Outcome
from modelpilot.requests.route_request import RouteRequestInput, StepInput
from tests.support.core import A, B, Core
from tests.support.processes import until
from tests.support.routing_samples import chat_body, plan, request, stream


def orphaned(**changes: object) -> RouteRequestInput:
    """A request that gw-1 accepted just now."""
    return replace(request(plan(A), created_at=time.time()), **changes)  # type: ignore[arg-type]


def second(first: Core, *, first_alive: bool = False) -> Core:
    """Another gateway of the same installation, the first one dead unless said otherwise."""
    other = Core(like=first, instance="gw-2")
    if not first_alive:
        first.leases.alive.discard("gw-1")
    return other


async def test_the_entry_of_this_process_comes_first() -> None:
    """A redelivered task joins the running call; nobody else is asked."""
    core = Core()
    flight = core.flight(orphaned())
    core.controller.launch(flight)
    core.ledger.down = core.leases.down = True
    outcome = await core.recovery.resume(replace(flight.request, nonce="another"))
    assert outcome.status == "completed"
    assert len(core.providers.made) == 1
    assert core.leases.asked == []


async def test_then_the_ledger() -> None:
    """What was recorded is never called again, although its owner is dead."""
    core = Core()
    flight = core.flight(orphaned())
    core.controller.launch(flight)
    await flight.recorded
    other = second(core)
    outcome = await other.recovery.resume(flight.request)
    assert outcome.status == "completed"
    assert len(core.providers.made) == 1
    assert other.leases.asked == []


async def test_recorded_attempts_mean_that_the_first_phase_is_over() -> None:
    """The owner died before the fallback: the recovery goes on with the fallback, not with the failed model."""
    core = Core()
    accepted = orphaned(plan=plan(A, B))
    failed = Attempt(0, "sim/a", "simulator", "error", "server_error", 500)
    await core.ledger.record_attempts(accepted.key, [failed])
    outcome = await second(core).recovery.resume(accepted)
    assert (outcome.status, outcome.attempts, outcome.error_code) == ("failed", (failed,), "server_error")
    assert accepted.may_fall_back(outcome)
    assert core.providers.made == []


async def test_a_living_owner_is_waited_for() -> None:
    """No second call while the first may still be running; its outcome is taken when it is recorded."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    flight = core.flight(orphaned())
    core.controller.launch(flight)
    await core.providers.called.wait()
    other = second(core, first_alive=True)
    resuming = asyncio.create_task(other.recovery.resume(flight.request))
    await until(lambda: len(other.leases.asked) > 5)
    assert not resuming.done()
    assert len(core.providers.made) == 1
    gate.set()
    assert (await resuming).status == "completed"
    assert len(core.providers.made) == 1


async def test_a_dead_owner_is_taken_over_with_exactly_one_call() -> None:
    """As soon as its lease is dead, however many tasks and gateways ask."""
    core = Core()
    accepted = orphaned()
    second_gateway = second(core)
    third = Core(like=core, instance="gw-3")
    gateways = [second_gateway, third, second_gateway, third, second_gateway]
    outcomes = await asyncio.gather(*(gateway.recovery.resume(accepted) for gateway in gateways))
    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert len(core.providers.made) == 1
    await until(lambda: accepted.key in core.ledger.rows)
    assert core.ledger.rows[accepted.key].degraded == ("recovered",)


async def test_an_owner_that_dies_while_it_is_waited_for_is_taken_over() -> None:
    """The wait ends when the lease does."""
    core = Core()
    other = second(core, first_alive=True)
    resuming = asyncio.create_task(other.recovery.resume(orphaned()))
    await until(lambda: len(other.leases.asked) > 2)
    core.leases.alive.discard("gw-1")
    assert (await resuming).status == "completed"
    assert len(core.providers.made) == 1


async def test_two_tasks_of_one_process_make_one_call() -> None:
    """Temporal may hand the same task out twice to the process that is taking over (its body comes from Postgres)."""
    core = Core()
    accepted = orphaned(body=None)
    core.ledger.bodies[accepted.key] = b'{"messages": [{"role": "user", "content": "from Postgres"}]}'
    other = second(core)
    core.ledger.body_gate.clear()
    resuming = [asyncio.create_task(other.recovery.resume(accepted)) for _ in range(2)]
    await until(lambda: bool(core.leases.claims))
    for _ in range(50):
        await asyncio.sleep(0)
    core.ledger.body_gate.set()
    assert {outcome.status for outcome in await asyncio.gather(*resuming)} == {"completed"}
    assert len(core.providers.made) == 1
    assert core.providers.made[0].call.body["messages"][0]["content"] == "from Postgres"


async def test_without_postgres_nothing_is_called() -> None:
    """Nobody knows what was spent, so nothing is; the recovery goes on when it is back."""
    core = Core()
    other = second(core)
    core.ledger.down = True
    resuming = asyncio.create_task(other.recovery.resume(orphaned()))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not resuming.done()
    assert core.providers.made == []
    core.ledger.down = False
    assert (await resuming).status == "completed"


async def test_a_restarted_process_takes_its_own_request_back() -> None:
    """The owner is this very instance, but the entry is gone (backstop age): nobody else will do it."""
    core = Core()
    assert (await core.recovery.resume(orphaned())).status == "completed"
    assert len(core.providers.made) == 1


async def test_an_owner_that_lives_but_never_says_how_it_ended_is_given_up() -> None:
    """Total time plus thirty seconds later the request fails instead of waiting for ever, and nothing is called."""
    core = Core()
    old = orphaned(created_at=time.time() - 30.0 - LOST_AFTER_S - 1.0)
    outcome = await second(core, first_alive=True).recovery.resume(old)
    assert (outcome.status, outcome.error_code, core.providers.made) == ("failed", "timeout_total", [])


async def test_a_recovery_decides_nothing_anew() -> None:
    """The model of the input is called although the router would choose another one today, with all its time."""
    core = Core()
    accepted = orphaned(plan=plan(B))
    other = second(core)
    outcome = await other.recovery.resume(accepted)
    assert (outcome.model, core.providers.models) == ("sim/b", ["b"])
    assert core.embedder.texts == []
    assert outcome.remaining_ms > 25_000


async def test_a_request_whose_body_has_expired_fails_without_a_call() -> None:
    """An answer to an empty prompt would be paid for, and recorded as if it were this request's."""
    core = Core()
    outcome = await second(core).recovery.resume(orphaned(body=None, plan=plan(A, B)))
    assert (outcome.status, outcome.error_code, outcome.can_fall_back) == ("failed", "request_expired", False)
    assert (outcome.cost_usd, core.providers.made) == (0.0, [])


async def test_a_large_body_is_read_back_and_stored_with_its_point() -> None:
    """The recovered request is recorded like any other: row, request type, point."""
    core = Core()
    text = "Translate this: " + "x" * INLINE_LIMIT_BYTES
    accepted = orphaned(body=None)
    core.ledger.bodies[accepted.key] = str(chat_body(text)).replace("'", '"').encode()
    other = second(core)
    report = await other.provider_steps.call_provider(StepInput(accepted.nonce, accepted))
    assert report.outcome is not None
    await other.performance.store_performance(StepInput(accepted.nonce, accepted, report.outcome))
    assert core.ledger.rows[accepted.key].request_type == "translation"
    assert len(core.history.points) == 1
    assert text[:100] not in repr(report)


async def test_the_store_step_of_a_foreign_request_adopts_it() -> None:
    """The outcome that the workflow hands over is recorded by whoever runs the last step."""
    core = Core()
    accepted = orphaned()
    attempt = Attempt(0, "sim/a", "simulator", "ok", cost_usd=0.5)
    done = Outcome("completed", "sim/a", "simulator", (attempt,), {}, finish_reason="stop", cost_usd=0.5)
    other = second(core)
    await other.performance.store_performance(StepInput(accepted.nonce, accepted, done))
    assert core.ledger.rows[accepted.key].outcome == done
    assert core.providers.made == []
    assert other.registry.sweep([], asyncio.get_running_loop().time() + 3_600.0) == 1


async def test_adopting_a_recorded_request_changes_nothing() -> None:
    """The row that is there stands."""
    core = Core()
    flight = core.flight(orphaned())
    core.controller.launch(flight)
    await flight.recorded
    other = second(core)
    adopted = await other.recovery.adopt(flight.request, Outcome("failed", "sim/a", "simulator"))
    assert (await adopted.final).status == "completed"
    await other.performance.store_performance(StepInput("n1", flight.request, await adopted.final))
    assert core.ledger.rows[flight.key].outcome.status == "completed"
