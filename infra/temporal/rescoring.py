"""Starting and steering the workflows of re-scoring jobs."""

from datetime import timedelta

from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy

from infra.temporal.errors import translated
from modelpilot import names
from modelpilot.learning.rescoring import RescoreInput

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
