"""The product's own functions for the analytics site (`Workbench`), over adapters of the site's process.

Nothing here decides, replays or writes by itself: it calls what the gateway's routes call. docs/adr/0014 has the
reasons.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from activities.requests.caches import PredictorCache
from activities.requests.decision import DecisionSteps
from api.http.bodies import validate
from api.routes.management import check_router
from api.routes.replay import ReplayAccess, ReplayBody, replayed
from infra.catalogue.basis import features_for
from infra.crypto.keyring import Keyring, generate_key
from infra.db.engine import Database
from infra.db.learning.decision_log import PostgresDecisionLog
from infra.db.learning.learners import PostgresLearners
from infra.db.learning.predictors import PostgresPredictors
from infra.db.learning.token_reports import PostgresTokenReports
from infra.db.management.changes import PostgresHealthResets
from infra.db.management.models import PostgresModelRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.routing.configuration import PostgresConfiguration
from infra.providers.environment import provider_endpoints
from infra.settings import Settings
from infra.vectors.embedders import EmbedderConfig, create_embedder
from infra.vectors.milvus import MilvusHistory
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import profile_request
from modelpilot.errors import DependencyUnavailable, NotFound
from modelpilot.learning.replay.frontier import Frontier, frontier
from modelpilot.management.resources import HealthScope
from modelpilot.metrics.ports import MOST_DECISIONS
from modelpilot.providers.token_ratios import TokenRatios
from modelpilot.requests.ports import History
from modelpilot.requests.records import HistoryScope, Neighbours, Vector

T = TypeVar("T")


class LoopThread:
    """An event loop on a thread of its own: runs coroutines for any thread between entering and leaving a `with`
    block, for a synchronous process that uses asynchronous adapters."""

    def __init__(self, name: str, patience_s: float) -> None:
        """`patience_s` bounds every call."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._patience_s = patience_s

    def __enter__(self) -> "LoopThread":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises what it raises, and DependencyUnavailable where it takes too long."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(self._patience_s)
        except (TimeoutError, CancelledError):
            future.cancel()
            raise DependencyUnavailable("This took too long, and was given up.") from None


_PATIENCE_S = 20.0
# Nobody's answer waits for the sandbox, so that a cold Milvus may take its time.
_VECTOR_DEADLINE_MS = 2_000.0


class NoHistory:
    """Implements `History` where no Milvus is configured: decisions are made without neighbours, and say so."""

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        """Raises DependencyUnavailable."""
        raise DependencyUnavailable("MODELPILOT_MILVUS_URI is not set")


@dataclass(frozen=True, slots=True)
class Parts:
    """What is called, all of one event loop."""

    routers: PostgresRouterRepository
    models: PostgresModelRepository
    configuration: PostgresConfiguration
    log: PostgresDecisionLog
    access: ReplayAccess
    predictors: PredictorCache
    steps: DecisionSteps
    ratios: TokenRatios
    reports: PostgresTokenReports
    resets: PostgresHealthResets


