"""A relay in front of Postgres that can fail like a network or a server: refuse, cut, freeze, and come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


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
