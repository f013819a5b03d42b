"""Erasing the requests of an end user or a tenant, in slices; resumed from what is left of them."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.jobs.erasure import EraseActivities
    from modelpilot import names
    from modelpilot.metrics.aggregation import AggregateInput
    from modelpilot.metrics.jobs import JobStatus
    from modelpilot.requests.erasure import EraseClose, EraseInput, EraseProgress

Work = TypeVar("Work")
Report = TypeVar("Report")

# Steps beat every 5 s; a worker that is silent for so long is gone.
HEARTBEAT_TIMEOUT = timedelta(seconds=20)
# A slice works for 20 s; then comes the batch under way: 100 deletions of at most 5 s, 8 at a time, and a transaction.
SLICE_TIMEOUT = timedelta(minutes=5)
# Hours: stores that are away come back, and nobody is asked again whether to erase.
RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=60), maximum_attempts=1_000
)
# Between two looks at requests that still run.
WAIT = timedelta(seconds=1)


@workflow.defn(name=names.ERASE_WORKFLOW)
class EraseWorkflow:
    """open_erasure, erase_slice until nothing is left, close_erasure; then an aggregation, for the hours concerned."""

    def __init__(self) -> None:
        self._progress = EraseProgress()

    @workflow.run
    async def run(self, job: EraseInput) -> EraseProgress:
        """Carry the job to its end, or on to the next run."""
        status: JobStatus = "completed"
        error: str | None = None
        try:
            self._progress = await _step(EraseActivities.open_erasure, job)
            if not await self._slices(job):
                workflow.continue_as_new(job)
        except ActivityError as failed:
            status, error = "failed", f"{failed.activity_type} failed"
        self._progress = await _step(EraseActivities.close_erasure, EraseClose(job, status, error))
        with suppress(WorkflowAlreadyStartedError):  # then the hours are computed all the same
            await workflow.start_child_workflow(
                names.AGGREGATE_WORKFLOW,
                AggregateInput(),
                id=f"{names.AGGREGATE_SCHEDULE}/{workflow.info().workflow_id}",
                task_queue=names.MAINTENANCE_QUEUE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
        return self._progress

    async def _slices(self, job: EraseInput) -> bool:
        """Whether nothing is left."""
        for _ in range(job.slices_per_run):
            report = await _step(EraseActivities.erase_slice, job)
            self._progress = report.progress
            if report.finished:
                return True
            if report.waiting:
                await workflow.sleep(WAIT)
        return False

    @workflow.query(name=names.JOB_PROGRESS)
    def progress(self) -> EraseProgress:
        """How far the job has come, as of the last slice."""
        return self._progress


async def _step(step: Callable[[Any, Work], Coroutine[Any, Any, Report]], work: Work) -> Report:
    return await workflow.execute_activity_method(
        step,
        work,
        start_to_close_timeout=SLICE_TIMEOUT,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=RETRIES,
    )
