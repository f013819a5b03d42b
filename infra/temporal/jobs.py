"""Jobs on demand as Temporal workflows on the maintenance queue: `modelpilot.metrics.jobs.Jobs`."""

import time
from datetime import timedelta

import structlog
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from infra.temporal.errors import translated
from modelpilot import names
from modelpilot.metrics.aggregation import AggregateInput
from modelpilot.metrics.jobs import Job, JobProgress, JobStatus, job_workflow_id, new_job_id

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
