"""AggregateHourlyWorkflow on a real Temporal server, over fakes of what its activities need."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.jobs.aggregation import AggregationActivities
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.aggregation import HOUR_S, AggregateInput, AggregateResult, PlanReport
from workflows.aggregate_hourly import AggregateHourlyWorkflow

Handle = WorkflowHandle[AggregateHourlyWorkflow, AggregateResult]


@dataclass
class FakeMetrics:
    """Aggregator, exporter and retention in one. `noted` hours have ten requests each."""

    noted: set[int] = field(default_factory=set)
    due_files: int = 0
    old_rows: int = 0
    poisoned: frozenset[int] = frozenset()
    away: int = 0  # calls of `aggregate` that Postgres does not answer
    hold: asyncio.Event | None = None
    computed: list[int] = field(default_factory=list)
    arriving: list[set[int]] = field(default_factory=list)

    async def plan(self) -> PlanReport:
        """Note what has arrived since."""
        if self.arriving:
            self.noted |= self.arriving.pop(0)
        return PlanReport(len(self.noted))

    async def next_hours(self, limit: int, before: int | None) -> list[int]:
        """Newest first."""
        return sorted((hour for hour in self.noted if before is None or hour < before), reverse=True)[:limit]

    async def aggregate(self, hour: int) -> int:
        """Forget the note, unless this hour is poisoned."""
        if self.away:
            self.away -= 1
            raise DependencyUnavailable("Postgres is away")
        if hour in self.poisoned:
            raise ArithmeticError("value out of range")
        if self.hold is not None and self.computed:
            await self.hold.wait()
        self.noted.discard(hour)
        self.computed.append(hour)
        return 10

    async def export_next(self, beat: Callable[[int], None]) -> int | None:
        """A file of ten rows."""
        if not self.due_files:
            return None
        beat(10)
        self.due_files -= 1
        return 10

    async def close_hours(self) -> None:
        """Nothing to close."""

    async def purge(self, batch: int) -> int:
        """Delete some of the old rows."""
        gone = min(batch, self.old_rows)
        self.old_rows -= gone
        return gone

    def steps(self) -> list[Callable[..., Any]]:
        """The activities over these fakes."""
        found = AggregationActivities(self, self, self)
        return [found.plan_aggregation, found.aggregate_hours, found.export_requests, found.purge_requests]


def hours(count: int) -> set[int]:
    """As many hours."""
    return {number * HOUR_S for number in range(count)}


def worker(
    client: Client, fakes: FakeMetrics, queue: str, *, sandboxed: bool = True
) -> AbstractAsyncContextManager[Worker]:
    """A worker whose heartbeats tell at once of a cancellation."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[AggregateHourlyWorkflow],
        activities=fakes.steps(),
        workflow_runner=SandboxedWorkflowRunner() if sandboxed else UnsandboxedWorkflowRunner(),
        max_heartbeat_throttle_interval=timedelta(milliseconds=50),
        default_heartbeat_throttle_interval=timedelta(milliseconds=50),
    )


async def start(client: Client, told: AggregateInput, queue: str | None = None) -> tuple[Handle, str]:
    """Start a run on a queue of its own; the handle and the queue."""
    queue = queue or f"aggregation-{secrets.token_hex(4)}"
    handle = await client.start_workflow(
        AggregateHourlyWorkflow.run, told, id=queue, task_queue=queue, execution_timeout=timedelta(seconds=60)
    )
    return handle, queue
