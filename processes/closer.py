"""`modelpilot closer`: feeds Temporal from the ledger, so that every accepted request has its one workflow."""

from contextlib import AsyncExitStack
from functools import partial

import structlog

from activities.requests.closer import Closer
from activities.requests.recovery import record_lost
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.open_requests import OpenRequests
from infra.local.data_dir import DataDir
from infra.settings import Settings
from infra.temporal.client import connect, ensure_search_attributes
from infra.temporal.first_task import TemporalFirstTasks
from infra.temporal.health import TemporalHealth
from processes.parts import announced, instance_name, open_leases, open_ledger, run_process

log = structlog.get_logger(__name__)

_NEEDED = ("database_url", "temporal_address", "encryption_keys")


def command() -> None:
    """Close requests until SIGINT or SIGTERM. Exit codes: 0 stopped, 1 a service failed, 2 wrong configuration."""
    run_process("closer", _NEEDED, run)


async def run(settings: Settings) -> None:
    """Close requests until canceled. Raises DependencyUnavailable where Temporal is not there at the start."""
    async with AsyncExitStack() as stack:
        closer = await build(settings, stack)
        with announced(DataDir(settings.data_dir).closer_ready):
            await closer.run()


async def build(settings: Settings, stack: AsyncExitStack) -> Closer:
    """The closer over real services; what was opened is closed by `stack`."""
    instance, keyring = instance_name("closer"), Keyring(settings.encryption_key_texts)
    client = await connect(settings, keyring, instance)
    await ensure_search_attributes(client)
    database = await stack.enter_async_context(Database(str(settings.database_url), max_size=4))
    await open_leases(settings, database, instance, stack)
    ledger = open_ledger(settings, database, keyring, stack)
    rows = OpenRequests(
        database,
        keyring,
        instance,
        lease_seconds=settings.lease_seconds,
        retention_hours=settings.result_retention_hours,
    )
    tasks = TemporalFirstTasks(client, keyring, TemporalHealth(client))
    log.info("closer_started", instance=instance)
    return Closer(rows, tasks, partial(record_lost, ledger, keyring.mac))
