"""Carrying a flight to its one terminal row."""

import asyncio
from dataclasses import replace

import pytest

from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.route_request import StepInput
from tests.support.core import COST_USD, A, B, Core, failure
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream

CANCELED = Outcome("canceled", "sim/a", "simulator", error_code="request_canceled")


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_an_answer_is_settled_and_recorded_once() -> None:
    """First and final outcome, record and row agree."""
    core = Core()
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    assert await flight.final is await flight.first
    await flight.recorded
    assert core.ledger.rows[flight.key] is flight.record
    assert flight.record is not None
    assert flight.record.outcome.cost_usd == pytest.approx(COST_USD)


async def test_a_failure_that_may_fall_back_is_not_the_end() -> None:
    """Its attempts are in the ledger before the fallback begins; the terminal row is not."""
    core = Core()
    core.providers.will(A, [failure()])
    flight = core.flight(request(plan(A, B)))
    core.controller.launch(flight)
    assert (await flight.first).status == "failed"
    assert not flight.final.done()
    assert core.ledger.rows == {}
    assert [attempt.seq for attempt in core.ledger.attempts[flight.key].values()] == [0]


async def test_a_failure_without_fallback_is_the_end() -> None:
    """No fallback models: the failed outcome is the request's."""
    core = Core()
    core.providers.will(A, [failure()])
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    assert (await flight.final).status == "failed"
    await flight.recorded


async def test_a_client_that_left_gets_no_fallback() -> None:
    """A failed first phase of an abandoned request ends as canceled."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, failure()])
    flight = core.flight(request(plan(A, B)))
    core.controller.launch(flight)
    await core.providers.called.wait()
    flight.abandoned = True  # a moment too late to cancel the call
    gate.set()
    assert (await flight.final).status == "canceled"


async def test_a_bug_in_the_first_phase_is_a_failed_outcome() -> None:
    """Nothing hangs on an exception that nobody expected."""
    core = Core()
    core.providers.will(A, [ZeroDivisionError("a bug")])
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    outcome = await flight.final
    assert (outcome.status, outcome.error_code) == ("failed", "internal_error")
    assert "a bug" not in (outcome.error_message or "")


async def test_a_careful_flight_calls_nothing_before_the_acknowledgement() -> None:
    """And answers only after the commit."""
    core = Core()
    flight = core.flight(request(plan(A)), commit_first=True)
    flight.acknowledged = asyncio.get_running_loop().create_future()
    core.ledger.gate.clear()
    core.controller.launch(flight)
    await settle()
    assert core.providers.made == []
    flight.acknowledge(started=True)
    await core.ledger.recording.wait()
    assert not flight.first.done()
    core.ledger.gate.set()
    await flight.final
    assert flight.key in core.ledger.rows


async def test_a_short_outage_of_postgres_is_waited_out() -> None:
    """The commit is tried again by itself, and with `commit_first` the answer waits for it."""
    core = Core()
    core.ledger.failures = 5
    flight = core.flight(request(plan(A)), commit_first=True)
    core.controller.launch(flight)
    assert (await flight.final).status == "completed"
    assert flight.recorded.done()


async def test_a_long_outage_leaves_the_row_to_the_workflow() -> None:
    """The answer goes out, the entry keeps the row, and the store step commits it when Postgres is back."""
    core = Core()
    core.ledger.down = True
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    assert flight.task is not None
    await flight.task
    assert flight.final.done()
    assert not flight.recorded.done()
    with pytest.raises(DependencyUnavailable):
        await core.performance.store_performance(StepInput("n1"))
    assert flight.stored_at is None
    core.ledger.down = False
    await core.performance.store_performance(StepInput("n1"))
    assert core.ledger.rows[flight.key] is flight.record


async def test_the_store_step_teaches_the_history_once_the_row_is_there() -> None:
    """Row, then point; the entry may go only after both."""
    core = Core()
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    report = await core.performance.store_performance(StepInput("n1"))
    assert report.detail["row"] is True
    (point,) = core.history.points
    assert report.detail["point"] == point.point_id
    assert point.request_id == "r1"
    assert flight.stored_at is not None


async def test_milvus_away_means_an_outbox_row() -> None:
    """Never a failed workflow, and nothing learnt is lost."""
    core = Core()
    core.history.down = True
    core.controller.launch(core.flight(request(plan(A))))
    report = await core.performance.store_performance(StepInput("n1"))
    assert report.detail["outbox"] is True
    assert len(core.ledger.outbox) == 1


async def test_an_embedder_away_loses_the_point_only() -> None:
    """The row is committed all the same."""
    core = Core()
    core.embedder.down = True
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    report = await core.performance.store_performance(StepInput("n1"))
    assert report.detail == {"row": True, "point": None, "outbox": False}
    assert flight.key in core.ledger.rows


async def test_a_store_step_without_an_entry_asks_for_the_request() -> None:
    """A worker that knows nothing of the request says so, instead of failing."""
    assert (await Core().performance.store_performance(StepInput("n1"))).missing


async def test_a_canceled_workflow_stops_the_call_and_records_its_cost() -> None:
    """The workflow's store step finds the provider call still running: it is ended, and what it cost is in the row."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    await core.providers.called.wait()
    await settle()
    await core.performance.store_performance(StepInput("n1", flight.request, CANCELED))
    assert core.providers.made[0].closed
    row = core.ledger.rows[flight.key]
    assert (row.outcome.status, len(row.outcome.attempts)) == ("canceled", 1)
    assert row.outcome.cost_usd
    assert (await flight.final).status == "canceled"


