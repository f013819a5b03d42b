"""The steps of a refit: which routers are due, and one router's predictor fitted to its stored outcomes."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

import structlog
from temporalio import activity

from activities.jobs.heartbeats import heartbeats
from modelpilot import names
from modelpilot.errors import NotFound
from modelpilot.learning.estimation import TrainingRows
from modelpilot.learning.estimation.admission import Rival
from modelpilot.learning.online import LearnerStore
from modelpilot.learning.refit import (
    MAXIMUM_ROWS,
    MINIMUM_ROWS,
    ROUTERS_PER_RUN,
    Fitter,
    PredictorStore,
    RefitInput,
    RefitList,
    RefitReport,
    RefitStatus,
)
from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import HistoryScope, RouterSnapshot
from modelpilot.wire.jsonb import finite_json

log = structlog.get_logger(__name__)

HEARTBEAT_S = 5.0


class TrainingSource(Protocol):
    """Stored outcomes to learn from."""

    async def read(self, scope: HistoryScope, limit: int, beat: Callable[[int], None]) -> TrainingRows:
        """The newest `limit` outcomes of a router; `beat` hears how far it is. Raises DependencyUnavailable."""
        ...


class RefitActivities:
    """Idempotent: a repeated fit is one more version of the same."""

    def __init__(
        self,
        source: TrainingSource,
        store: PredictorStore,
        fitter: Fitter,
        learners: LearnerStore,
        configuration: ConfigurationSource,
        routers_per_run: int = ROUTERS_PER_RUN,
    ) -> None:
        self._source, self._store, self._fitter = source, store, fitter
        self._learners, self._configuration = learners, configuration
        self._routers_per_run = routers_per_run

    @activity.defn(name=names.LIST_REFITS)
    async def list_refits(self, work: RefitInput) -> RefitList:
        """The routers to fit now, at most `routers_per_run` of them. Raises DependencyUnavailable."""
        due = await self._store.due(work.user_id, work.router_id, work.after, self._routers_per_run)
        return RefitList(due, len(due) == self._routers_per_run)

    @activity.defn(name=names.REFIT_ROUTER)
    async def refit_router(self, scope: HistoryScope) -> RefitReport:
        """Fit a router anew and store the version. One that is refused is stored as such, and from then on what was
        learnt online decides alone. Features of the router's own prompts are made first, where it is time.

        Raises DependencyUnavailable, and RuntimeError where the fit itself broke off.
        """
        began, now = time.perf_counter(), time.time()
        try:
            snapshot = await self._configuration.router_snapshot(scope.user_id, scope.router_id)
        except NotFound as gone:  # deleted since it was listed
            return RefitReport(scope.user_id, scope.router_id, "skipped", reason=gone.message)
        async with heartbeats(HEARTBEAT_S):
            rows = await self._source.read(scope, MAXIMUM_ROWS, activity.heartbeat)
        if len(rows) < MINIMUM_ROWS:
            reason = f"{len(rows)} stored outcomes, {MINIMUM_ROWS} are needed"
            return RefitReport(scope.user_id, scope.router_id, "skipped", len(rows), reason=reason)
        async with heartbeats(HEARTBEAT_S):
            await self._learners.renew(scope)
            fit = await self._fitter.fit(rows, now, await self._rival(scope, snapshot))
        version = await self._store.add(scope, now, len(rows), fit)
        if not version:
            reason = "outcomes were deleted meanwhile"
            return RefitReport(scope.user_id, scope.router_id, "skipped", len(rows), reason=reason)
        status: RefitStatus = "refused" if fit.artifact is None else "accepted"
        log.info("router_refitted", router_id=scope.router_id, status=status, version=version, rows=len(rows))
        return RefitReport(
            user_id=scope.user_id,
            router_id=scope.router_id,
            status=status,
            rows=len(rows),
            version=version,
            reason=fit.report.refused_because,
            fit=finite_json(asdict(fit.report)),
            duration_s=round(time.perf_counter() - began, 3),
        )

    async def _rival(self, scope: HistoryScope, snapshot: RouterSnapshot) -> Rival:
        """The online model that the fit is compared with."""
        state = await self._learners.state(scope)
        return Rival(state.learner.basis if state else None, snapshot.columns, snapshot.router.objective.shares())
