"""The hourly aggregation: metrics of every hour that has new, late or revised rows; then export, then retention."""

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.jobs.aggregation import AggregationActivities
    from modelpilot import names
    from modelpilot.metrics.aggregation import (
        AggregateInput,
        AggregateResult,
        AggregateTotals,
        ExportInput,
        ExportReport,
        HoursInput,
        HoursReport,
        PlanInput,
        PlanReport,
        PurgeInput,
    )
    from modelpilot.metrics.jobs import JobProgress
    from workflows.policies import try_step

STEP = workflow.ActivityConfig(
    # 24 hours of a million rows each: 24 × 30 s = 12 min. One file of a million rows takes minutes, and none is begun
    # after the first.
    start_to_close_timeout=timedelta(minutes=30),
    # Steps heartbeat every 5 s; twelve missed ones mean that the worker is gone.
    heartbeat_timeout=timedelta(seconds=60),
    # Three tries, 5 s and 10 s apart: Postgres restarts within that. After a longer outage the next run does it all.
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=5), maximum_attempts=3),
)


@workflow.defn(name=names.AGGREGATE_WORKFLOW)
class AggregateHourlyWorkflow:
    """plan_aggregation and aggregate_hours until no hour is due, export_requests until no file is, purge_requests."""

    def __init__(self) -> None:
        self._totals = AggregateTotals()

    @workflow.query(name=names.JOB_PROGRESS)
    def progress(self) -> JobProgress:
        """Hours computed, of those that it knows of."""
        return JobProgress(self._totals.hours, max(self._totals.known, self._totals.hours))

    @workflow.run
    async def run(self, bounds: AggregateInput) -> AggregateResult:
        """Do all that is due. Each part is tried, also after another failed; fails at the end, naming what did."""
        self._totals = bounds.totals
        await self._newest(bounds)
        if await self._backlog(bounds) or await self._export():
            # In every part the newest hours come first: a long backfill or export must not keep them waiting.
            workflow.continue_as_new(replace(bounds, totals=self._totals))
        purged = await try_step(
            AggregationActivities.purge_requests, PurgeInput(rows=bounds.purge_rows), STEP, self._note
        )
        done = replace(self._totals, purged=purged.rows if purged else 0)
        result = AggregateResult(done.hours, done.requests, done.files, done.exported, done.purged)
        if self._totals.failed:
            message = f"failed: {', '.join(self._totals.failed)}"
            raise ApplicationError(message, result, type="AggregationIncomplete")
        return result

    async def _newest(self, bounds: AggregateInput) -> None:
        """Note what is new since the last part, and compute the newest hours."""
        planned = await try_step(AggregationActivities.plan_aggregation, PlanInput(), STEP, self._note) or PlanReport(0)
        self._totals = replace(self._totals, known=self._totals.hours + planned.pending)
        reached = await self._step(HoursInput(bounds.hours_per_step))
        before = self._totals.before
        self._totals = replace(
            self._totals, before=reached if reached is None or before is None else min(before, reached)
        )

    async def _backlog(self, bounds: AggregateInput) -> bool:
        """Whether noted hours are left to try. Hours only get older, so that it ends whatever fails."""
        for _ in range(bounds.steps_per_run):
            if self._totals.before is None:
                return False
            reached = await self._step(HoursInput(bounds.hours_per_step, self._totals.before))
            self._totals = replace(self._totals, before=reached)
        return self._totals.before is not None

    async def _step(self, step: HoursInput) -> int | None:
        """The oldest hour that was tried; None where all have been, or none can be for now."""
        done = await try_step(AggregationActivities.aggregate_hours, step, STEP, self._note) or HoursReport()
        if done.failed:
            self._note(names.AGGREGATE_HOURS)
        hours, requests = self._totals.hours + done.hours, self._totals.requests + done.requests
        self._totals = replace(self._totals, hours=hours, requests=requests)
        return done.oldest

    async def _export(self) -> bool:
        """Whether files are left to write."""
        done = await try_step(AggregationActivities.export_requests, ExportInput(), STEP, self._note) or ExportReport()
        files, exported = self._totals.files + done.files, self._totals.exported + done.requests
        self._totals = replace(self._totals, files=files, exported=exported)
        return done.more

    def _note(self, step: str) -> None:
        self._totals = replace(self._totals, failed=tuple(dict.fromkeys((*self._totals.failed, step))))
