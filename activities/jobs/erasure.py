"""Erasing: one request at once, and the steps of a job for an end user or a tenant.

A request's workflow goes first, then its row, by one transaction: behind a crash in between, the row is found again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from temporalio import activity

from activities.jobs.heartbeats import heartbeats
from modelpilot import names
from modelpilot.errors import Conflict, DependencyUnavailable, NotFound
from modelpilot.requests.erasure import (
    EraseClose,
    EraseInput,
    EraseProgress,
    EraseReport,
    ErasureRunner,
    ErasureStore,
    Histories,
)
from modelpilot.requests.records import RequestKey

log = structlog.get_logger(__name__)

HEARTBEAT_S = 5.0
BATCH_ROWS = 100
SLICE_S = 20.0
_AT_ONCE = 8  # deletions in Temporal
# An answer is there before its workflow is closed: usually within a second.
PATIENCE_S = 5.0
_POLL_S = 0.1


class RequestErasure:
    """Erases one request for its owner."""

    def __init__(self, store: ErasureStore, histories: Histories, patience_s: float = PATIENCE_S) -> None:
        self._store, self._histories, self._patience_s = store, histories, patience_s

    async def ended(self, key: RequestKey) -> bool:
        """Whether there is such a request, waiting a moment for its end. Raises Conflict where it still runs."""
        given_up_at = time.monotonic() + self._patience_s
        while (state := await self._store.state(key)) == "open":
            if time.monotonic() >= given_up_at:
                message = "The request still runs, or its workflow is not closed yet: erase it when it has ended."
                raise Conflict(message, retry_after_s=self._patience_s)
            await asyncio.sleep(_POLL_S)
        return state == "closed"

    async def erase(self, key: RequestKey, actor: str) -> None:
        """Erase one that has ended. Raises NotFound, DependencyUnavailable."""
        await self._histories.forget(key)
        if not await self._store.erase(key, actor):
            raise NotFound("There is no such request.")


class NamesOfErased(Protocol):
    """Decisions that name erased requests."""

    async def unname(self) -> int:
        """Take these names out; of how many routers. Raises DependencyUnavailable."""
        ...


class EraseActivities:
    """Each step can be repeated: what is erased is not found again."""

    def __init__(self, store: ErasureStore, histories: Histories) -> None:
        self._store, self._histories = store, histories

    @activity.defn(name=names.OPEN_ERASURE)
    async def open_erasure(self, job: EraseInput) -> EraseProgress:
        """Count the job's requests. Raises DependencyUnavailable."""
        async with heartbeats(HEARTBEAT_S):
            return await self._store.open(job)

    @activity.defn(name=names.ERASE_SLICE)
    async def erase_slice(self, job: EraseInput) -> EraseReport:
        """Erase closed requests of the job, batch by batch, for about SLICE_S. Raises DependencyUnavailable."""
        async with heartbeats(HEARTBEAT_S):
            return await self._slice(job)

    async def _slice(self, job: EraseInput) -> EraseReport:
        end = time.monotonic() + SLICE_S
        progress = await self._store.open(job)
        while time.monotonic() < end and not activity.is_worker_shutdown():
            keys = await self._store.due(job, BATCH_ROWS)
            if not keys:
                waiting = await self._store.waits(job)
                return EraseReport(progress, finished=not waiting, waiting=waiting)
            await self._forget(keys)
            progress = await self._store.erase_batch(job, keys)
        return EraseReport(progress, finished=False)

    @activity.defn(name=names.CLOSE_ERASURE)
    async def close_erasure(self, close: EraseClose) -> EraseProgress:
        """Erase what is left besides requests, and write how the job ended. Raises DependencyUnavailable."""
        async with heartbeats(HEARTBEAT_S):
            progress = await self._store.close(close)
        log.info("erasure_closed", job=close.job.job_id, status=close.status, done=progress.done)
        return progress

    async def _forget(self, keys: Sequence[RequestKey]) -> None:
        free = asyncio.Semaphore(_AT_ONCE)

        async def forget(key: RequestKey) -> None:
            async with free:
                await self._histories.forget(key)

        await asyncio.gather(*map(forget, keys))


async def keep_erasing(store: ErasureStore, runner: ErasureRunner, erased: NamesOfErased, every_s: float) -> None:
    """Start jobs whose workflows could not be started with them, and clean decisions, until canceled."""

    async def start() -> None:
        for job in await store.waiting():
            await runner.start(job)

    async def unname() -> None:
        await erased.unname()

    works: tuple[Callable[[], Awaitable[None]], ...] = (start, unname)
    while True:
        for work in works:
            try:
                await work()
            except DependencyUnavailable as error:
                log.warning("erasing_waits", error=error.message)
        await asyncio.sleep(every_s)
