"""Heartbeats of a step that says nothing by itself for longer than Temporal waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity


@asynccontextmanager
async def heartbeats(every_s: float, *details: object) -> AsyncIterator[None]:
    """Heartbeats for as long as the block runs: a lost worker is noticed, and a cancellation is heard."""

    async def beat() -> None:
        while True:
            activity.heartbeat(*details)
            await asyncio.sleep(every_s)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
