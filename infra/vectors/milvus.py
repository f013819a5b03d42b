"""Prompt history in Milvus: the source of truth for what similar prompts cost, took and were worth."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog
from pymilvus import MilvusClient

from infra.group_commit import GroupCommitter
from infra.vectors import operations
from infra.vectors.client import MilvusCollection, MilvusConfig
from infra.vectors.rows import HistoryRow, check_point
from infra.vectors.schema import ALL_FIELDS, forgotten_filter, partition_of
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch
from modelpilot.requests.erasure import Forgotten, PointTotals
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, Vector

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_WRITE_DEADLINE_S = 3.0
_BULK_DEADLINE_S = operations.BULK_TIMEOUT_S


class MilvusHistory:
    """`History` over one Milvus collection (server or cluster), shared by all routers.

    Every read and deletion is filtered by scope. Opens itself on first use and again after Milvus was away.
    `deadline_ms` bounds a query; `window_ms` and `group_rows` bound how long a store waits for company. After
    `flush_rows` stored rows, or `flush_interval_s`, the rows are flushed, since Milvus Lite searches unflushed ones
    one by one (None: never; a cluster does it by itself). Pages of `page_rows` are small: while pymilvus unpacks one, a
    thread holds the GIL that requests need, too.
    """

    def __init__(
        self,
        uri: str,
        *,
        embedder: str,
        dimension: int,
        token: str = "",
        collection: str = "prompt_outcomes",
        deadline_ms: float = 25.0,
        window_ms: float = 200.0,
        group_rows: int = 200,
        flush_rows: int | None = 500,
        flush_interval_s: float = 10.0,
        page_rows: int = 2_000,
    ) -> None:
        config = MilvusConfig(uri, embedder, dimension, token, collection)
        self._name = collection
        self._collection = MilvusCollection(config)
        self._deadline_s = deadline_ms / 1_000
        self._page_rows = page_rows
        self._group: GroupCommitter[HistoryPoint, None] = GroupCommitter(
            self._write_group, batch_size=group_rows, window_s=window_ms / 1_000
        )
        self._flusher = _Flusher(self._flush_now, flush_rows, flush_interval_s)
        # Reading and writing back is not atomic in Milvus: within this process nothing comes between.
        self._writing = asyncio.Lock()

    @property
    def dimension(self) -> int:
        """Length of every vector of this history."""
        return self._collection.config.dimension

    async def open(self) -> None:
        """Connect now. Raises EmbedderMismatch, or DependencyUnavailable (then later calls try again)."""
        await self._collection.open()

    async def ping(self) -> None:
        """Raises EmbedderMismatch or DependencyUnavailable unless Milvus answers."""
        await self._collection.call(
            "bulk", _WRITE_DEADLINE_S, lambda client: client.has_collection(self._name, timeout=_WRITE_DEADLINE_S)
        )

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        """The `limit` nearest past outcomes of the scope. Raises DependencyUnavailable at the deadline."""
        if vector.shape != (self.dimension,):
            raise EmbedderMismatch(f"the history holds vectors of {self.dimension} numbers, not {vector.shape}")

        def search(client: MilvusClient) -> Neighbours:
            return operations.search(client, self._name, scope, vector, limit, self._deadline_s)

        return await self._read("search", self._deadline_s, scope, search, Neighbours.empty())

    async def store(self, point: HistoryPoint) -> None:
        """Fold the point into its row, grouped with concurrent calls. The same request right after itself changes
        nothing. Raises DependencyUnavailable; InvalidRequest or EmbedderMismatch for a point Milvus would refuse."""
        check_point(point, self.dimension)
        await self._group.submit(point)

    async def update_quality(self, scope: HistoryScope, updates: Sequence[QualityUpdate]) -> int:
        """Replace the quality of points (after re-scoring); returns how many of them exist."""
        found = 0
        for start in range(0, len(updates), self._page_rows):
            found += await self._revise(scope, updates[start : start + self._page_rows])
        return found

    async def count(self, scope: HistoryScope) -> int:
        """Number of rows of the scope."""
        return await self._read(
            "bulk", _BULK_DEADLINE_S, scope, lambda client: operations.count_rows(client, self._name, scope), 0
        )

    async def newest_since(self, scope: HistoryScope, rows: int) -> float:
        """The smallest timestamp (Unix s) of the scope's newest `rows` rows; 0.0 where it has no more than that."""
        return await self._read(
            "bulk",
            _BULK_DEADLINE_S,
            scope,
            lambda client: operations.newest_since(client, self._name, scope, rows),
            0.0,
        )

    async def scan(
        self, scope: HistoryScope, *, updated_since: float = 0.0, min_timestamp: float = 0.0
    ) -> AsyncIterator[list[HistoryRow]]:
        """Yield pages of the scope's rows by primary key, optionally only those written or seen since (Unix s)."""
        bounds = {"updated_at": updated_since, "timestamp": min_timestamp}
        # Only bounds that exclude something: Milvus Lite evaluates each for every row and page.
        conditions = [f"{name} >= {bound:.6f}" for name, bound in bounds.items() if bound > 0.0]
        after = ""
        while True:
            page = await self._page(scope, after, conditions)
            if page:
                yield page
            if len(page) < self._page_rows:
                return
            after = page[-1].pk

    async def delete_scope(self, scope: HistoryScope) -> None:
        """Forget everything about a router."""
        async with self._writing:
            await self._read(
                "bulk", _BULK_DEADLINE_S, scope, lambda client: operations.delete_scope(client, self._name, scope), None
            )

    async def forget(self, which: Forgotten) -> None:
        """Forget a router, a model at every router of its owner, or an owner."""
        if which.router_id and not which.model:
            await self.delete_scope(HistoryScope(which.user_id, which.router_id))
        else:
            await self._delete_where(forgotten_filter(which))

    async def forget_before(self, timestamp: float) -> None:
        """Forget points whose newest outcome is older than that, Unix seconds, whosever they are."""
        await self._delete_where(f"timestamp < {timestamp:.6f}")

    async def rebuild(self, scope: HistoryScope, totals: Sequence[PointTotals]) -> None:
        """Make points what is left of them; those of no request go."""

        def run(client: MilvusClient) -> None:
            operations.rebuild(client, self._name, scope, totals, time.time())

        async with self._writing:
            await self._read("bulk", _BULK_DEADLINE_S, scope, run, None)
        self._flusher.wrote(len(totals))

    async def _delete_where(self, condition: str) -> None:
        async with self._writing:
            await self._collection.call(
                "bulk", _BULK_DEADLINE_S, lambda client: operations.delete_where(client, self._name, condition)
            )

    async def flush(self) -> None:
        """Write out everything stored so far and make Milvus persist and index it."""
        await self._group.drain()
        await self._flush_now()

    async def close(self) -> None:
        """Write out what waits (best effort) and let go of the connection."""
        await self._group.close()
        await self._flusher.close()
        await self._collection.close()

    async def _read(
        self, lane: str, deadline_s: float, scope: HistoryScope, operation: Callable[[MilvusClient], T], default: T
    ) -> T:
        # A router without a partition has no history yet, and Milvus would call naming it an error.
        def run(client: MilvusClient) -> T:
            known = self._collection.has_partition(client, partition_of(scope))
            return operation(client) if known else default

        return await self._collection.call(lane, deadline_s, run)

    async def _page(self, scope: HistoryScope, after: str, conditions: Sequence[str]) -> list[HistoryRow]:
        def read(client: MilvusClient) -> list[HistoryRow]:
            page = operations.read_page(client, self._name, scope, ALL_FIELDS, self._page_rows, after, conditions)
            return [HistoryRow.from_entity(entity) for entity in page]

        return await self._read("bulk", _BULK_DEADLINE_S, scope, read, [])

    async def _write_group(self, points: Sequence[HistoryPoint]) -> list[Exception | None]:
        partitions: dict[str, list[int]] = {}
        for index, point in enumerate(points):
            partitions.setdefault(partition_of(point.scope), []).append(index)
        errors: list[Exception | None] = [None] * len(points)
        for partition, indices in partitions.items():
            try:
                await self._write_partition(partition, [points[index] for index in indices])
            except Exception as error:  # noqa: BLE001  (every caller is told; the group must not be written again)
                for index in indices:
                    errors[index] = error
        return errors

    async def _write_partition(self, partition: str, points: list[HistoryPoint]) -> None:
        def write(client: MilvusClient) -> None:
            self._collection.ensure_partition(client, partition)
            operations.fold_points(client, self._name, partition, points, time.time())

        async with self._writing:
            await self._collection.call("write", _WRITE_DEADLINE_S, write)
        self._flusher.wrote(len(points))

    async def _revise(self, scope: HistoryScope, updates: Sequence[QualityUpdate]) -> int:
        def revise(client: MilvusClient) -> int:
            return operations.revise_quality(client, self._name, scope, updates, time.time())

        async with self._writing:
            found = await self._read("write", _BULK_DEADLINE_S, scope, revise, 0)
        self._flusher.wrote(found)
        return found

    async def _flush_now(self) -> None:
        await self._collection.call(
            "bulk", _BULK_DEADLINE_S, lambda client: client.flush(self._name, timeout=_BULK_DEADLINE_S)
        )


class _Flusher:
    """Calls `flush` in the background, `rows` written rows or `interval_s` after the first of them, whichever is first.

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
