"""Runs the simulator on a real port."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from simulator.app import create_app
from simulator.state import SimulatorConfig

_SHUTDOWN_S = 2.0  # Silent calls end at once when the server stops; this is for answers on their way.


@asynccontextmanager
async def running(config: SimulatorConfig, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; yields the base URL. Port 0 is any free one. Raises `OSError` if it is taken."""
    runner = web.AppRunner(create_app(config), handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        yield f"http://{host}:{address[1]}"
    finally:
        await runner.cleanup()


async def serve(
    config: SimulatorConfig, host: str, port: int, stop: asyncio.Event, ready: Callable[[str], None]
) -> None:
    """Serve until `stop` is set; `ready` is told the base URL once connections are accepted."""
    async with running(config, host, port) as url:
        ready(url)
        await stop.wait()
