"""Starting and steering the workflows of re-scoring jobs."""

from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from infra.temporal.health import RETRY_AFTER_S
from modelpilot import names
from modelpilot.errors import DependencyUnavailable, NotFound
from modelpilot.rescoring import RescoreInput

log = structlog.get_logger(__name__)

TIMEOUT = timedelta(seconds=5)


class TemporalRescoring:
    """`modelpilot.rescore_ports.JobRunner` over a Temporal client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, job: RescoreInput) -> None:
        """See JobRunner."""
        try:
            await self._client.start_workflow(
                names.RESCORE_WORKFLOW,
                job,
                id=job.workflow_id,
                task_queue=names.MAINTENANCE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                rpc_timeout=TIMEOUT,
            )
        except RPCError as error:
            raise _refusal(error) from error

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
        try:
            await self._client.get_workflow_handle(workflow_id).signal(name, rpc_timeout=TIMEOUT)
        except RPCError as error:
            raise _refusal(error) from error


def _refusal(error: RPCError) -> DependencyUnavailable | NotFound:
    if error.status == RPCStatusCode.NOT_FOUND:
        return NotFound("The job does not run any more.")
    log.warning("temporal_call_failed", status=error.status.name)
    return DependencyUnavailable("Temporal did not acknowledge in time", retry_after_s=RETRY_AFTER_S)
