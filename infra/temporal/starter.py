"""What a gateway asks Temporal for: to accept a request while Postgres is away, and to carry on where a call failed."""

from contextlib import suppress
from datetime import timedelta

from temporalio.client import Client

from infra.temporal.first_task import RPC_TIMEOUT, TemporalFirstTasks
from infra.temporal.health import TemporalHealth
from modelpilot.errors import NotFound
from modelpilot.requests.records import RequestKey
from modelpilot.requests.route_request import RouteRequestInput
from modelpilot.wire.jsonb import dump

# The longest that the server allows: while Postgres is away nobody can find out whether a first task's owner lives.
ACCEPTED_TASK_TIMEOUT = timedelta(seconds=120)


class TemporalRequests:
    """Implements `modelpilot.requests.ports.RequestWorkflows`."""

    def __init__(self, client: Client, tasks: TemporalFirstTasks, health: TemporalHealth) -> None:
        self._client, self._tasks, self._health = client, tasks, health

    @property
    def up(self) -> bool:
        """Whether the service answered when it was asked last."""
        return self._health.up

    async def accept(self, request: RouteRequestInput) -> None:
        """Start the workflow and keep its first task: a closer carries that out once the ledger knows the outcome."""
        await self._tasks.start(request.key, dump(request), request, task_timeout=ACCEPTED_TASK_TIMEOUT)

    async def hand_over(self, request: RouteRequestInput, *, held: bool) -> None:
        """Let a worker carry the request on. A closer that holds the first task gives it away, too, when it sees that;
        asking for it by the same start is quicker."""
        token = await self._tasks.start(request.key, dump(request), request, eager=held)
        if token:
            await self._tasks.hand_over(token)

    async def cancel(self, key: RequestKey) -> None:
        """Ask the workflow to stop spending; one that is gone needs no canceling."""
        with suppress(NotFound), self._tasks.watched(key):
            await self._client.get_workflow_handle(key.workflow_id).cancel(rpc_timeout=RPC_TIMEOUT)
