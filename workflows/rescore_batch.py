"""Batch re-scoring: nightly and on demand, in slices; pausable, cancelable, and resumed from its recorded position."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.jobs.judge import JudgeActivities
    from activities.jobs.rescoring import RescoreActivities
    from modelpilot import names
    from modelpilot.learning.refit import RefitInput
    from modelpilot.learning.rescoring import (
        NIGHTLY_DAYS,
        CloseInput,
        JudgeReport,
        RescoreInput,
        RescoreProgress,
        RescoreResult,
        SliceInput,
    )
    from modelpilot.metrics.jobs import JobStatus

Work = TypeVar("Work")
Report = TypeVar("Report")

# A page takes a second, a judging round beats every 2 s; a worker that is silent for so long is gone.
HEARTBEAT_TIMEOUT = timedelta(seconds=20)
# A slice works for 20 s and a round for 10 s, then come a page, or calls of at most 60 s that are under way.
SLICE_TIMEOUT = timedelta(minutes=5)
# About an hour: stores that are away come back, and what fails for so long is no outage.
RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=120
)
# Beyond so many owners their predictors wait for the schedule.
MOST_REFITS = 100


@workflow.defn(name=names.RESCORE_WORKFLOW)
class RescoreBatchWorkflow:
    """open_rescore, then (judge_slice,) rescore_slice until nothing is left, close_rescore; then the refits."""

    @workflow.init
    def __init__(self, job: RescoreInput) -> None:
        self._job = job if job.opened else _named(job)
        self._paused, self._canceled = job.paused, False
        self._judging = "judge" in job.spec.sources and job.progress.judge_stopped is None
        self._slice: asyncio.Task[Any] | None = None

    @workflow.run
    async def run(self, job: RescoreInput) -> RescoreResult:
        """Carry the job to its end, or on to the next run."""
        del job  # `__init__` has it
        status: JobStatus = "completed"
        error: str | None = None
        try:
            if not self._job.opened:
                self._report(await self._step(RescoreActivities.open_rescore, self._job))
                self._job = replace(self._job, opened=True)
            await self._work()
        except asyncio.CancelledError:
            status = "canceled"
        except ActivityError as failed:
            status = "canceled" if is_cancelled_exception(failed) else "failed"
            error = None if status == "canceled" else f"{failed.activity_type} failed"
        return await self._end(status, error)

    async def _work(self) -> None:
        for _ in range(self._job.slices_per_run):
            if await self._one_slice():
                return
        if self._canceled:
            raise asyncio.CancelledError
        workflow.continue_as_new(replace(self._job, paused=self._paused))

    async def _one_slice(self) -> bool:
        """Judge a round and score what it covers; whether the job is done."""
        judged = JudgeReport(None)
        await self._may_go_on()
        if self._judging:
            judged = await self._step(JudgeActivities.judge_slice, SliceInput(self._job))
            self._judging = judged.stopped is None and judged.until is not None
        finished = False
        if judged.until is None or judged.handled:
            await self._may_go_on()
            report = await self._step(RescoreActivities.rescore_slice, SliceInput(self._job, judged.until))
            owners = tuple(sorted({*self._job.revised_users, *report.revised_users}))[: MOST_REFITS + 1]
            self._report(report.progress)
            self._job = replace(self._job, revised_users=owners)
            finished = report.finished and judged.until is None
        if judged.wait_s > 0.0 and not finished:
            await self._wait(judged.wait_s)
        return finished

    async def _may_go_on(self) -> None:
        """Wait while the job is paused. Raises CancelledError where it was told to end."""
        await workflow.wait_condition(lambda: self._canceled or not self._paused)
        if self._canceled:
            raise asyncio.CancelledError

    async def _wait(self, seconds: float) -> None:
        """Wait for the judge's rate; a cancellation need not wait."""
        try:
            await workflow.wait_condition(lambda: self._canceled, timeout=timedelta(seconds=seconds))
        except TimeoutError:
            return

    def _report(self, progress: RescoreProgress) -> None:
        self._job = replace(self._job, progress=progress)

    async def _step(self, step: Callable[[Any, Work], Coroutine[Any, Any, Report]], work: Work) -> Report:
        """Run a step as a task, so that the signal `cancel` can cut it short."""
        self._slice = asyncio.create_task(_run(step, work))
        report: Report = await self._slice
        return report

    async def _end(self, status: JobStatus, error: str | None) -> RescoreResult:
        closing = asyncio.create_task(_run(RescoreActivities.close_rescore, CloseInput(self._job, status, error)))
        try:
            self._report(await asyncio.shield(closing))
        except asyncio.CancelledError:  # whoever cancels now is late: the end is being written
            self._report(await closing)
        if status != "canceled":
            await self._refit()
        return RescoreResult(status, self._job.progress)

    async def _refit(self) -> None:
        """Start the refits of those whose qualities changed; they go on by themselves."""
        owners = self._job.revised_users
        refits = [RefitInput(user_id=owner) for owner in owners] if len(owners) <= MOST_REFITS else [RefitInput()]
        for number, refit in enumerate(refits):
            await workflow.start_child_workflow(
                names.REFIT_WORKFLOW,
                refit,
                id=f"{names.REFIT_SCHEDULE}/{workflow.info().workflow_id}/{number}",
                task_queue=names.MAINTENANCE_QUEUE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )

    @workflow.signal(name=names.PAUSE_JOB)
    def pause(self) -> None:
        """Begin no other slice."""
        self._paused = True

    @workflow.signal(name=names.RESUME_JOB)
    def resume(self) -> None:
        """Go on."""
        self._paused = False

    @workflow.signal(name=names.CANCEL_JOB)
    def cancel(self) -> None:
        """End the job; the slice under way is cut short, what was written stays."""
        self._canceled = True
        if self._slice is not None:
            self._slice.cancel()

    @workflow.query(name=names.JOB_PROGRESS)
    def progress(self) -> RescoreProgress:
        """How far the job has come, as of the last slice."""
        return self._job.progress


async def _run(step: Callable[[Any, Work], Coroutine[Any, Any, Report]], work: Work) -> Report:
    return await workflow.execute_activity_method(
        step,
        work,
        start_to_close_timeout=SLICE_TIMEOUT,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=RETRIES,
        # A judge's call that is cut short still has its cost recorded.
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def _named(job: RescoreInput) -> RescoreInput:
    """A scheduled job is named after its workflow, and its window ends now."""
    now_s = workflow.now().timestamp()
    spec = replace(job.spec, to_s=job.spec.to_s if job.spec.to_s is not None else now_s)
    if job.nightly:
        spec = replace(spec, from_s=now_s - NIGHTLY_DAYS * 86_400.0, include_pending=True)
    return replace(job, job_id=job.job_id or workflow.info().workflow_id.rpartition("/")[2], spec=spec)
