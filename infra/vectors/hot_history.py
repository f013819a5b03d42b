"""History searched in memory for routers in use, with Milvus behind it as the source of truth."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import structlog

from infra.vectors.hot_copy import HotCopy
from infra.vectors.rows import HistoryRow, check_point
from infra.vectors.schema import primary_key
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch
from modelpilot.requests.ports import History
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, Vector

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# Written rows are looked for a little into the past: clocks of gateways differ, and groups take a moment.
_OVERLAP_S = 60.0
_RETRY_LOAD_S = 5.0


class HistoryStore(History, Protocol):
    """What the in-memory copies need from `MilvusHistory`. Everything raises DependencyUnavailable."""

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        ...

    async def update_quality(self, scope: HistoryScope, updates: Sequence[QualityUpdate]) -> int:
        """Replace qualities."""
        ...

    async def delete_scope(self, scope: HistoryScope) -> None:
        """Forget a router."""
        ...

    async def newest_since(self, scope: HistoryScope, rows: int) -> float:
        """The smallest timestamp (Unix s) of the scope's newest `rows` rows; 0.0 where it has no more than that."""
        ...

    def scan(
        self, scope: HistoryScope, *, updated_since: float = 0.0, min_timestamp: float = 0.0
    ) -> AsyncIterator[list[HistoryRow]]:
        """Pages of rows."""
        ...


@dataclass(slots=True)
class _Entry:
    """One router's copy. Times are monotonic seconds, except `synced_at` (Unix s: rows written until then are in)."""

    copy: HotCopy | None = None
    task: asyncio.Task[None] | None = None
    synced_at: float = 0.0
    loaded_at: float = 0.0
    next_sync: float = 0.0
    late: list[HistoryPoint] = field(default_factory=list)


