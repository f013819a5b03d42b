"""The hourly aggregation under test: its workflow over fakes of what its activities need, and requests in Postgres.

`python -m tests.support.aggregation` makes the saved histories that are missing.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.jobs.aggregation import HEARTBEAT_S, AggregationActivities
from infra.db.engine import Database
from infra.db.requests.ledger import PostgresLedger
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.aggregation import HOUR_S, AggregateInput, AggregateResult, PlanReport
from modelpilot.requests.outcome import Usage
from tests.support.samples import attempt, keyring, outcome, record
from tests.support.saved_histories import SavedHistories
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
    heartbeat_s: float = HEARTBEAT_S

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

    async def close_hours(self) -> float:
        """Nothing to close."""
        return 0.0

    async def purge(self, batch: int) -> int:
        """Delete some of the old rows."""
        gone = min(batch, self.old_rows)
        self.old_rows -= gone
        return gone

    def steps(self) -> list[Callable[..., Any]]:
        """The activities over these fakes."""
        found = AggregationActivities(self, self, self, self.heartbeat_s)
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


async def start(client: Client, bounds: AggregateInput, queue: str | None = None) -> tuple[Handle, str]:
    """Start a run on a queue of its own; the handle and the queue."""
    queue = queue or f"aggregation-{secrets.token_hex(4)}"
    handle = await client.start_workflow(
        AggregateHourlyWorkflow.run, bounds, id=queue, task_queue=queue, execution_timeout=timedelta(seconds=60)
    )
    return handle, queue


# Long over, and no special day anywhere.
HOUR = datetime(2026, 3, 2, 10, tzinfo=UTC)


def decision(**changes: Any) -> dict[str, Any]:
    """A smart decision among a cheap, a middle and a good model, as the ledger stores it."""
    figures = {"sim/small": (0.001, 0.5, 0.1), "sim/medium": (0.004, 0.7, 0.4), "sim/large": (0.020, 0.9, 2.0)}
    candidates = [
        {
            "model": model,
            "provider": "simulator",
            "cost": {"raw": cost, "unit": "USD", "score": 0.5, "weight": 0.5},
            "latency": {"raw": 800.0, "unit": "ms", "score": 0.5, "weight": 0.2},
            "quality": {"raw": quality, "unit": "share", "score": quality, "weight": 0.3},
            "carbon": {"raw": carbon, "unit": "gCO2e", "score": 0.5, "weight": 0.0},
            "total": 0.5,
            "excludedBecause": None,
        }
        for model, (cost, quality, carbon) in figures.items()
    ]
    plain = {"mode": "smartRouter", "selectedModel": "sim/small", "preferredModel": "sim/medium"}
    return {**plain, "candidates": candidates, **changes}


class Requests:
    """Writes terminal rows as gateways do, through the ledger. `recorded` moves their time of recording afterwards."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ledger = PostgresLedger(database, keyring())
        self._count = 0

    async def close(self) -> None:
        """Close the ledger."""
        await self._ledger.close()

    async def add(
        self, at: datetime, *, user: str = "alice", recorded: datetime | None = None, count: int = 1, **changes: Any
    ) -> list[str]:
        """Write `count` requests that began at `at`; their ids. `changes` are fields of the record or its outcome."""
        ids = [f"r{number:05}" for number in range(self._count + 1, self._count + count + 1)]
        self._count += count
        await asyncio.gather(*(self._ledger.record(_record(user, each, at, changes)) for each in ids))
        if recorded is not None:
            await self._database.fetch_all(
                "UPDATE requests SET recorded_at = %s WHERE request_id = ANY (%s)", (recorded, ids)
            )
        return ids


_OF_OUTCOME = {"status", "model", "provider", "finish_reason", "usage", "cost_usd", "ttft_ms", "quality", "latency_ms"}


def _record(user: str, request_id: str, at: datetime, changes: dict[str, Any]) -> Any:
    given = {"model": "sim/small", "cost_usd": 0.002, "usage": Usage(12, 34, 5, 6), **changes}
    of_outcome = {name: value for name, value in given.items() if name in _OF_OUTCOME and name != "latency_ms"}
    call = attempt(0, latency_ms=given.get("latency_ms", 800.0), model=given["model"], usage=given["usage"])
    plain = {"created_at": at.timestamp(), "completed_at": (at + timedelta(seconds=1)).timestamp()}
    of_record = {name: value for name, value in given.items() if name not in _OF_OUTCOME}
    defaults = {"decision": decision(), "carbon_g": 0.2, "fallback_used": False, "degraded": ()}
    made = outcome(attempts=(call,), **of_outcome)
    return record(user, request_id, outcome=made, **{**plain, **defaults, **of_record})


def rows_of(url: str, query: str, *given: Any) -> list[dict[str, Any]]:
    """The rows of a query."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query.encode(), given).fetchall()


# A saved history each.
SCENARIOS: Mapping[str, FakeMetrics] = {
    "all_done": FakeMetrics(noted=hours(3), due_files=2, old_rows=7),
    "nothing_due": FakeMetrics(),
    "continued": FakeMetrics(noted=hours(5)),
    "an_hour_failed": FakeMetrics(noted=hours(2), poisoned=frozenset({HOUR_S})),
}


async def run(client: Client, name: str) -> Handle:
    """Run a scenario to its end."""
    handle, queue = await start(client, AggregateInput(hours_per_step=2, steps_per_run=2))
    async with worker(client, SCENARIOS[name], queue):
        await asyncio.gather(handle.result(), return_exceptions=True)
    return handle


HISTORIES = SavedHistories(AggregateHourlyWorkflow, "aggregation", "aggregation_histories", SCENARIOS, run)

if __name__ == "__main__":
    HISTORIES.make_missing()
