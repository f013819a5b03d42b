"""Decides when rows that were written should be flushed, and does it in the background."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from modelpilot.errors import DependencyUnavailable

_log = structlog.get_logger(__name__)


class Flusher:
    """Calls `flush` after `rows` written rows or `interval_s` after the first of them, whichever comes first.

    A failed flush is logged and tried again with the next write. `rows` None switches it off.
    """

    def __init__(self, flush: Callable[[], Awaitable[None]], rows: int | None, interval_s: float) -> None:
        self._flush = flush
        self._rows = rows
        self._interval_s = interval_s
        self._unflushed = 0
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wrote(self, rows: int) -> None:
        """Note that rows were written."""
        if self._rows is None or rows == 0:
            return
        self._unflushed += rows
        if self._unflushed >= self._rows:
            self._due.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Flush what is left, once."""
        if self._task is not None and not self._task.done():
            self._due.set()
            await self._task

    async def _run(self) -> None:
        while self._unflushed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._due.wait()
            self._due.clear()
            self._unflushed = 0
            try:
                await self._flush()
            except DependencyUnavailable as error:
                _log.warning("milvus_flush_failed", error=error.message)
