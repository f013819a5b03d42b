"""What a gateway remembers of its database: one load for all who wait for it, dropped when it changes."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import structlog

from modelpilot.errors import DependencyUnavailable, InvalidRequest, ModelPilotError
from modelpilot.learning.estimation import FittedPredictor
from modelpilot.learning.online import LearnerStore
from modelpilot.learning.refit import PredictorStore, PredictorVersion, Served, ServedPredictor
from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import HistoryScope, ProviderEndpoint, RouterSnapshot
from modelpilot.routing.aliases import KnownAliases

log = structlog.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Bounds the memory of a gateway that serves very many routers or keys.
MAXIMUM_ENTRIES = 10_000
REFRESH_S = 300.0  # bounds how long an announcement of a predictor that was missed matters
RETRY_S = 5.0
MAXIMUM_PREDICTOR_BYTES = 256 * 2**20  # a predictor is about as large as its artifact


@dataclass(slots=True)
class _Entry(Generic[Value]):
    """A value, when its load began, and until when it is fresh (both in monotonic seconds)."""

    value: Value
    loaded_at: float
    fresh_until: float


class SingleFlightCache(Generic[Key, Value]):
    """A TTL cache of values that are never None, in which all who miss the same key share one load.

    A value is fresh for `ttl_s` from the beginning of its load. A load that fails is not kept, and its key is
    forgotten; but while a dependency is away, a value that was loaded less than `stale_if_error_s` ago goes on being
    used, and is loaded again after `retry_s`. The entry unused for longest makes room for a new one, by number and
    by the `size_of` values.
    """

    def __init__(
        self,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        stale_if_error_s: float = 0.0,
        retry_s: float = 0.0,
        maximum_bytes: float = math.inf,
        size_of: Callable[[Value], int] | None = None,
    ) -> None:
        self._ttl_s, self._clock = ttl_s, clock
        self._stale_if_error_s, self._retry_s = stale_if_error_s, retry_s
        self._maximum_bytes, self._size_of = maximum_bytes, size_of
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._loads: dict[Key, asyncio.Task[Value]] = {}  # those whose values will be kept
        self._tasks: set[asyncio.Task[Value]] = set()  # all of them, since the event loop keeps only weak references

    def fresh(self, key: Key) -> Value | None:
        """The value, if there is a fresh one."""
        entry = self._entries.get(key)
        if entry is None or self._clock() >= entry.fresh_until:
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def get(self, key: Key, load: Callable[[], Awaitable[Value]]) -> Value:
        """The fresh value, or the result of `load`. A waiter that is canceled does not cancel the load."""
        found = self.fresh(key)
        return found if found is not None else await asyncio.shield(self._loading(key, load))

    def peek(self, key: Key, load: Callable[[Value], Awaitable[Value]], default: Value) -> Value:
        """The last value, without waiting; where it is not fresh, `load` makes a new one of it in the background."""
        entry = self._entries.get(key) or self._keep(key, _Entry(default, self._clock(), -math.inf))
        self._entries.move_to_end(key)
        if self._clock() >= entry.fresh_until:
            self._loading(key, lambda: load(entry.value))
        return entry.value

    def drop(self, belongs: Callable[[Key, Value | None], bool]) -> None:
        """Forget the entries that belong to what was changed. A load under way, whose value is None here, answers
        those who wait for it, but may have read the old state and is not kept."""
        for key in [key for key, entry in self._entries.items() if belongs(key, entry.value)]:
            del self._entries[key]
        for key in [key for key in self._loads if belongs(key, None)]:
            del self._loads[key]

    def expire(self, belongs: Callable[[Key], bool]) -> None:
        """As `drop`, but the last values stay in use until there are new ones."""
        for key, entry in self._entries.items():
            if belongs(key):
                entry.fresh_until = -math.inf
                self._loads.pop(key, None)

    async def settled(self) -> None:
        """Wait for the loads that are under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop loading."""
        for task in self._tasks:
            task.cancel()
        await self.settled()

    def _loading(self, key: Key, load: Callable[[], Awaitable[Value]]) -> "asyncio.Task[Value]":
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = asyncio.create_task(self._load(key, load))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return task

    async def _load(self, key: Key, load: Callable[[], Awaitable[Value]]) -> Value:
        task, began, known = asyncio.current_task(), self._clock(), self._entries.get(key)
        try:
            value = await load()
            if self._loads.get(key) is task:
                self._keep(key, _Entry(value, began, began + self._ttl_s))
            return value
        except DependencyUnavailable:
            # It may have been dropped meanwhile, for a revocation: then it is not believed any longer.
            believed = self._loads.get(key) is task and self._entries.get(key) is known
            if known is None or not believed or self._clock() - known.loaded_at >= self._stale_if_error_s:
                raise
            known.fresh_until = self._clock() + self._retry_s
            return known.value
        except ModelPilotError:
            if self._loads.get(key) is task:
                self._entries.pop(key, None)
            raise
        finally:
            if self._loads.get(key) is task:
                del self._loads[key]

    def _ended(self, task: "asyncio.Task[Value]") -> None:
        self._tasks.discard(task)
        # Failures are raised to those who wait, who may all have left.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ModelPilotError):
            log.error("cache_load_failed", exc_info=error)

    def _keep(self, key: Key, entry: _Entry[Value]) -> _Entry[Value]:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        held = sum(self._size_of(each.value) for each in self._entries.values()) if self._size_of else 0
        while len(self._entries) > 1 and (held > self._maximum_bytes or len(self._entries) > MAXIMUM_ENTRIES):
            _, oldest = self._entries.popitem(last=False)
            held -= self._size_of(oldest.value) if self._size_of else 0
        return entry


class RouterCache:
    """A `ConfigurationSource` that remembers another one's routers and provider endpoints, for five minutes by default.

    `on_drop` hears of every change as well, with the arguments of `drop`.
    """

    def __init__(
        self, source: ConfigurationSource, ttl_s: float = 300.0, on_drop: Callable[..., None] | None = None
    ) -> None:
        self._source, self._on_drop = source, on_drop
        self._routers: SingleFlightCache[tuple[str, ...], RouterSnapshot] = SingleFlightCache(ttl_s)
        self._endpoints: SingleFlightCache[tuple[str, str, int], ProviderEndpoint] = SingleFlightCache(ttl_s)
        self._aliases: SingleFlightCache[str, KnownAliases] = SingleFlightCache(ttl_s)

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        """The router as it was at most a TTL ago."""
        key = ("router", user_id, router_id)
        return await self._routers.get(key, lambda: self._source.router_snapshot(user_id, router_id))

    async def direct_snapshot(self, user_id: str, model_id: str, *fallbacks: str) -> RouterSnapshot:
        """The synthetic router of a model that is called directly."""
        key = ("model", user_id, model_id, *fallbacks)
        return await self._routers.get(key, lambda: self._source.direct_snapshot(user_id, model_id, *fallbacks))

    async def aliases(self, user_id: str) -> KnownAliases:
        """The names that this owner's routers and models go by."""
        return await self._aliases.get(user_id, lambda: self._source.aliases(user_id))

    async def endpoint(self, user_id: str, provider_id: str, key_index: int = 0) -> ProviderEndpoint:
        """The provider's address with one of its keys."""
        key = (user_id, provider_id, key_index)
        return await self._endpoints.get(key, lambda: self._source.endpoint(user_id, provider_id, key_index))

    def drop(self, kind: str | None = None, user_id: str | None = None, item_id: str | None = None) -> None:
        """Forget what a change of configuration touches; no arguments: everything (changes may have been missed).

        A changed model or provider may be part of any router of its owner, and a shared one of anybody's.
        """
        if self._on_drop is not None:
            self._on_drop(kind, user_id, item_id)
        everyone = not kind or not user_id
        self._aliases.drop(lambda key, _: everyone or key == user_id)
        if kind == "router":
            self._routers.drop(lambda key, _: key == ("router", user_id, item_id))
            return
        self._routers.drop(lambda key, _: everyone or key[1] == user_id)
        self._endpoints.drop(lambda key, _: everyone or key[0] == user_id)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Of a router; `served` None: nothing is known. `fit` is the version of the newest fit, admitted or not."""

    served: Served | None = None
    fit: int = 0
    size_bytes: int = 0


_NONE = _Loaded()
_ALONE = "no fit of this router has been tried yet"


class PredictorCache:
    """The `Predictors` in use by this process: loaded behind the requests that ask for them, never in front of one."""

    def __init__(
        self,
        store: PredictorStore,
        learners: LearnerStore | None = None,
        clock: Callable[[], float] = time.monotonic,
        maximum_bytes: int = MAXIMUM_PREDICTOR_BYTES,
    ) -> None:
        self._store, self._learners = store, learners
        self._cache: SingleFlightCache[HistoryScope, _Loaded] = SingleFlightCache(
            REFRESH_S,
            clock,
            stale_if_error_s=math.inf,
            retry_s=RETRY_S,
            maximum_bytes=maximum_bytes,
            size_of=lambda loaded: loaded.size_bytes,
        )

    def get(self, scope: HistoryScope) -> Served | None:
        """What is there right now; a newer version is looked for in the background where it is time."""
        return self._cache.peek(scope, partial(self._load, scope), _NONE).served

    def announced(self, user_id: str = "", router_id: str = "") -> None:
        """There is a new version of a router, or, without names, perhaps of any: the next decision asks for it.

        What is there goes on being used until the new one has come.
        """
        self._cache.expire(lambda scope: not user_id or scope == HistoryScope(user_id, router_id))

    def forget(self, user_id: str, router_id: str | None) -> None:
        """What the router, or (None) any router of the owner, had learnt was deleted, or some of it."""
        self._cache.drop(lambda scope, _: scope.user_id == user_id and router_id in (None, scope.router_id))

    async def settled(self) -> None:
        """Wait for the loads that are under way."""
        await self._cache.settled()

    async def close(self) -> None:
        """Stop loading."""
        await self._cache.close()

    async def _load(self, scope: HistoryScope, known: _Loaded) -> _Loaded:
        return await self._with_fit(scope, await self._with_state(scope, known))

    async def _with_state(self, scope: HistoryScope, known: _Loaded) -> _Loaded:
        """With what was learnt online by now; worked out for the catalogues that were asked about, so that no request
        waits for that."""
        before = known.served
        if self._learners is None:
            return known
        state = await self._learners.state(scope, before.version if before and before.outlooks else None)
        if state is None:
            return known
        outlooks = await asyncio.to_thread(state.outlooks().prepare, before.outlooks if before else None)
        served = before or Served(because=_ALONE)
        served = replace(served, version=state.version, updated_at=state.updated_at, outlooks=outlooks)
        return replace(known, served=served, size_bytes=max(known.size_bytes, state.learner.size_bytes))

    async def _with_fit(self, scope: HistoryScope, known: _Loaded) -> _Loaded:
        """With the newest fit, or without one where that was refused."""
        found = await self._store.newest(scope, known.fit)
        if found is None:
            return known
        version, artifact = found
        served = replace(known.served or Served(), predictor=None, because=_why(version))
        known = replace(known, served=served, fit=version.version)
        if artifact is None:
            return known
        try:
            fitted = await asyncio.to_thread(FittedPredictor.from_bytes, artifact)
        except InvalidRequest as error:
            # Written by another release: decisions go on without it until the next fit.
            log.warning("predictor_unreadable", router_id=scope.router_id, reason=error.message)
            return replace(known, served=replace(served, because=error.message))
        log.info("predictor_loaded", router_id=scope.router_id, version=version.version)
        served = replace(served, predictor=ServedPredictor(version.version, version.fitted_at, fitted))
        return replace(known, served=served, size_bytes=known.size_bytes + len(artifact))


def _why(version: PredictorVersion) -> str:
    """Why the fit decides, or does not."""
    report = version.report
    choices = report.get("choices") or {}
    if not version.accepted:
        return f"the fit of version {version.version} was refused: {report.get('refused_because')}"
    measured = ", ".join(f"{name} {choices[name]:.4g}" for name in ("gain", "error", "prompts") if name in choices)
    return f"the fit of version {version.version} chooses better on outcomes that it had not seen ({measured})"
