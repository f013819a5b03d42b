"""The predictors in use by this gateway: loaded behind the requests that ask for them, never in front of one."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from modelpilot.errors import DependencyUnavailable, InvalidRequest
from modelpilot.learning.estimation import FittedPredictor
from modelpilot.learning.refit import PredictorStore, ServedPredictor
from modelpilot.requests.records import HistoryScope

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
