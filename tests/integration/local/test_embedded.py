"""The embedded servers themselves: each starts, keeps its data across a stop and a kill, and dies with its parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.local import ports
from infra.local.data_dir import DataDir
from infra.local.environment import python_environment
from infra.local.postgres import PostgresPlan, postgres_service
from infra.local.service import Service, bring_up
from infra.local.stack import SEARCH_ATTRIBUTES, MilvusPlan, TemporalPlan, milvus_service, temporal_service
from tests.support.processes import alive, until

HOLDER = """
import asyncio, pathlib, signal, sys
from infra.local.service import bring_up
from tests.integration.local import test_embedded
child = asyncio.run(bring_up(getattr(test_embedded, sys.argv[1])(pathlib.Path(sys.argv[2])).service))
print(child.pid, flush=True)
signal.pause()
"""


@dataclass(frozen=True)
class Server:
    """A server and two things to do with it: leave a mark, and look for it."""

    service: Service
    mark: Callable[[], Any]
    marked: Callable[[], bool]


def postgres(root: Path) -> Server:
    plan = PostgresPlan(DataDir(root).postgres, root / "logs" / "postgres.log")

    def run(statement: str) -> list[Any]:
        with psycopg.connect(plan.url()) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return Server(
        postgres_service(plan),
        lambda: run("CREATE TABLE mark (id int)"),
        lambda: run("SELECT 1 FROM pg_tables WHERE tablename = 'mark'") == [(1,)],
    )


def temporal(root: Path) -> Server:
    from temporalio.client import Client
    from temporalio.service import RPCError

    data = DataDir(root)
    port = ports.remembered_port(data.ports, "temporal")
    plan = TemporalPlan(data.temporal_db, root / "logs" / "temporal.log", port, ui_port=None)

    async def mark() -> None:
        client = await Client.connect(plan.address)
        await client.start_workflow("Mark", id="mark", task_queue="nobody")

    async def marked() -> bool:
        client = await Client.connect(plan.address)
        try:
            await client.get_workflow_handle("mark").describe()
        except RPCError:
            return False
        return True

    return Server(temporal_service(plan), lambda: asyncio.run(mark()), lambda: asyncio.run(marked()))


def milvus(root: Path) -> Server:
    data = DataDir(root)
    plan = MilvusPlan(data.milvus, root / "logs" / "milvus.log", ports.remembered_port(data.ports, "milvus"))

    def run(use: Callable[[Any], Any]) -> Any:
        from pymilvus import MilvusClient

        client = MilvusClient(uri=plan.uri)
        try:
            return use(client)
        finally:
            client.close()

    def mark(client: Any) -> None:
        client.create_collection("mark", dimension=2)
        client.insert("mark", [{"id": 1, "vector": [1.0, 0.0]}])

    def marked(client: Any) -> bool:
        client.load_collection("mark")  # Milvus Lite forgets at a restart which collections were loaded
        return len(client.query("mark", "id == 1")) == 1

    return Server(milvus_service(plan), lambda: run(mark), lambda: bool(run(marked)))


SERVERS = pytest.mark.parametrize("server", [postgres, temporal, milvus])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    DataDir(tmp_path).create()
    return tmp_path


@SERVERS
async def test_data_survives_a_stop_and_a_kill(root: Path, server: Callable[[Path], Server]) -> None:
    """A restart of the stack, clean or not, finds everything that was written before."""
    for end in (signal.SIGTERM, signal.SIGKILL, None):
        started = server(root)
        child = await bring_up(started.service)
        try:
            if end is signal.SIGTERM:
                await asyncio.to_thread(started.mark)
            assert await asyncio.to_thread(started.marked)
            if end is signal.SIGKILL:
                child.kill()
        finally:
            await child.stop()


@SERVERS
async def test_servers_die_with_their_parent_and_start_again(root: Path, server: Callable[[Path], Server]) -> None:
    """After `kill -9` of the supervisor no server stays behind, and the next start is not hindered."""
    argv = [sys.executable, "-c", HOLDER, server.__name__, str(root)]
    holder = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, env=python_environment())
    assert holder.stdout is not None
    pid = int(await holder.stdout.readline())
    holder.kill()
    await holder.wait()
    child = await bring_up(server(root).service)
    await child.stop()
    await until(lambda: not alive(pid))


async def test_a_left_over_postgres_is_ended(root: Path) -> None:
    """Where the kernel does not end orphans, the next start ends the old server instead of failing on its lock."""
    old = await bring_up(postgres(root).service)
    new = await bring_up(postgres(root).service)
    try:
        assert not alive(old.pid)
        assert await old.wait() is not None
    finally:
        await new.stop()


async def test_postgres_restarts_on_the_same_url_after_losing_its_main_process(root: Path) -> None:
    """Its children may outlive the main process for a moment; the URL that roles were given stays good."""
    server = postgres(root)
    child = await bring_up(server.service)
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    child = await bring_up(server.service)
    try:
        await asyncio.to_thread(server.mark)
    finally:
        await child.stop()


async def test_postgres_works_below_a_path_that_no_socket_fits_in(tmp_path: Path) -> None:
    """A checkout in a deep directory with spaces and commas is as good as any."""
    root = tmp_path / ("deep, and long " * 8).strip()
    root.mkdir()
    DataDir(root).create()
    child = await bring_up(postgres(root).service)
    try:
        await asyncio.to_thread(postgres(root).mark)
    finally:
        await child.stop()


async def test_postgres_sorts_texts_the_same_everywhere(postgres_url: str) -> None:
    """Cursors page over text keys: their order must not depend on the machine's locale."""
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        cursor = await connection.execute("SELECT x FROM unnest(ARRAY['b', 'B', 'ä', 'a', '_']) AS x ORDER BY x")
        assert [row[0] for row in await cursor.fetchall()] == ["B", "_", "a", "b", "ä"]


async def test_temporal_has_the_search_attributes_when_it_is_ready(temporal_address: str) -> None:
    """The first workflow may set them: a start before they exist would fail."""
    from temporalio.client import Client

    client = await Client.connect(temporal_address)
    for name in SEARCH_ATTRIBUTES:
        assert [found async for found in client.list_workflows(f"{name} = 'nothing'")] == []


def test_databases_of_tests_are_migrated_and_apart(migrated_url: str, postgres_url: str) -> None:
    """A migrated test database has tables, an empty one has none."""

    def tables(url: str) -> int:
        with psycopg.connect(url) as connection:
            [count] = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() or (
                0,
            )
        return int(count)

    assert tables(migrated_url) > 0
    assert tables(postgres_url) == 0
