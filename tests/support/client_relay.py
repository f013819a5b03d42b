"""A relay between a client and a gateway that can lose the client without the gateway noticing, as a proxy may."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class ClientRelay:
    """Forwards a loopback port to the gateway at `url`."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._clients: list[asyncio.StreamWriter] = []
        self._gateways: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.url = ""

    @property
    def connections(self) -> int:
        """How many connections were made so far."""
        return len(self._gateways)

    def lose_clients(self) -> None:
        """Break every connection on the client's side; those to the gateway stay open."""
        for writer in self._clients:
            writer.transport.abort()
        self._clients.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        there, back = await asyncio.open_connection(self._host, self._port)
        self._clients.append(writer)
        self._gateways.append(back)
        self._tasks += [asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))]

    async def close(self) -> None:
        """Break everything."""
        for writer in (*self._clients, *self._gateways):
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        return  # the test lost this side on purpose


@asynccontextmanager
async def client_relay(url: str) -> AsyncIterator[ClientRelay]:
    """A running relay."""
    relay = ClientRelay(url)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
