"""Postgres away, cut off, frozen or exhausted: a clear error in bounded time, and recovery without a restart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from infra.db.engine import Database
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.requests.ledger import PostgresLedger
from infra.db.routing.notifications import ConfigurationListener
from modelpilot.errors import DependencyUnavailable
from modelpilot.management.resources import NewApiKey
from modelpilot.routing.router import Router
from tests.support.samples import keyring, record
from tests.support.servers import DatabaseRelay, relayed


@pytest.fixture
async def relay(migrated_url: str) -> AsyncIterator[DatabaseRelay]:
    async with relayed(migrated_url) as running:
        yield running


@pytest.fixture
async def database(relay: DatabaseRelay) -> AsyncIterator[Database]:
    async with Database(relay.url, max_size=4, wait_s=0.5, operation_s=0.5) as opened:
        yield opened


async def _until_back(database: Database) -> None:
    while True:
        try:
            return await database.ping()
        except DependencyUnavailable:
            continue  # each try waits for a connection, so this does not spin


async def test_an_outage_is_a_clear_error_and_passes(relay: DatabaseRelay, database: Database) -> None:
    """Down: DependencyUnavailable with a time to come back. Up again: works by itself."""
    await database.ping()
    relay.down()
    with pytest.raises(DependencyUnavailable) as refused:
        await database.ping()
    assert refused.value.retry_after_s is not None
    assert "127.0.0.1" not in str(refused.value)
    await relay.up()
    await _until_back(database)


async def test_a_process_may_start_before_postgres(relay: DatabaseRelay) -> None:
    """Opening does not wait for the server; calls do, for a bounded time."""
    relay.down()
    async with Database(relay.url, wait_s=0.3) as early:
        with pytest.raises(DependencyUnavailable):
            await early.ping()
        await relay.up()
        await _until_back(early)


async def test_broken_idle_connections_are_not_noticed_by_callers(relay: DatabaseRelay, database: Database) -> None:
    """After a restart of Postgres the first requests succeed: stale connections are replaced before use."""
    await asyncio.gather(*(database.fetch_all("SELECT pg_sleep(0.02)") for _ in range(4)))
    relay.cut()
    await asyncio.sleep(0)
    assert await asyncio.gather(*(database.fetch_one("SELECT 1 AS one") for _ in range(8))) == [{"one": 1}] * 8


async def test_records_survive_cut_connections(relay: DatabaseRelay, database: Database, migrated_url: str) -> None:
    """Connections that break under load lose no row: each record is stored exactly once or its caller is told."""
    ledger = PostgresLedger(database, keyring())
    tasks = []
    for number in range(200):
        tasks.append(asyncio.create_task(ledger.record(record(request_id=f"r{number}"))))
        if number % 50 == 25:
            relay.cut()
        await database_turn()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    told = {f"r{number}" for number, result in enumerate(results) if isinstance(result, DependencyUnavailable)}
    assert all(isinstance(result, bool | DependencyUnavailable) for result in results)
    async with Database(migrated_url) as direct:
        stored = {row["request_id"] for row in await direct.fetch_all("SELECT request_id FROM requests")}
        missing = {f"r{number}" for number in range(200)} - stored
        assert missing <= told
        again = PostgresLedger(direct, keyring())
        await asyncio.gather(*(again.record(record(request_id=request_id)) for request_id in told))
        count = await direct.fetch_one("SELECT count(*) AS rows FROM requests")
    assert count == {"rows": 200}


async def database_turn() -> None:
    """Let the event loop serve sockets a few times."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_frozen_server_hangs_nobody(relay: DatabaseRelay, database: Database) -> None:
    """A server that accepts and never answers costs a bounded time, and works again once it thaws."""
    await database.ping()
    relay.freeze()
    with pytest.raises(DependencyUnavailable):
        await asyncio.wait_for(database.ping(), 30.0)
    relay.thaw()
    await _until_back(database)


async def test_an_exhausted_pool_waits_for_a_bounded_time(database: Database) -> None:
    """With every connection busy a caller is refused after a while, and served when one is free."""
    async with AsyncExitStack() as busy:
        for _ in range(4):
            await busy.enter_async_context(database.connection(operation_s=60.0))
        with pytest.raises(DependencyUnavailable):
            await database.ping()
    await database.ping()


async def test_every_adapter_speaks_of_an_outage(relay: DatabaseRelay, database: Database) -> None:
    """No psycopg error leaves this package."""
    relay.down()
    ledger = PostgresLedger(database, keyring())
    calls = [
        ledger.record(record()),
        ledger.find(record().key),
        ledger.put_body(record().key, b""),
        ledger.reserve("alice", "request-id", "n", b"", "r"),
        PostgresRouterRepository(database).put("alice", Router(id="r", available_models=["m"]), "k"),
        PostgresApiKeyRepository(database).create("alice", NewApiKey()),
        PostgresApiKeyRepository(database).authenticate("mp_" + "0" * 64),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [DependencyUnavailable] * len(calls)


async def test_the_listener_comes_back(relay: DatabaseRelay, migrated_url: str) -> None:
    """After an outage the listener says that changes may have been missed, and hears new ones."""
    heard: asyncio.Queue[str | None] = asyncio.Queue()

    def hear(kind: str | None, user_id: str = "", subject: str = "") -> None:
        heard.put_nowait(kind)

    relay.down()
    listener = ConfigurationListener(relay.url, hear)
    await listener.start()
    await relay.up()
    await listener.wait_until_listening()
    relay.down()
    await relay.up()
    assert await heard.get() is None
    async with Database(migrated_url) as direct:
        await PostgresRouterRepository(direct).put("alice", Router(id="r", available_models=["m"]), "k")
    assert await heard.get() == "router"
    await listener.stop()
