"""The hourly aggregation on a real Temporal server: all that is due, in bounded steps, whatever fails on the way."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, ScheduleHandle, ScheduleOverlapPolicy, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, CancelledError

from infra.temporal.workers import wait_until_polling
from modelpilot import names
from modelpilot.metrics.aggregation import HOUR_S, AggregateInput, AggregateResult
from modelpilot.metrics.jobs import JobProgress
from tests.support.aggregation import FakeMetrics, hours, start, worker
from tests.support.saved_histories import connect
from tests.support.world import eventually
from workflows import aggregate_hourly, schedules


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await connect(temporal_address)


async def finished(client: Client, fakes: FakeMetrics, told: AggregateInput) -> AggregateResult:
    """Run to the end."""
    handle, queue = await start(client, told)
    async with worker(client, fakes, queue):
        return await handle.result()


async def test_everything_due_is_done(client: Client) -> None:
    """Missed hours are computed newest first, then files are written, then old rows go."""
    fakes = FakeMetrics(noted=hours(5), due_files=3, old_rows=12)
    result = await finished(client, fakes, AggregateInput(hours_per_step=2, purge_rows=5))
    assert result == AggregateResult(hours=5, requests=50, files=3, exported=30, purged=12)
    assert fakes.computed == [4 * HOUR_S, 3 * HOUR_S, 2 * HOUR_S, HOUR_S, 0]


async def test_a_long_backfill_continues_as_new(client: Client) -> None:
    """A year of missed hours is no year of history: the run goes on under the same id, newest hours first."""
    fakes = FakeMetrics(noted=hours(9), due_files=3, arriving=[{20 * HOUR_S}, {21 * HOUR_S, 8 * HOUR_S}])
    told = AggregateInput(hours_per_step=2, steps_per_run=2)
    handle, queue = await start(client, told)
    async with worker(client, fakes, queue):
        result = await handle.result()
        progress = await client.get_workflow_handle(queue).query(names.JOB_PROGRESS, result_type=JobProgress)
    assert (result.hours, result.files) == (12, 3)
    assert [hour // HOUR_S for hour in fakes.computed] == [20, 8, 7, 6, 5, 4, 21, 8, 3, 2, 1, 0]
    assert progress == JobProgress(12, 12)
    first = await client.get_workflow_handle(queue, run_id=handle.first_execution_run_id).fetch_history()
    assert first.events[-1].HasField("workflow_execution_continued_as_new_event_attributes")


async def test_an_hour_that_cannot_be_computed_blocks_no_other(client: Client) -> None:
    """Older hours, the export and retention go on; the failed run says which step was not complete."""
    fakes = FakeMetrics(noted=hours(4), poisoned=frozenset({3 * HOUR_S}), due_files=1, old_rows=1)
    with pytest.raises(WorkflowFailureError) as failed:
        await finished(client, fakes, AggregateInput(hours_per_step=1))
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("AggregationIncomplete", "failed: aggregate_hours")
    assert fakes.computed == [2 * HOUR_S, HOUR_S, 0]
    assert (fakes.noted, fakes.due_files, fakes.old_rows) == ({3 * HOUR_S}, 0, 0)


async def test_postgres_away_for_a_moment(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that finds no database is tried again, and done hours are not done twice."""
    monkeypatch.setitem(aggregate_hourly.STEP, "retry_policy", RetryPolicy(initial_interval=timedelta(milliseconds=10)))
    fakes = FakeMetrics(noted=hours(3), away=1)
    handle, queue = await start(client, AggregateInput())
    async with worker(client, fakes, queue, sandboxed=False):  # a sandbox has a copy of the module, unpatched
        assert (await handle.result()).hours == 3
    assert len(fakes.computed) == 3


async def test_progress_and_cancellation(client: Client) -> None:
    """A run says how far it is, and can be stopped within a computation."""
    fakes = FakeMetrics(noted=hours(3), hold=asyncio.Event(), heartbeat_s=0.02)
    handle, queue = await start(client, AggregateInput(hours_per_step=1))
    async with worker(client, fakes, queue):
        await eventually(lambda: _reached(handle, JobProgress(1, 3)), "no progress")
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as ended:
            await handle.result()
    assert isinstance(ended.value.cause, CancelledError)
    assert len(fakes.computed) == 1


async def _reached(handle: Any, wanted: JobProgress) -> bool:
    return bool(await handle.query(names.JOB_PROGRESS, result_type=JobProgress) == wanted)


async def test_the_schedule_starts_it(client: Client) -> None:
    """Names, queue and input fit together; runs never overlap, and a missed one is worth one interval of patience."""
    wanted, fakes = schedules.aggregation(), FakeMetrics(noted=hours(2))
    await schedules.ensure(client, wanted)
    handle = client.get_schedule_handle(wanted.id)
    try:
        found = (await handle.describe()).schedule
        assert found.policy.overlap == ScheduleOverlapPolicy.SKIP
        assert found.policy.catchup_window == schedules.AGGREGATE_CATCHUP
        async with worker(client, fakes, names.MAINTENANCE_QUEUE) as running:
            await wait_until_polling(client, names.MAINTENANCE_QUEUE, running.client.identity)
            before = await _started(handle)
            await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
            started = await eventually(lambda: _newly_started(handle, before), "the schedule started nothing")
            await client.get_workflow_handle(started).result()
        assert fakes.noted == set()
    finally:
        await handle.delete()


async def _started(handle: ScheduleHandle) -> list[str]:
    actions = (await handle.describe()).info.recent_actions
    return [str(each.action.workflow_id) for each in actions if hasattr(each.action, "workflow_id")]


async def _newly_started(handle: ScheduleHandle, before: list[str]) -> str | None:
    return next((each for each in await _started(handle) if each not in before), None)


def test_hours_are_cut_by_the_clock() -> None:
    """The schedule's runs lie a few minutes past the full hour, not on it, and every five minutes between."""
    (interval,) = schedules.aggregation().schedule.spec.intervals
    assert HOUR_S % interval.every.total_seconds() == 0
    assert interval.offset is not None
    assert 60 <= interval.offset.total_seconds() < interval.every.total_seconds()
