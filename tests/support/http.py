"""An application behind the product's own HTTP server, in process on loopback, and clients that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from api.app import RUNNER_OPTIONS
from api.http.connections import ConnectionLimits, GuardedRunner


@asynccontextmanager
async def serving(app: web.Application, limits: ConnectionLimits | None = None) -> AsyncIterator[int]:
    """The port at which `app` is served until the end of the block."""
    runner = GuardedRunner(app, limits or ConnectionLimits(most=100), shutdown_timeout=0.1, **RUNNER_OPTIONS)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Wire:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @staticmethod
    @asynccontextmanager
    async def to(port: int, limit: int = 2**16) -> AsyncIterator["Wire"]:
        """A connection until the end of the block; of what comes, `limit` bytes are taken before somebody asks."""
        wire = Wire(*await asyncio.open_connection("127.0.0.1", port, limit=limit))
        try:
            yield wire
        finally:
            wire.writer.transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it."""
        return not self.reader.at_eof()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.writer.write(data)

    async def line(self) -> bytes:
        """The next line, with its end; empty at the end of the connection."""
        return await self.reader.readline()

    async def answer(self) -> Answer:
        """The next answer, which has a content-length."""
        status = int((await self.line()).split()[1])
        headers: dict[str, str] = {}
        while (line := (await self.line()).decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Answer(status, headers, await self.reader.readexactly(int(headers.get("content-length", 0))))

    async def ended(self) -> bytes:
        """What comes until the server closes the connection, or cuts it."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""