class LocalWorkbench:
    """Implements `modelpilot.metrics.ports.Workbench` over the parts of one event loop."""

    def __init__(self, loop: LoopThread, parts: Parts) -> None:
        self._loop, self._parts = loop, parts

    def explain(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The decision that the gateway would make now, without exploring."""
        return self._loop.run(_explain(self._parts, HistoryScope(user_id, router_id), dict(body)))

    def replay(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Logged decisions under other settings."""
        asked = validate(dict(body), ReplayBody)
        parts, scope = self._parts, HistoryScope(user_id, router_id)
        return self._loop.run(replayed(parts.access, parts.models, scope, asked))

    def frontier(self, user_id: str, router_id: str, start_s: float, end_s: float) -> Frontier:
        """Cost and quality of the models, from logged decisions."""
        return self._loop.run(_frontier(self._parts, HistoryScope(user_id, router_id), start_s, end_s))

    def reset_health(self, user_id: str, actor: str) -> None:
        """Close breakers, rests and refused keys at every gateway."""
        self._loop.run(self._parts.resets.announce(user_id, HealthScope(None, None), actor))

    def restore(self, user_id: str, router_id: str, version: int, actor: str) -> int:
        """An older version becomes the newest one."""
        return self._loop.run(_restore(self._parts, HistoryScope(user_id, router_id), version, actor))


async def _explain(parts: Parts, scope: HistoryScope, body: dict[str, Any]) -> dict[str, Any]:
    profile = profile_request(body, validate(body, ChatBody))
    # A gateway loads predictors behind its requests; here the newest one is waited for.
    parts.predictors.announced(scope.user_id, scope.router_id)
    parts.predictors.get(scope)
    await parts.predictors.settled()
    parts.ratios.renew(await parts.reports.recent(scope.user_id))
    decided = await parts.steps.decide(
        lambda: parts.configuration.router_snapshot(scope.user_id, scope.router_id), profile, explore=False
    )
    return decided.decision.to_wire()


async def _frontier(parts: Parts, scope: HistoryScope, start_s: float, end_s: float) -> Frontier:
    await parts.routers.get(scope.user_id, scope.router_id)
    logged = await parts.log.decisions(scope, start_s, end_s, MOST_DECISIONS)
    return await asyncio.to_thread(frontier, logged)


async def _restore(parts: Parts, scope: HistoryScope, version: int, actor: str) -> int:
    await parts.routers.get(scope.user_id, scope.router_id)  # a deleted one is not made anew
    kept = await parts.routers.versions(scope.user_id, scope.router_id)
    wanted = next((one.body for one in kept if one.version == version), None)
    if wanted is None:
        raise NotFound(f"router {scope.router_id!r} has no version {version}")
    await check_router(parts.routers, parts.models, scope.user_id, wanted)
    return (await parts.routers.put(scope.user_id, wanted, actor)).version


@contextmanager
def open_workbench(settings: Settings, url: str) -> Iterator[LocalWorkbench]:
    """A workbench over the database at `url`, for a `with` block. Opening waits for no service; calls do."""
    stack = AsyncExitStack()
    with LoopThread("workbench", _PATIENCE_S) as loop:
        try:
            yield LocalWorkbench(loop, loop.run(_parts(settings, url, stack)))
        finally:
            loop.run(stack.aclose())


async def _parts(settings: Settings, url: str, stack: AsyncExitStack) -> Parts:
    database = await stack.enter_async_context(Database(url, min_size=0, max_size=4))
    embedder = create_embedder(EmbedderConfig())
    stack.push_async_callback(embedder.close)
    history: History = NoHistory()
    if settings.milvus_uri is not None:
        milvus = MilvusHistory(
            settings.milvus_uri,
            embedder=embedder.name,
            dimension=embedder.dimension,
            token=settings.milvus_token_text,
            deadline_ms=_VECTOR_DEADLINE_MS,
        )
        stack.push_async_callback(milvus.close)
        history = milvus
    # A key of its own, that opens nothing: deciding needs no provider's key, and the site shall not have any.
    configuration = PostgresConfiguration(database, Keyring([generate_key()]), provider_endpoints(settings))
    learners = PostgresLearners(database, features_for(embedder.name))
    predictors = PredictorCache(PostgresPredictors(database), learners)
    stack.push_async_callback(predictors.close)
    log, ratios = PostgresDecisionLog(database), TokenRatios()
    return Parts(
        routers=PostgresRouterRepository(database),
        models=PostgresModelRepository(database),
        configuration=configuration,
        log=log,
        access=ReplayAccess(configuration, log),
        predictors=predictors,
        steps=DecisionSteps(embedder, history, predictors=predictors, ratios=ratios),
        ratios=ratios,
        reports=PostgresTokenReports(database),
        resets=PostgresHealthResets(database),
    )
