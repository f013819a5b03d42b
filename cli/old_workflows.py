"""Requests that the version before left running: their workflows cannot be followed by the class of today."""

from collections.abc import Sequence

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.requests.recovery import record_lost
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.ledger import PostgresLedger
from infra.settings import Settings
from infra.temporal.client import connect
from infra.temporal.health import translated
from modelpilot import names
from modelpilot.requests.route_request import RouteRequestInput

_RUNNING = f"WorkflowType = '{names.ROUTE_REQUEST_WORKFLOW}' AND ExecutionStatus = 'Running'"


async def left_open(settings: Settings) -> list[RouteRequestInput]:
    """The requests of all workflows that run. Raises DependencyUnavailable."""
    client = await _connected(settings)
    with translated():
        return [await _request(client, found.id) async for found in client.list_workflows(_RUNNING)]


async def end(settings: Settings, database_url: str, left: Sequence[RouteRequestInput]) -> int:
    """End their workflows; how many had no terminal row, and have one now. Raises DependencyUnavailable."""
    keyring, recorded = Keyring(settings.encryption_key_texts), 0
    client = await _connected(settings)
    async with Database(database_url) as database:
        ledger = PostgresLedger(database, keyring)
        for request in left:
            if await ledger.find(request.key) is None:
                await record_lost(ledger, keyring.mac, request)
                recorded += 1
            await _terminate(client, request.key.workflow_id)
        await ledger.close()
    return recorded


async def _connected(settings: Settings) -> Client:
    return await connect(settings, Keyring(settings.encryption_key_texts), "migrate")


async def _request(client: Client, workflow_id: str) -> RouteRequestInput:
    events = client.get_workflow_handle(workflow_id).fetch_history_events(page_size=1)
    started = (await anext(events)).workflow_execution_started_event_attributes
    decoded: list[RouteRequestInput] = await client.data_converter.decode(started.input.payloads, [RouteRequestInput])
    return decoded[0]


async def _terminate(client: Client, workflow_id: str) -> None:
    with translated():
        try:
            await client.get_workflow_handle(workflow_id).terminate("the request path was replaced by an upgrade")
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # it has ended meanwhile
                raise
