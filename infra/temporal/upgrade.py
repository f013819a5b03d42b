"""What an upgrade has to do about workflows that the version before left open."""

from dataclasses import dataclass

from pydantic import TypeAdapter
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from infra.temporal.health import translated
from modelpilot import names
from modelpilot.requests.route_request import RouteRequestInput

_READER: TypeAdapter[RouteRequestInput] = TypeAdapter(RouteRequestInput)
_RUNNING = f"WorkflowType = '{names.ROUTE_REQUEST_WORKFLOW}' AND ExecutionStatus = 'Running'"


@dataclass(frozen=True, slots=True)
class OpenWorkflow:
    """A request workflow that runs, and the request that it was started for."""

    workflow_id: str
    request: RouteRequestInput


async def open_request_workflows(client: Client) -> list[OpenWorkflow]:
    """All that run. Raises DependencyUnavailable."""
    with translated():
        return [await _read(client, found.id) async for found in client.list_workflows(_RUNNING)]


async def _read(client: Client, workflow_id: str) -> OpenWorkflow:
    events = client.get_workflow_handle(workflow_id).fetch_history_events(page_size=1)
    started = (await anext(events)).workflow_execution_started_event_attributes
    (given,) = await client.data_converter.decode(started.input.payloads, [dict])
    return OpenWorkflow(workflow_id, _READER.validate_python(given))


async def terminate(client: Client, workflow_id: str) -> None:
    """End a workflow whose class has changed in a way that it cannot follow."""
    with translated():
        try:
            await client.get_workflow_handle(workflow_id).terminate("the request path was replaced by an upgrade")
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # it has ended meanwhile
                raise
