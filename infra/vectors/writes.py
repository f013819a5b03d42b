"""Decides when rows that were written should be flushed, and does it in the background."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

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


# Group commit: concurrent calls wait a moment for each other and then share one write.

Item = TypeVar("Item")
# Answers one outcome per item: None, or the error that its `add` should raise.
Write = Callable[[Sequence[Item]], Awaitable[Sequence[Exception | None]]]


class GroupCommit(Generic[Item]):
    """Collects items for `window_s` or until there are `limit`, and hands them to `write`, one group at a time.

    An item's `add` returns when its group is written and raises what `write` raised. Canceling an `add` does not
    take the item out of its group.
    """

    def __init__(self, write: Write[Item], window_s: float, limit: int) -> None:
        self._write = write
        self._window_s = window_s
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[None]]] = []
        self._full = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> None:
        """Write `item` together with what else is waiting."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if len(self._waiting) >= self._limit:
            self._full.set()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._run())
        await done

    async def drain(self) -> None:
        """Wait until everything added so far is written (or has failed)."""
        self._full.set()
        if self._writer is not None:
            await asyncio.shield(self._writer)

    async def _run(self) -> None:
        while self._waiting:
            if len(self._waiting) < self._limit:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._window_s):
                        await self._full.wait()
            self._full.clear()
            group, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
            await self._write_group(group)

    async def _write_group(self, group: list[tuple[Item, asyncio.Future[None]]]) -> None:
        try:
            errors = await self._write([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - every caller is told, and the writer lives on for the next group
            errors = [error] * len(group)
        except asyncio.CancelledError:
            for _, done in group:
                done.cancel()
            raise
        for (_, done), error_or_none in zip(group, errors, strict=True):
            if done.done():
                continue  # its caller has gone away
            if error_or_none is None:
                done.set_result(None)
            else:
                done.set_exception(error_or_none)
