"""Router snapshots and provider endpoints, cached: one load however many requests wait, dropped on change."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from modelpilot.errors import DependencyUnavailable, InvalidRequest
from modelpilot.learning.estimation import FittedPredictor
from modelpilot.learning.refit import PredictorStore, ServedPredictor
from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import HistoryScope, ProviderEndpoint, RouterSnapshot

Value = TypeVar("Value")

# Bounds the memory of a gateway that serves very many routers; the oldest entries are loaded again when needed.
MAXIMUM_ENTRIES = 10_000


class SingleFlightCache(Generic[Value]):
    """A TTL cache in which concurrent misses of one key share one load. Failed loads are not kept."""

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._clock = ttl_s, clock
        self._entries: dict[Hashable, tuple[float, asyncio.Future[Value]]] = {}

    async def get(self, key: Hashable, load: Callable[[], Awaitable[Value]]) -> Value:
        """The cached value, or the result of `load`. A waiter that is cancelled does not cancel the load."""
        entry = self._entries.get(key)
        if entry is None or self._clock() >= entry[0] or _failed(entry[1]):
            entry = (self._clock() + self._ttl_s, asyncio.ensure_future(load()))
            if len(self._entries) >= MAXIMUM_ENTRIES:
                self._entries.pop(next(iter(self._entries)))
            self._entries[key] = entry
        if entry[1].done():
            return entry[1].result()
        return await asyncio.shield(entry[1])

    def drop(self, belongs: Callable[[Hashable], bool] = lambda key: True) -> None:
        """Forget the entries whose key `belongs` to what was changed; a load under way is not reused either."""
        for key in [key for key in self._entries if belongs(key)]:
            del self._entries[key]


def _failed(future: "asyncio.Future[Value]") -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


class RouterCache:
    """`ConfigurationSource` with a five-minute memory (product.md, section 1).

    `on_drop` hears of every change as well, with the arguments of `drop`.
    """

    def __init__(
        self, source: ConfigurationSource, ttl_s: float = 300.0, on_drop: Callable[..., None] | None = None
    ) -> None:
        self._source, self._on_drop = source, on_drop
        self._routers: SingleFlightCache[RouterSnapshot] = SingleFlightCache(ttl_s)
        self._endpoints: SingleFlightCache[ProviderEndpoint] = SingleFlightCache(ttl_s)

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        """See ConfigurationSource."""
        key = ("router", user_id, router_id)
        return await self._routers.get(key, lambda: self._source.router_snapshot(user_id, router_id))

    async def direct_snapshot(self, user_id: str, model_id: str) -> RouterSnapshot:
        """See ConfigurationSource."""
        key = ("model", user_id, model_id)
        return await self._routers.get(key, lambda: self._source.direct_snapshot(user_id, model_id))

    async def endpoint(self, user_id: str, provider_id: str, key_index: int = 0) -> ProviderEndpoint:
        """See ConfigurationSource."""
        key = ("provider", user_id, provider_id, key_index)
        return await self._endpoints.get(key, lambda: self._source.endpoint(user_id, provider_id, key_index))

    def drop(self, kind: str | None = None, user_id: str | None = None, item_id: str | None = None) -> None:
        """Forget what a change of configuration touches; no arguments: everything (changes may have been missed).

        A changed model or provider may be part of any router of its owner, and a shared one of anybody's.
        """
        if self._on_drop is not None:
            self._on_drop(kind, user_id, item_id)
        if kind == "router":
            self._routers.drop(lambda key: key == ("router", user_id, item_id))
            return
        everyone = not kind or not user_id
        for cache in (self._routers, self._endpoints):
            cache.drop(lambda key: everyone or (isinstance(key, tuple) and key[1] == user_id))


# The predictors in use by this gateway: loaded behind the requests that ask for them, never in front of one.

log = structlog.get_logger(__name__)

REFRESH_S = 300.0  # bounds how long an announcement that was missed matters
RETRY_S = 5.0
# Bounds the memory of a gateway that serves very many routers; a predictor is as large as its artifact, about.
MAXIMUM_ROUTERS = 10_000
MAXIMUM_BYTES = 256 * 2**20


@dataclass(slots=True)
class _Entry:
    served: ServedPredictor | None = None
    size_bytes: int = 0
    next_look: float = 0.0  # monotonic seconds
    task: asyncio.Task[None] | None = None
    stale: bool = False  # announced while it was being loaded


class PredictorCache:
    """Implements `Predictors`. The router unused for longest makes room for a new one."""

    def __init__(self, store: PredictorStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._entries: OrderedDict[HistoryScope, _Entry] = OrderedDict()

    def get(self, scope: HistoryScope) -> ServedPredictor | None:
        """See Predictors. Looks for a newer version in the background where it is time."""
        entry = self._entries.setdefault(scope, _Entry())
        self._entries.move_to_end(scope)
        if entry.task is None and self._clock() >= entry.next_look:
            entry.task = asyncio.create_task(self._look(scope, entry))
        return entry.served

    def announced(self, user_id: str = "", router_id: str = "") -> None:
        """There is a new version of a router, or, without names, perhaps of any: the next decision asks for it.

        What is there goes on being used until the new one has come.
        """
        for scope, entry in self._entries.items():
            if not user_id or scope == HistoryScope(user_id, router_id):
                entry.next_look, entry.stale = 0.0, entry.task is not None

    async def settled(self) -> None:
        """Wait for the loads that are under way (for tests)."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop loading."""
        for entry in self._entries.values():
            if entry.task is not None:
                entry.task.cancel()
        await self.settled()

    async def _look(self, scope: HistoryScope, entry: _Entry) -> None:
        entry.next_look = self._clock() + REFRESH_S
        try:
            await self._load(scope, entry)
        except DependencyUnavailable:
            entry.next_look = self._clock() + RETRY_S
        except InvalidRequest as error:
            # Written by another release: decisions go on without it until the next fit.
            log.warning("predictor_unreadable", router_id=scope.router_id, reason=error.message)
        finally:
            entry.task = None
            if entry.stale:
                entry.next_look, entry.stale = 0.0, False
        self._make_room()

    async def _load(self, scope: HistoryScope, entry: _Entry) -> None:
        found = await self._store.newest(scope, entry.served.version if entry.served else 0)
        if found is None:
            return
        version, artifact = found
        fitted = await asyncio.to_thread(FittedPredictor.from_bytes, artifact)
        entry.served = ServedPredictor(version.version, version.fitted_at, fitted)
        entry.size_bytes = len(artifact)
        log.info("predictor_loaded", router_id=scope.router_id, version=version.version)

    def _make_room(self) -> None:
        held = sum(entry.size_bytes for entry in self._entries.values())
        while len(self._entries) > 1 and (held > MAXIMUM_BYTES or len(self._entries) > MAXIMUM_ROUTERS):
            _, oldest = self._entries.popitem(last=False)
            held -= oldest.size_bytes
            if oldest.task is not None:
                oldest.task.cancel()
