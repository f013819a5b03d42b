"""The steps of the hourly aggregation. Each is idempotent, bounded, and may be killed anywhere."""

import time
from typing import Protocol

import structlog
from temporalio import activity

from activities.jobs.heartbeats import heartbeats
from modelpilot import names
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.aggregation import (
    Aggregator,
    Exporter,
    ExportInput,
    ExportReport,
    HoursInput,
    HoursReport,
    PlanInput,
    PlanReport,
    PurgeInput,
    Retention,
)
from modelpilot.requests.housekeeping import BatchReport

log = structlog.get_logger(__name__)

# One statement may take minutes and says nothing meanwhile.
HEARTBEAT_S = 5.0


class OldHistory(Protocol):
    """A vector history that can forget what is old."""

    async def forget_before(self, timestamp: float) -> None:
        """Forget points whose newest outcome is older, Unix seconds. Raises DependencyUnavailable."""
        ...


class AggregationActivities:
    """plan_aggregation, aggregate_hours, export_requests, purge_requests."""

    def __init__(
        self,
        aggregator: Aggregator,
        exporter: Exporter,
        retention: Retention,
        heartbeat_s: float = HEARTBEAT_S,
        history: OldHistory | None = None,
    ) -> None:
        """`history` is the vector history, which keeps nothing for longer than raw rows."""
        self._aggregator, self._exporter, self._retention = aggregator, exporter, retention
        self._heartbeat_s, self._history = heartbeat_s, history
        self._forgotten_before = 0.0

    @activity.defn(name=names.PLAN_AGGREGATION)
    async def plan_aggregation(self, _: PlanInput) -> PlanReport:
        """Note what has to be computed. Raises DependencyUnavailable."""
        async with heartbeats(self._heartbeat_s, "looking for new rows"):
            report = await self._aggregator.plan()
        if report.too_late:
            log.warning("rows_of_closed_hours", requests=report.too_late)
        return report

    @activity.defn(name=names.AGGREGATE_HOURS)
    async def aggregate_hours(self, bounds: HoursInput) -> HoursReport:
        """Compute up to `bounds.hours` noted hours, newest first; done ones stay done. Raises DependencyUnavailable."""
        done = requests = failed = 0
        hours = await self._aggregator.next_hours(bounds.hours, bounds.before)
        tried = bounds.before
        for hour in hours:
            if activity.is_worker_shutdown():
                break
            async with heartbeats(self._heartbeat_s, hour):
                found = await self._aggregate(hour)
            tried, done, requests, failed = hour, done + 1, requests + (found or 0), failed + (found is None)
        ended = len(hours) < bounds.hours and done == len(hours)
        return HoursReport(done - failed, requests, failed, None if ended else tried)

    async def _aggregate(self, hour: int) -> int | None:
        """The hour's rows; None where it cannot be computed, which must not keep all older hours from being so."""
        try:
            return await self._aggregator.aggregate(hour)
        except DependencyUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a row has that Postgres cannot add up)
            log.error("hour_not_aggregated", hour=hour, error=type(error).__name__)
            return None

    @activity.defn(name=names.EXPORT_REQUESTS)
    async def export_requests(self, bounds: ExportInput) -> ExportReport:
        """Write files that are due into the warehouse sink, if there is one. Raises DependencyUnavailable, OSError."""
        files = requests = 0
        ends_at = time.monotonic() + bounds.seconds
        async with heartbeats(self._heartbeat_s, "exporting"):
            while files < bounds.files and time.monotonic() < ends_at and not activity.is_worker_shutdown():
                rows = await self._exporter.export_next(activity.heartbeat)
                if rows is None:
                    return ExportReport(files, requests)
                files, requests = files + 1, requests + rows
        return ExportReport(files, requests, more=True)

    @activity.defn(name=names.PURGE_REQUESTS)
    async def purge_requests(self, bounds: PurgeInput) -> BatchReport:
        """Delete raw rows that are older than their retention, and points that nothing newer belongs to. Raises
        DependencyUnavailable."""
        closed = await self._retention.close_hours()
        report = await self._purge(bounds)
        if self._history is not None and closed > self._forgotten_before:
            async with heartbeats(self._heartbeat_s, "forgetting old points"):
                await self._history.forget_before(closed)
            self._forgotten_before = closed  # once for every hour that is closed
        return report

    async def _purge(self, bounds: PurgeInput) -> BatchReport:
        rows = 0
        for _ in range(bounds.batches):
            if activity.is_worker_shutdown():
                break
            gone = await self._retention.purge(bounds.rows)
            rows += gone
            activity.heartbeat(rows)
            if gone < bounds.rows:
                return BatchReport(rows)
        return BatchReport(rows, more=True)
