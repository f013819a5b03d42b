"""Router snapshots and provider endpoints, cached: one load however many requests wait, dropped on change."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import ProviderEndpoint, RouterSnapshot

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
