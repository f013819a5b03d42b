"""Jobs on demand as workflows on the maintenance queue: aggregation, refits, re-scoring and erasing."""

import time
from datetime import timedelta
from typing import Any

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from infra.temporal.health import translated
from modelpilot import names
from modelpilot.learning.refit import RefitInput, RefitResult, RefitRun
from modelpilot.learning.rescoring import RescoreInput
from modelpilot.metrics.aggregation import AggregateInput
from modelpilot.metrics.jobs import Job, JobProgress, JobStatus, job_workflow_id, new_job_id
from modelpilot.requests.erasure import EraseInput
from modelpilot.requests.records import HistoryScope, RequestKey

log = structlog.get_logger(__name__)

# Of one call of the service; a query is answered by a worker, which may have to replay first.
RPC_TIMEOUT = timedelta(seconds=5)
LONGEST_AGGREGATION = timedelta(hours=6)
# Fitting one router is bounded by its activity: two tries of a quarter of an hour.
LONGEST_REFIT = timedelta(minutes=40)

_STATUS: dict[WorkflowExecutionStatus, JobStatus] = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.TERMINATED: "failed",
    WorkflowExecutionStatus.TIMED_OUT: "failed",
    WorkflowExecutionStatus.CANCELED: "canceled",
}
_GONE = "The job does not run any more."


class _JobStarter:
    """What all jobs on demand have in common: where and how their workflows are started."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _start(self, workflow: str, job: object, workflow_id: str, **options: Any) -> None:
        """Start a workflow and return when the service has acknowledged it. Raises DependencyUnavailable."""
        with translated():
            await self._client.start_workflow(
                workflow, job, id=workflow_id, task_queue=names.MAINTENANCE_QUEUE, rpc_timeout=RPC_TIMEOUT, **options
            )


class TemporalJobs(_JobStarter):
    """The `Jobs` of `modelpilot.metrics.jobs`."""

    async def start_aggregation(self, user_id: str) -> Job:
        """Begin a run. One that is under way is not waited for: runs do not disturb each other."""
        job_id = new_job_id("aggregate")
        workflow_id = job_workflow_id(user_id, job_id)
        await self._start(
            names.AGGREGATE_WORKFLOW, AggregateInput(), workflow_id, execution_timeout=LONGEST_AGGREGATION
        )
        return Job(job_id, "running", JobProgress(), time.time())

    async def find(self, user_id: str, job_id: str) -> Job:
        """How the job goes. Raises NotFound."""
        handle = self._client.get_workflow_handle(job_workflow_id(user_id, job_id))
        with translated("There is no such job."):
            found = await handle.describe(rpc_timeout=RPC_TIMEOUT)
        # None and CONTINUED_AS_NEW: a part has ended, the job goes on.
        status = _STATUS.get(found.status, "running") if found.status else "running"
        ended = found.close_time.timestamp() if found.close_time and status != "running" else None
        return Job(job_id, status, await _progress(handle), found.start_time.timestamp(), ended)


async def _progress(handle: "WorkflowHandle[object, object]") -> JobProgress | None:
    try:
        progress: JobProgress = await handle.query(names.JOB_PROGRESS, result_type=JobProgress, rpc_timeout=RPC_TIMEOUT)
    except (RPCError, WorkflowQueryFailedError) as error:
        log.warning("job_progress_unknown", error=type(error).__name__)
        return None
    return progress


class TemporalRefits(_JobStarter):
    """The `Refits` of `modelpilot.learning.refit`: one workflow per router at a time, under a readable id."""

    async def start(self, scope: HistoryScope) -> RefitRun:
        """Begin a refit of the router, or join the one that runs."""
        await self._start(
            names.REFIT_WORKFLOW,
            RefitInput(scope.user_id, scope.router_id),
            _refit_workflow_id(scope),
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            execution_timeout=LONGEST_REFIT,
        )
        return RefitRun(_refit_workflow_id(scope), "running")

    async def latest(self, scope: HistoryScope) -> RefitRun:
        """How the last one goes. Raises NotFound where none was asked for in a while."""
        handle: WorkflowHandle[object, RefitResult] = self._client.get_workflow_handle(
            _refit_workflow_id(scope), result_type=RefitResult
        )
        with translated("No refit of this router was asked for lately."):
            described = await handle.describe(rpc_timeout=RPC_TIMEOUT)
            if described.status == WorkflowExecutionStatus.RUNNING:
                return RefitRun(handle.id, "running")
            if described.status == WorkflowExecutionStatus.COMPLETED:
                return RefitRun(handle.id, "completed", (await handle.result(rpc_timeout=RPC_TIMEOUT)).report)
        return RefitRun(handle.id, "failed")


class TemporalErasures(_JobStarter):
    """Implements `ErasureRunner` and `Histories` of `modelpilot.requests.erasure`."""

    async def start(self, job: EraseInput) -> None:
        """Begin the job, unless it runs."""
        await self._start(
            names.ERASE_WORKFLOW, job, job.workflow_id, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
        )

    async def forget(self, key: RequestKey) -> None:
        """Delete the request's workflow with its history. Where the namespace does not allow that, it stays until its
        retention is over: it is encrypted, and the log says so."""
        place = WorkflowExecution(workflow_id=key.workflow_id)
        wanted = DeleteWorkflowExecutionRequest(namespace=self._client.namespace, workflow_execution=place)
        with translated():
            try:
                await self._client.workflow_service.delete_workflow_execution(wanted, timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED):
                    log.warning("workflow_not_deleted", status=error.status.name)
                elif error.status != RPCStatusCode.NOT_FOUND:
                    raise


def _refit_workflow_id(scope: HistoryScope) -> str:
    return f"refit/{scope.user_id}/{scope.router_id}"


class TemporalRescoring(_JobStarter):
    """The `JobRunner` of `modelpilot.learning.rescoring`; its signals raise NotFound where the job does not run."""

    async def start(self, job: RescoreInput) -> None:
        """Start the job's workflow, at most once."""
        await self._start(
            names.RESCORE_WORKFLOW, job, job.workflow_id, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE
        )

    async def pause(self, workflow_id: str) -> None:
        """Let the job wait behind its current slice."""
        await self._signal(workflow_id, names.PAUSE_JOB)

    async def resume(self, workflow_id: str) -> None:
        """Let the job go on."""
        await self._signal(workflow_id, names.RESUME_JOB)

    async def cancel(self, workflow_id: str) -> None:
        """End the job; what it has done stays."""
        await self._signal(workflow_id, names.CANCEL_JOB)

    async def _signal(self, workflow_id: str, name: str) -> None:
        with translated(_GONE):
            await self._client.get_workflow_handle(workflow_id).signal(name, rpc_timeout=RPC_TIMEOUT)
