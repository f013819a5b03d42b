"""`modelpilot requests`: an accepted request whose workflow is not closed, straight in the ledger and in Temporal, for
a row that is stuck: that works without a gateway. `delete` erases a request, through the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.requests.recovery import record_lost
from cli.client import connect as connect_to_gateway
from cli.client import fail, segment
from cli.output import AsJson, command_group, show_result, table
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.ledger import PostgresLedger
from infra.db.requests.open_requests import OpenRequests
from infra.local.environment import ensure_keyring, join_running_stack
from infra.settings import load_settings
from infra.temporal.client import connect
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.requests.records import RequestKey
from modelpilot.requests.route_request import read_request

app = command_group("Look at a request, end one whose workflow is not closed, or erase it.")

RequestId = Annotated[str, typer.Argument(help="The request's id, or its client's own x-request-id.")]
User = Annotated[str, typer.Option(help="The user (tenant) whose request it is.")]


@app.callback()
def _root() -> None:
    """Look at a request, end one whose workflow is not closed, or erase it."""


@app.command()
def show(request_id: RequestId, user: User = OPERATOR_USER, as_json: AsJson = False) -> None:
    """What the ledger and Temporal know of a request. Exit code 1 where neither does."""
    found = asyncio.run(_found(RequestKey(user, request_id)))
    if found is None:
        fail(f"there is no request {request_id} of {user}")
    show_result(found, as_json, lambda: [table(("field", "value"), list(found.items()))])


@app.command()
def close(request_id: RequestId, user: User = OPERATOR_USER) -> None:
    """End a request that is stuck: its workflow is terminated where it runs, its row is a failed one where it has not
    ended, and no closer looks at it any more."""
    done = asyncio.run(_closed(RequestKey(user, request_id)))
    if done is None:
        fail(f"no request {request_id} of {user} is open")
    typer.echo(done)


@app.command()
def delete(request_id: RequestId) -> None:
    """Erase a request of yours, through the running gateway: what was said and by whom. What it cost stays."""
    gateway = connect_to_gateway()
    gateway.call("DELETE", f"/v1/requests/{segment(request_id)}")
    typer.echo(f"{request_id} is erased")


@dataclass(frozen=True)
class _Stores:
    ledger: PostgresLedger
    rows: OpenRequests
    client: Client
    keyring: Keyring


@asynccontextmanager
async def _stores() -> AsyncIterator[_Stores]:
    settings = join_running_stack(load_settings())
    keyring = Keyring(ensure_keyring(settings))
    client = await connect(settings, keyring, "command line", wait_s=5.0)
    async with Database(str(settings.database_url)) as database:
        ledger = PostgresLedger(database, keyring)
        yield _Stores(ledger, OpenRequests(database, keyring, "command line"), client, keyring)
        await ledger.close()


async def _found(key: RequestKey) -> dict[str, Any] | None:
    async with _stores() as stores:
        row, stored = await stores.rows.find(key), await stores.ledger.find(key)
        workflow = await _workflow_status(stores.client, key)
        if row is None and stored is None and workflow is None:
            return None
        attempts = stored.attempts if stored else await stores.ledger.find_attempts(key)
    shown = {
        "request": key.request_id,
        "status": stored.record.outcome.status if stored else "running",
        "workflow": f"{key.workflow_id} ({workflow or 'not started'})",
        "attempts": ", ".join(f"{attempt.model}: {attempt.error_type or attempt.status}" for attempt in attempts),
    }
    return shown | {name: None if value is None else str(value) for name, value in (row or {}).items()}


async def _closed(key: RequestKey) -> str | None:
    async with _stores() as stores:
        rows = await stores.rows.read([key])
        if not rows:
            return None
        if rows[0].outcome is None:
            await record_lost(stores.ledger, stores.keyring.mac, read_request(rows[0].request))
        status = await _workflow_status(stores.client, key)
        if status == "running":
            await stores.client.get_workflow_handle(key.workflow_id).terminate("closed on the command line")
        await stores.rows.close([key])
    ended = "recorded as failed" if rows[0].outcome is None else f"had ended ({rows[0].outcome.status})"
    return f"{key.request_id}: {ended}; its workflow was {status or 'never started'}, and is left alone from now on"


async def _workflow_status(client: Client, key: RequestKey) -> str | None:
    try:
        described = await client.get_workflow_handle(key.workflow_id).describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return None
    return described.status.name.lower() if described.status else None