async def test_an_outcome_that_another_process_recorded_is_taken_from_the_ledger() -> None:
    """The fallback ended elsewhere: the store step here does not wait for it, and the row's whole answer counts."""
    core = Core()
    core.providers.will(A, [failure()])
    flight = core.flight(request(plan(A, B)))
    core.controller.launch(flight)
    failed = await flight.first
    other = Core(like=core, instance="gw-2")
    adopted = await other.recovery.adopt(flight.request, failed)
    answered = await other.caller.call(other.controller.context(adopted, 9_000.0), "sim/b", 100)
    await other.controller.conclude(adopted, answered)
    trimmed = replace(answered, answer=None, answer_stored=True)
    await core.performance.store_performance(StepInput("n1", flight.request, trimmed))
    assert (await flight.final).answer == answered.answer
    assert core.registry.sweep([], asyncio.get_running_loop().time() + 3_600.0) == 1


async def test_a_second_end_does_not_replace_the_first() -> None:
    """What was settled and recorded stands, whatever comes later."""
    core = Core()
    flight = core.flight(request(plan(A)))
    await core.controller.conclude(flight, CANCELED)
    core.controller.launch(flight)
    assert flight.task is not None
    await flight.task
    assert flight.record is not None
    assert flight.record.outcome.status == "canceled"
    assert core.ledger.rows[flight.key].outcome.status == "canceled"


async def test_steps_report_what_the_fast_path_did() -> None:
    """Joined where the entry is here, computed from the input where it is not, `missing` without either."""
    core = Core()
    submission = await core.submit()
    flight = submission.flight
    assert flight is not None
    joined = await core.routing.score_models(StepInput(flight.request.nonce))
    assert joined.detail == {"selected": "sim/a"}
    assert (await core.routing.load_router(StepInput(flight.request.nonce))).detail["version"] == 3
    assert (await core.routing.query_history(StepInput(flight.request.nonce))).detail["neighbours"] == 0
    assert (await core.routing.embed_prompt(StepInput(flight.request.nonce))).detail["embedder"] == "fake"
    other = Core(like=core, instance="gw-2").routing
    assert (await other.score_models(StepInput(flight.request.nonce))).missing
    report = await other.score_models(StepInput(flight.request.nonce, flight.request))
    assert (report.joined, report.detail["decided"]) == (False, "sim/a")


async def test_a_large_answer_is_joined_without_its_text() -> None:
    """Temporal gets a reference, the ledger the answer."""
    core = Core()
    core.providers.will(A, stream("word " * 40_000))
    flight = core.flight(request(plan(A)))
    core.controller.launch(flight)
    report = await core.provider_steps.call_provider(StepInput("n1"))
    assert report.outcome is not None
    assert (report.outcome.answer, report.outcome.answer_stored) == (None, True)
    await flight.recorded
    assert core.ledger.rows[flight.key].outcome.answer is not None
    assert len(repr(report)) < 2_000


async def test_no_entry_leaks() -> None:
    """Every mixture of answered, failed, abandoned and refused, twice: after the sweep the registry is empty."""
    core = Core()
    core.providers.will(A, *([failure()] if number % 3 == 0 else stream() for number in range(2 * 3 * 5 * 7)))
    for number in range(2 * 3 * 5 * 7):
        core.starter.refusal = DependencyUnavailable("away") if number % 5 == 0 else None
        submission = await core.submit()
        assert submission.flight is not None
        await submission.flight.acknowledged
        if number % 7 == 0:
            await core.submissions.abandon(submission)
        if number % 5 != 0:
            await core.performance.store_performance(StepInput(submission.flight.request.nonce))
    await until(lambda: core.registry.active == 0)
    await until(lambda: core.registry.unstored == 0)
    core.registry.sweep([], asyncio.get_running_loop().time() + 3_600.0)
    assert len(core.registry) == 0
    assert len(core.ledger.rows) <= 2 * 3 * 5 * 7