class HotHistory:
    """`History` that answers from memory once a router's rows are loaded, and from Milvus until then.

    A copy holds the newest `cap_rows` rows of a router; all copies together hold at most `max_bytes`, and the router
    unused for longest goes first. What is learnt here is in the copy at once; those of other processes, and revised
    qualities, come with the refresh every `refresh_s`; deletions by others with the reload every `reload_s`.
    While Milvus is away, copies go on answering. A search that reads up to `inline_numbers` numbers (some 0.4 ms) costs
    the event loop hardly more than handing it to a thread, which does the larger ones.
    """

    def __init__(
        self,
        store: HistoryStore,
        *,
        cap_rows: int = 20_000,
        max_bytes: int = 512 * 2**20,
        refresh_s: float = 30.0,
        reload_s: float = 3_600.0,
        inline_numbers: int = 2_500_000,
    ) -> None:
        self._store = store
        self._cap_rows = cap_rows
        self._max_bytes = max_bytes
        self._refresh_s = refresh_s
        self._reload_s = reload_s
        self._inline_numbers = inline_numbers
        self._entries: OrderedDict[HistoryScope, _Entry] = OrderedDict()
        self._forgotten: dict[tuple[str, str], float] = {}  # one for each router ever deleted while this process ran
        self._threads = ThreadPoolExecutor(1, "hot-history")

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        """The nearest past outcomes. Raises DependencyUnavailable when neither memory nor Milvus has them in time."""
        if vector.shape != (self._store.dimension,):
            raise EmbedderMismatch(f"the history holds vectors of {self._store.dimension} numbers, not {vector.shape}")
        copy = self._used(scope).copy
        if copy is None:
            return await self._store.query(scope, vector, limit)
        if copy.numbers_read <= self._inline_numbers:
            return copy.search(vector, limit)
        return await self._on_thread(copy.search, vector, limit)

    def learn(self, point: HistoryPoint) -> None:
        """Fold the point into the copy at once; Milvus gets it from the outbox."""
        check_point(point, self._store.dimension)
        if 0.0 < point.begun_at < self._forgotten_at(point.scope):
            return  # it was in flight when its router or a model was deleted
        entry = self._entries.get(point.scope)
        if entry is not None:
            if entry.copy is not None:
                _fold(entry.copy, point)
            if entry.task is not None and len(entry.late) < self._cap_rows:
                entry.late.append(point)

    async def update_quality(self, scope: HistoryScope, updates: Sequence[QualityUpdate]) -> int:
        """Replace qualities in Milvus; the copy has them after its next refresh, which is due at once."""
        found = await self._store.update_quality(scope, updates)
        if scope in self._entries:
            self._entries[scope].next_sync = 0.0
        return found

    async def delete_scope(self, scope: HistoryScope) -> None:
        """Forget everything about a router, here and in Milvus."""
        self.drop(scope)
        await self._store.delete_scope(scope)
        self.drop(scope)  # a query in between may have begun to load what was going

    def drop(self, scope: HistoryScope) -> None:
        """Forget the copy; the next query loads it anew."""
        entry = self._entries.pop(scope, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    def forget(self, user_id: str, router_id: str = "") -> None:
        """Points of a router, or of any router of an owner, were deleted: their copies go, and what is in flight for
        them is learnt no more."""
        self._forgotten[user_id, router_id] = time.time()
        for scope in [each for each in self._entries if each.user_id == user_id and router_id in ("", each.router_id)]:
            self.drop(scope)

    def _forgotten_at(self, scope: HistoryScope) -> float:
        """When something of this router was deleted last, Unix seconds; 0.0: never."""
        names = ((scope.user_id, scope.router_id), (scope.user_id, ""))
        return max(self._forgotten.get(each, 0.0) for each in names)

    def stats(self) -> dict[str, int]:
        """Routers, rows and bytes held in memory."""
        copies = [entry.copy for entry in self._entries.values() if entry.copy is not None]
        return {
            "routers": len(copies),
            "rows": sum(len(copy) for copy in copies),
            "bytes": sum(copy.size_bytes for copy in copies),
        }

    async def settled(self, scope: HistoryScope) -> None:
        """Wait for the load or refresh in progress, if any (for warm-up and tests)."""
        entry = self._entries.get(scope)
        if entry is not None and entry.task is not None:
            await asyncio.shield(entry.task)

    async def warm(self, scope: HistoryScope) -> None:
        """Load the router's copy now instead of behind its first query."""
        self._used(scope)
        await self.settled(scope)

    async def close(self) -> None:
        """Stop loading; the store itself stays open."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for scope in list(self._entries):
            self.drop(scope)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _used(self, scope: HistoryScope) -> _Entry:
        entry = self._entries.setdefault(scope, _Entry())
        self._entries.move_to_end(scope)
        if entry.task is None and time.monotonic() >= entry.next_sync:
            entry.task = asyncio.create_task(self._sync(scope, entry))
        return entry

    async def _sync(self, scope: HistoryScope, entry: _Entry) -> None:
        copy = None if time.monotonic() - entry.loaded_at >= self._reload_s else entry.copy
        entry.next_sync = time.monotonic() + self._refresh_s
        try:
            await (self._load(scope, entry) if copy is None else self._refresh(scope, entry, copy))
        except DependencyUnavailable as error:
            entry.next_sync = time.monotonic() + min(_RETRY_LOAD_S, self._refresh_s)
            _log.warning("hot_history_sync_failed", router_id=scope.router_id, error=error.message)
        finally:
            entry.task = None
            entry.late.clear()
        self._evict()

    async def _load(self, scope: HistoryScope, entry: _Entry) -> None:
        begun = time.time()
        copy = HotCopy(self._store.dimension, self._cap_rows)
        newest = await self._store.newest_since(scope, self._cap_rows)
        async for page in self._store.scan(scope, min_timestamp=newest):
            await self._on_thread(copy.put, page)
        await self._on_thread(copy.build_index)
        for point in entry.late:
            _fold(copy, point)
        entry.copy, entry.synced_at, entry.loaded_at = copy, begun, time.monotonic()

    async def _refresh(self, scope: HistoryScope, entry: _Entry, copy: HotCopy) -> None:
        begun = time.time()
        async for page in self._store.scan(scope, updated_since=entry.synced_at - _OVERLAP_S):
            await self._on_thread(copy.put, page)
        await self._on_thread(copy.build_index)
        entry.synced_at = begun

    async def _on_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def _evict(self) -> None:
        # The copy used last stays, whatever it weighs.
        excess = self.stats()["bytes"] - self._max_bytes
        for scope, entry in list(self._entries.items())[:-1]:
            if excess <= 0:
                return
            if entry.copy is not None:
                excess -= entry.copy.size_bytes
                self.drop(scope)


def _fold(copy: HotCopy, point: HistoryPoint) -> None:
    copy.fold(point, primary_key(point.scope, point.point_id, point.model), time.time())
