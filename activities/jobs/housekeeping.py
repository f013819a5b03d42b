"""The steps of housekeeping: delete expired rows, store waiting history points, index written vectors."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from temporalio import activity

from modelpilot import names
from modelpilot.errors import DependencyUnavailable, InvalidRequest
from modelpilot.learning.online import LearnerStore
from modelpilot.requests.erasure import Forgotten, PointTotals
from modelpilot.requests.housekeeping import BatchLimit, BatchReport, FlushInput, FlushReport
from modelpilot.requests.ports import HistoryWriter
from modelpilot.requests.records import HistoryPoint, HistoryScope

log = structlog.get_logger(__name__)


class Swept(Protocol):
    """What a sweep deleted."""

    @property
    def total(self) -> int:
        """Rows of all kinds; 0 means that nothing is left to sweep."""
        ...


class Sweeper(Protocol):
    """Expired rows."""

    async def sweep(self, batch: int) -> Swept:
        """Delete at most `batch` rows of each kind. Raises DependencyUnavailable."""
        ...


class Outbox(Protocol):
    """History points that wait until the vector store is back."""

    async def replay(
        self,
        replay: Callable[[Sequence[HistoryPoint]], Awaitable[None]],
        forget: Callable[[Forgotten], Awaitable[None]],
        rebuild: Callable[[HistoryScope, Sequence[PointTotals]], Awaitable[None]],
        limit: int,
    ) -> int:
        """Hand up to `limit` points over, what is to be forgotten and what is left of others, and drop them; how many
        there were. They stay where one raises."""
        ...


class VectorHistory(HistoryWriter, Protocol):
    """A history that can be made to index what was written, and to forget."""

    async def forget(self, which: Forgotten) -> None:
        """Raises DependencyUnavailable."""
        ...

    async def rebuild(self, scope: HistoryScope, totals: Sequence[PointTotals]) -> None:
        """Raises DependencyUnavailable."""
        ...

    async def flush(self) -> None:
        """Raises DependencyUnavailable."""
        ...


class MaintenanceActivities:
    """Each one is idempotent and bounded, and stops between two batches when its worker does."""

    def __init__(self, sweeper: Sweeper, outbox: Outbox, history: VectorHistory, learners: LearnerStore) -> None:
        self._sweeper, self._outbox, self._history, self._learners = sweeper, outbox, history, learners

    @activity.defn(name=names.PURGE_EXPIRED)
    async def purge_expired(self, limit: BatchLimit) -> BatchReport:
        """Delete expired payloads, names, claims and instances. Raises DependencyUnavailable."""

        async def sweep() -> tuple[int, bool]:
            deleted = (await self._sweeper.sweep(limit.rows)).total
            return deleted, deleted > 0

        return await _in_batches(sweep, limit)

    @activity.defn(name=names.REPLAY_OUTBOX)
    async def replay_outbox(self, limit: BatchLimit) -> BatchReport:
        """Store waiting history points, at least once each. Raises DependencyUnavailable; then the rest waits on."""

        async def replay() -> tuple[int, bool]:
            replayed = await self._replayed(limit.rows)
            return replayed, replayed == limit.rows

        return await _in_batches(replay, limit)

    async def keep_storing(self, every_s: float, rows: int = 500) -> None:
        """Take what was learnt from the outbox to the vector store until canceled: no request waits for that."""
        await _keep_emptying(self._replayed, every_s, rows, "outbox_waits")

    @activity.defn(name=names.FLUSH_VECTORS)
    async def flush_vectors(self, _: FlushInput) -> FlushReport:
        """Make the vector store index what all processes have written. Raises DependencyUnavailable."""
        began = time.perf_counter()
        await self._history.flush()
        return FlushReport(round((time.perf_counter() - began) * 1000.0, 1))

    async def _replayed(self, rows: int) -> int:
        return await self._outbox.replay(self._store, self._forget, self._rebuild, rows)

    async def _forget(self, which: Forgotten) -> None:
        await self._history.forget(which)
        if which.model:  # what was learnt for a router goes with its row
            await self._learners.forget_model(which.user_id, which.model)

    async def _rebuild(self, scope: HistoryScope, totals: Sequence[PointTotals]) -> None:
        await self._history.rebuild(scope, totals)
        await self._learners.recount(scope, [each.point_id.removesuffix(f"/{each.model}") for each in totals])

    async def _store(self, points: Sequence[HistoryPoint]) -> None:
        await self._learners.learn(points)
        results = await asyncio.gather(*map(self._history.store, points), return_exceptions=True)
        for point, result in zip(points, results, strict=True):
            if isinstance(result, InvalidRequest):
                # It will never be accepted, and would keep all later points waiting.
                log.error("history_point_dropped", request_id=point.request_id, reason=result.message)
            elif isinstance(result, BaseException):
                raise result


async def keep_regrading(learners: LearnerStore, every_s: float, rows: int = 500) -> None:
    """Take revised grades into what routers learn online until canceled."""
    await _keep_emptying(learners.regrade, every_s, rows, "regrading_waits")


async def _keep_emptying(take: Callable[[int], Awaitable[int]], every_s: float, rows: int, waits: str) -> None:
    """Take up to `rows` at a time until there are fewer, again and again; `waits` is what the log says meanwhile."""
    while True:
        try:
            while await take(rows) == rows:
                pass
        except DependencyUnavailable as error:
            log.warning(waits, error=error.message)
        await asyncio.sleep(every_s)


async def _in_batches(batch: Callable[[], Awaitable[tuple[int, bool]]], limit: BatchLimit) -> BatchReport:
    """Repeat `batch`, which says how many rows it did and whether there may be more."""
    rows = 0
    for _ in range(limit.batches):
        if activity.is_worker_shutdown():
            break
        done, more = await batch()
        rows += done
        activity.heartbeat(rows)
        if not more:
            return BatchReport(rows)
    return BatchReport(rows, more=True)
