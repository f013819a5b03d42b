"""Real servers for tests: started like `modelpilot up` starts them, each with a data directory of its own."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from infra.local import ports
from infra.local.child import Child
from infra.local.data_dir import DataDir
from infra.local.postgres import PostgresPlan, postgres_service
from infra.local.service import Service, bring_up
from infra.local.stack import MilvusPlan, TemporalPlan, milvus_service, simulator_service, temporal_service

# What the tests check does not depend on surviving a power cut.
FAST = (("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off"))


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Run services, which come up and end at the same time, for the length of a `with` block."""
    # A loop of its own, never installed as the thread's current one: pytest-asyncio owns that.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        children = runner.run(_up(services))
        try:
            yield
        finally:
            runner.run(_down(children))


async def _up(services: Sequence[Service]) -> list[Child]:
    started = await asyncio.gather(*map(bring_up, services), return_exceptions=True)
    children = [one for one in started if isinstance(one, Child)]
    for one in started:
        if isinstance(one, BaseException):
            await _down(children)
            raise one
    return children


async def _down(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))


@contextmanager
def postgres(directory: Path) -> Iterator[PostgresPlan]:
    """An empty Postgres server."""
    plan, service = _postgres(directory)
    with running(service):
        yield plan


@contextmanager
def temporal(directory: Path) -> Iterator[str]:
    """A Temporal dev server without Web UI; yields its address."""
    plan = TemporalPlan(directory / "temporal.db", directory / "temporal.log", ports.free_port(), ui_port=None)
    with running(temporal_service(plan)):
        yield plan.address


@contextmanager
def milvus(directory: Path) -> Iterator[str]:
    """A Milvus Lite server; yields its URI."""
    uri, service = _milvus(directory)
    with running(service):
        yield uri


@contextmanager
def simulator(directory: Path) -> Iterator[str]:
    """The simulator as its own process; yields its base URL."""
    url, service = _simulator(directory)
    with running(service):
        yield url


@contextmanager
def all_four(directory: Path) -> Iterator[tuple[PostgresPlan, str, str, str]]:
    """All of them, each below a folder of its own name; yields what each of them does, in the order above."""
    for name in ("postgres", "temporal", "milvus", "simulator"):
        (directory / name).mkdir()
    # Temporal takes further ports, so others are chosen when it is up.
    with temporal(directory / "temporal") as address:
        plan, database = _postgres(directory / "postgres")
        uri, vectors = _milvus(directory / "milvus")
        url, provider = _simulator(directory / "simulator")
        with running(database, vectors, provider):
            yield plan, address, uri, url


def _postgres(directory: Path) -> tuple[PostgresPlan, Service]:
    plan = PostgresPlan(directory / "postgres", directory / "postgres.log", FAST)
    return plan, postgres_service(plan)


def _milvus(directory: Path) -> tuple[str, Service]:
    plan = MilvusPlan(directory / "milvus", directory / "milvus.log", ports.free_port())
    return plan.uri, milvus_service(plan)


def _simulator(directory: Path) -> tuple[str, Service]:
    data, port = DataDir(directory), ports.free_port()
    data.create()
    return f"http://{ports.LOOPBACK}:{port}", simulator_service(data, port)


# Databases that live for one test.


@contextmanager
def temporary_database(server: PostgresPlan, template: str = "template1") -> Iterator[str]:
    """A new database, a copy of `template` (cheap: a copy of its files); dropped at the end, clients or not."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield name
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# A server that takes no connection.

_MORE_THAN_THE_BACKLOG = 8


@contextlib.contextmanager
def deaf_server() -> Iterator[str]:
    """`host:port` of a server that is full: the kernel answers no further connection."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(_MORE_THAN_THE_BACKLOG):  # the first fill it, the rest stay half open
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"


# A relay in front of Postgres that can fail like a network or a server: refuse, cut, freeze, and come back.


class DatabaseRelay:
    """Forwards a loopback port to the server behind `url`."""

    def __init__(self, url: str) -> None:
        self._target = conninfo_to_dict(url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        """Like the original URL, through the relay."""
        user, database = str(self._target.get("user", "postgres")), str(self._target["dbname"])
        password = quote(str(self._target.get("password") or ""), safe="")
        return f"postgresql://{quote(user, safe='')}:{password}@127.0.0.1:{self._port}/{database}"

    async def up(self) -> None:
        """Accept connections (again, on the same port)."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break every connection; new ones are still accepted."""
        for writer in self._writers:
            writer.transport.abort()

    def down(self) -> None:
        """Break every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def freeze(self) -> None:
        """Keep connections open and accept new ones, but let nothing through."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything through that waited."""
        self._flowing.set()

    async def close(self) -> None:
        """Stop for good."""
        self.down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._connect()
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._target.get("host") or "127.0.0.1"), int(self._target.get("port") or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            return  # the other side hears of it by the abort below
        finally:
            self._writers.discard(sink)
            sink.transport.abort()


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[DatabaseRelay]:
    """A running relay."""
    relay = DatabaseRelay(url)
    await relay.up()
    try:
        yield relay
    finally:
        await relay.close()
