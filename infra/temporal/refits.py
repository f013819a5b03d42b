"""Refits on demand: one workflow per router at a time, under a readable id."""

from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from infra.temporal.errors import translated
from modelpilot import names
from modelpilot.learning.refit import RefitInput, RefitResult, RefitRun
from modelpilot.requests.records import HistoryScope

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
