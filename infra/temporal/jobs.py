"""Jobs on demand as Temporal workflows on the maintenance queue: `modelpilot.metrics.jobs.Jobs`."""

import time
from datetime import timedelta

import structlog
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from infra.temporal.health import translated
from modelpilot import names
from modelpilot.learning.refit import RefitInput, RefitResult, RefitRun
from modelpilot.learning.rescoring import RescoreInput
from modelpilot.metrics.aggregation import AggregateInput
from modelpilot.metrics.jobs import Job, JobProgress, JobStatus, job_workflow_id, new_job_id
from modelpilot.requests.records import HistoryScope

log = structlog.get_logger(__name__)

START_TIMEOUT = timedelta(seconds=3)
ASK_TIMEOUT = timedelta(seconds=2)
# A query is answered by a worker, which may have to replay first.
QUERY_TIMEOUT = timedelta(seconds=5)
LONGEST_JOB = timedelta(hours=6)

_STATUS: dict[WorkflowExecutionStatus, JobStatus] = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.TERMINATED: "failed",
    WorkflowExecutionStatus.TIMED_OUT: "failed",
    WorkflowExecutionStatus.CANCELED: "canceled",
}


class TemporalJobs:
    """See `modelpilot.metrics.jobs.Jobs`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start_aggregation(self, user_id: str) -> Job:
        """See Jobs. A run that is under way is not waited for: runs do not disturb each other."""
        job_id = new_job_id("aggregate")
        with translated():
            await self._client.start_workflow(
                names.AGGREGATE_WORKFLOW,
                AggregateInput(),
                id=job_workflow_id(user_id, job_id),
                task_queue=names.MAINTENANCE_QUEUE,
                execution_timeout=LONGEST_JOB,
                rpc_timeout=START_TIMEOUT,
            )
        return Job(job_id, "running", JobProgress(), time.time())

    async def find(self, user_id: str, job_id: str) -> Job:
        """See Jobs."""
        handle = self._client.get_workflow_handle(job_workflow_id(user_id, job_id))
        with translated("There is no such job."):
            found = await handle.describe(rpc_timeout=ASK_TIMEOUT)
        # None and CONTINUED_AS_NEW: a part has ended, the job goes on.
        status = _STATUS.get(found.status, "running") if found.status else "running"
        ended = found.close_time.timestamp() if found.close_time and status != "running" else None
        return Job(job_id, status, await _progress(handle), found.start_time.timestamp(), ended)


async def _progress(handle: "WorkflowHandle[object, object]") -> JobProgress | None:
    try:
        told: JobProgress = await handle.query(names.JOB_PROGRESS, result_type=JobProgress, rpc_timeout=QUERY_TIMEOUT)
    except (RPCError, WorkflowQueryFailedError) as error:
        log.warning("job_progress_unknown", error=type(error).__name__)
        return None
    return told


# Refits on demand: one workflow per router at a time, under a readable id.

_ASK_TIMEOUT = timedelta(seconds=3)
# Fitting one router is bounded by its activity: two tries of a quarter of an hour.
_RUN_TIMEOUT = timedelta(minutes=40)


class TemporalRefits:
    """Implements `modelpilot.learning.refit.Refits`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, scope: HistoryScope) -> RefitRun:
        """See Refits."""
        with translated():
            await self._client.start_workflow(
                names.REFIT_WORKFLOW,
                RefitInput(scope.user_id, scope.router_id),
                id=_workflow_id(scope),
                task_queue=names.MAINTENANCE_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                execution_timeout=_RUN_TIMEOUT,
                rpc_timeout=_ASK_TIMEOUT,
            )
        return RefitRun(_workflow_id(scope), "running")

    async def latest(self, scope: HistoryScope) -> RefitRun:
        """See Refits."""
        handle: WorkflowHandle[object, RefitResult] = self._client.get_workflow_handle(
            _workflow_id(scope), result_type=RefitResult
        )
        with translated("No refit of this router was asked for lately."):
            described = await handle.describe(rpc_timeout=_ASK_TIMEOUT)
            if described.status == WorkflowExecutionStatus.RUNNING:
                return RefitRun(handle.id, "running")
            if described.status == WorkflowExecutionStatus.COMPLETED:
                return RefitRun(handle.id, "completed", (await handle.result(rpc_timeout=_ASK_TIMEOUT)).report)
        return RefitRun(handle.id, "failed")


def _workflow_id(scope: HistoryScope) -> str:
    return f"refit/{scope.user_id}/{scope.router_id}"


# Starting and steering the workflows of re-scoring jobs.

TIMEOUT = timedelta(seconds=5)
_GONE = "The job does not run any more."


class TemporalRescoring:
    """`modelpilot.learning.rescoring.JobRunner` over a Temporal client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, job: RescoreInput) -> None:
        """See JobRunner."""
        with translated(_GONE):
            await self._client.start_workflow(
                names.RESCORE_WORKFLOW,
                job,
                id=job.workflow_id,
                task_queue=names.MAINTENANCE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                rpc_timeout=TIMEOUT,
            )

    async def pause(self, workflow_id: str) -> None:
        """See JobRunner."""
        await self._signal(workflow_id, names.PAUSE_JOB)

    async def resume(self, workflow_id: str) -> None:
        """See JobRunner."""
        await self._signal(workflow_id, names.RESUME_JOB)

    async def cancel(self, workflow_id: str) -> None:
        """See JobRunner."""
        await self._signal(workflow_id, names.CANCEL_JOB)

    async def _signal(self, workflow_id: str, name: str) -> None:
        with translated(_GONE):
            await self._client.get_workflow_handle(workflow_id).signal(name, rpc_timeout=TIMEOUT)
