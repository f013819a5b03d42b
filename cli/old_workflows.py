"""Requests that the version before left running: their workflows cannot be followed by the class of today."""

from collections.abc import Sequence

from activities.requests.recovery import record_lost
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.ledger import PostgresLedger
from infra.settings import Settings
from infra.temporal.client import connect
from infra.temporal.upgrade import OpenWorkflow, open_request_workflows, terminate


async def left_open(settings: Settings) -> list[OpenWorkflow]:
    """Their workflows. Raises DependencyUnavailable."""
    keyring = Keyring(settings.encryption_key_texts)
    return await open_request_workflows(await connect(settings, keyring, "migrate"))


async def end(settings: Settings, database_url: str, left: Sequence[OpenWorkflow]) -> int:
    """End workflows; how many of their requests had no terminal row, and have one now. Raises DependencyUnavailable."""
    keyring, recorded = Keyring(settings.encryption_key_texts), 0
    client = await connect(settings, keyring, "migrate")
    async with Database(database_url) as database:
        ledger = PostgresLedger(database, keyring)
        for workflow in left:
            if await ledger.find(workflow.request.key) is None:
                await record_lost(ledger, keyring.mac, workflow.request)
                recorded += 1
            await terminate(client, workflow.workflow_id)
        await ledger.close()
    return recorded
