"""Housekeeping on a real Temporal server: every step is tried, and the schedule is kept as this version wants it."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from temporalio.client import Client, ScheduleHandle, ScheduleOverlapPolicy, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.jobs.housekeeping import MaintenanceActivities
from infra.crypto.keyring import Keyring, generate_key
from infra.temporal.codec import data_converter
from infra.temporal.workers import wait_until_polling
from modelpilot import names
from modelpilot.errors import DependencyUnavailable, InvalidRequest
from modelpilot.requests.erasure import Forgotten, PointTotals
from modelpilot.requests.housekeeping import BatchLimit, BatchReport, HousekeepingInput, HousekeepingResult
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, Vector
from tests.support.refit import FakeLearners
from tests.support.world import eventually
from workflows import schedules
from workflows.housekeeping import HousekeepingWorkflow


@dataclass
class Deleted:
    total: int


@dataclass
class FakeStores:
    """Rows to sweep, points that wait, and a vector store that may be away or refuse a point."""

    expired: int = 0
    waiting: list[HistoryPoint] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    refused: str = ""
    away: bool = False
    flushes: int = 0

    async def sweep(self, batch: int) -> Deleted:
        gone = min(batch, self.expired)
        self.expired -= gone
        return Deleted(gone)

    async def replay(
        self,
        replay: Callable[[Sequence[HistoryPoint]], Awaitable[None]],
        forget: Callable[[Forgotten], Awaitable[None]],
        rebuild: Callable[[HistoryScope, Sequence[PointTotals]], Awaitable[None]],
        limit: int,
    ) -> int:
        batch = self.waiting[:limit]
        await replay(batch)
        del self.waiting[:limit]
        return len(batch)

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        return Neighbours.empty()

    async def store(self, point: HistoryPoint) -> None:
        if self.away:
            raise DependencyUnavailable("the vector store is away")
        if point.request_id == self.refused:
            raise InvalidRequest("a history point must have finite numbers only")
        self.stored.append(point.request_id)

    async def forget(self, which: Forgotten) -> None:
        self.stored.clear()

    async def rebuild(self, scope: HistoryScope, totals: Sequence[PointTotals]) -> None:
        self.stored.clear()

    async def flush(self) -> None:
        if self.away:
            raise DependencyUnavailable("the vector store is away")
        self.flushes += 1


def point(number: int) -> HistoryPoint:
    scope, embedding = HistoryScope("alice", "support"), np.ones(2, np.float32)
    name = f"r{number}"
    return HistoryPoint(name, scope, "sim/small", name, embedding, 1.0, None, None, None, 1, 1, "chat", 0.0)


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=data_converter(Keyring([generate_key()])))


async def run(client: Client, stores: FakeStores, work: HousekeepingInput) -> HousekeepingResult:
    queue = f"housekeeping-{secrets.token_hex(4)}"
    steps = MaintenanceActivities(stores, stores, stores, FakeLearners())
    activities: list[Callable[..., Any]] = [steps.purge_expired, steps.replay_outbox, steps.flush_vectors]
    async with Worker(client, task_queue=queue, workflows=[HousekeepingWorkflow], activities=activities):
        result: HousekeepingResult = await client.execute_workflow(
            names.HOUSEKEEPING_WORKFLOW,
            work,
            id=queue,
            task_queue=queue,
            result_type=HousekeepingResult,
            execution_timeout=timedelta(seconds=30),
        )
    return result


async def test_everything_due_is_done_in_batches(client: Client) -> None:
    """One run empties what has collected, in more than one batch."""
    stores = FakeStores(expired=25, waiting=[point(number) for number in range(5)])
    result = await run(client, stores, HousekeepingInput(purge=BatchLimit(10, 20), replay=BatchLimit(2, 20)))
    assert (result.purged, result.replayed) == (BatchReport(25), BatchReport(5))
    assert (stores.expired, stores.waiting, stores.flushes) == (0, [], 1)


async def test_a_run_is_bounded(client: Client) -> None:
    """A million rows to delete do not keep the worker from its other work: the next run goes on."""
    stores = FakeStores(expired=1_000)
    result = await run(client, stores, HousekeepingInput(purge=BatchLimit(10, 3)))
    assert result.purged == BatchReport(30, more=True)


async def test_a_step_that_fails_keeps_no_other_from_running(client: Client) -> None:
    """While Milvus is away rows are still purged, its points wait on, and the failed run says which steps failed."""
    stores = FakeStores(expired=5, waiting=[point(1)], away=True)
    with pytest.raises(WorkflowFailureError) as failed:
        await run(client, stores, HousekeepingInput())
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("HousekeepingIncomplete", "failed: replay_outbox, flush_vectors")
    assert (stores.expired, len(stores.waiting)) == (0, 1)


async def test_a_point_that_is_never_accepted_blocks_no_other(client: Client) -> None:
    """One broken row in the outbox is dropped (and logged), not tried for ever in front of all others."""
    stores = FakeStores(waiting=[point(1), point(2), point(3)], refused="r2")
    assert (await run(client, stores, HousekeepingInput())).replayed == BatchReport(3)
    assert stores.stored == ["r1", "r3"]


async def test_the_schedule_is_created_then_updated(client: Client) -> None:
    """A new version's schedule replaces the old one's; somebody's pause outlives both. Never two runs at once."""
    wanted = schedules.housekeeping()
    handle = client.get_schedule_handle(wanted.id)
    try:
        await schedules.ensure(client, wanted)
        await handle.pause(note="looking into it")
        changed = schedules.housekeeping()
        changed.schedule.spec.intervals[0].every = timedelta(minutes=5)
        await schedules.ensure(client, changed)
        found = (await handle.describe()).schedule
        assert found.spec.intervals[0].every == timedelta(minutes=5)
        assert found.state.paused
        assert found.policy.overlap == ScheduleOverlapPolicy.SKIP
    finally:
        await handle.delete()


async def test_a_scheduled_run_starts_the_workflow_on_the_maintenance_queue(client: Client) -> None:
    """What the schedule starts, the maintenance worker runs: names, queue and input fit together."""
    stores, wanted = FakeStores(expired=3), schedules.housekeeping()
    steps = MaintenanceActivities(stores, stores, stores, FakeLearners())
    activities: list[Callable[..., Any]] = [steps.purge_expired, steps.replay_outbox, steps.flush_vectors]
    identity = f"worker-{secrets.token_hex(4)}"
    await schedules.ensure(client, wanted)
    handle = client.get_schedule_handle(wanted.id)
    try:
        async with Worker(
            client,
            task_queue=names.MAINTENANCE_QUEUE,
            workflows=[HousekeepingWorkflow],
            activities=activities,
            identity=identity,
        ):
            await wait_until_polling(client, names.MAINTENANCE_QUEUE, identity)
            await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
            actions = await eventually(lambda: _actions(handle), "the schedule started nothing")
            await client.get_workflow_handle(actions[0].action.workflow_id).result()
        assert stores.expired == 0
    finally:
        await handle.delete()


async def _actions(handle: ScheduleHandle) -> list[Any]:
    return list((await handle.describe()).info.recent_actions)
