"""The in-process steps of a decision: load the router, embed the prompt, query the history, score the models."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from activities.requests.deployments import DeploymentHealth, Target
from modelpilot.chat.profile import RequestProfile
from modelpilot.errors import DependencyUnavailable
from modelpilot.learning.refit import Predictors, Served
from modelpilot.providers.prompt_caches import PromptCaches
from modelpilot.providers.token_ratios import TokenRatios
from modelpilot.requests.ports import Embedder, History
from modelpilot.requests.records import EXPLAINED_NEIGHBOURS, HistoryScope, Neighbours, RouterSnapshot, Vector
from modelpilot.requests.route_request import StepReport
from modelpilot.routing.decision import Decision, LearnerUse, PredictorUse
from modelpilot.routing.selection import Blocked, Warm, decide, nothing_warm, prompt_tokens_of

Result = TypeVar("Result")

# Similar past answers that a decision lists. They explain what kind of prompt this is; what was learnt decides.
NEIGHBOUR_ROWS = EXPLAINED_NEIGHBOURS


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision with what the request goes on with, and a report per step for the workflow's history."""

    snapshot: RouterSnapshot
    profile: RequestProfile
    vector: Vector | None
    decision: Decision
    reports: dict[str, StepReport] = field(default_factory=dict)


class DecisionSteps:
    """Runs the four steps that need no provider. History or embedder missing means priors, never a failure."""

    def __init__(
        self,
        embedder: Embedder,
        history: History,
        draw: random.Random | None = None,
        health: DeploymentHealth | None = None,
        predictors: Predictors | None = None,
        caches: PromptCaches | None = None,
        ratios: TokenRatios | None = None,
    ) -> None:
        self._embedder, self._history, self._predictors = embedder, history, predictors
        self._health, self._caches = health or DeploymentHealth(), caches or PromptCaches()
        self._ratios = ratios or TokenRatios()
        # Choosing a model to explore is statistics, not secrecy.
        self._draw = draw or random.Random()  # noqa: S311

    async def decide(
        self, load: Callable[[], Awaitable[RouterSnapshot]], profile: RequestProfile, *, explore: bool = True
    ) -> Decided:
        """Load → embed → query → score. Raises NotFound, NoCandidate, DependencyUnavailable (no router to be had)."""
        reports: dict[str, StepReport] = {}
        degraded: list[str] = []
        snapshot = await _timed(reports, "load_router", load())
        vector = await self._embed(profile, reports, degraded)
        neighbours = await self._query(snapshot, vector, reports, degraded)
        began = time.perf_counter()
        served = self._served(snapshot)
        fit = served.predictor if served else None
        decision = decide(
            snapshot,
            profile,
            neighbours,
            self._draw if explore else None,
            tuple(degraded),
            self._blocked(snapshot.user_id, profile),
            fitted=fit.fitted if fit else None,
            vector=vector,
            learnt=served.outlooks if served else None,
            warm=self._warm(snapshot.user_id, profile) if profile.prefix else nothing_warm,
            ratios=self._ratios.of(snapshot.user_id),
        )
        detail: dict[str, Any] = {"selected": decision.selected}
        if served is not None:
            decision = replace(
                decision,
                predictor=PredictorUse(fit.version, fit.fitted_at) if fit else None,
                learner=LearnerUse(served.version, served.updated_at, "fit" if fit else "online", served.because),
            )
            detail["learner"] = served.version
        if fit is not None:
            detail["predictor"] = fit.version
        reports["score_models"] = _report(began, detail)
        reports["load_router"].detail.update(version=snapshot.version, models=len(snapshot.models))
        return Decided(snapshot, profile, vector, decision, reports)

    def prompt_tokens(self, snapshot: RouterSnapshot, profile: RequestProfile) -> int:
        """The tokens of the prompt as the model counts them that a router prefers or a client calls; of a router that
        chooses, as the one of its models does that counts most."""
        router, tokens = snapshot.router, prompt_tokens_of(snapshot, profile, self._ratios.of(snapshot.user_id))
        wanted = [router.preferred_model] if router.mode == "preferredModel" else router.available_models
        return max((tokens[model] for model in wanted if model in tokens), default=profile.prompt_tokens)

    def _served(self, snapshot: RouterSnapshot) -> Served | None:
        if self._predictors is None or not snapshot.router.id:  # a model that is called directly has no history
            return None
        return self._predictors.get(HistoryScope(snapshot.user_id, snapshot.router.id))

    def _warm(self, user_id: str, profile: RequestProfile) -> Warm:
        found = self._caches.warm(user_id, profile.prefix)
        healthy = (place for place in found if self._health.why_not(Target(user_id, *place)) is None)
        return {place: found[place].tokens for place in healthy}

    def _blocked(self, user_id: str, profile: RequestProfile) -> Blocked:
        health, body = self._health, profile.body
        return lambda model, deployments: (
            health.why_none(user_id, model, deployments) or health.refusals.why_none(user_id, model, deployments, body)
        )

    async def embed(self, text: str) -> Vector:
        """The vector of a prompt, once more where a recovery needs it."""
        return await self._embedder.embed(text)

    async def _embed(
        self, profile: RequestProfile, reports: dict[str, StepReport], degraded: list[str]
    ) -> Vector | None:
        try:
            return await _timed(reports, "embed_prompt", self._embedder.embed(profile.text))
        except DependencyUnavailable:
            degraded.append("embedding")
            return None
        finally:
            reports["embed_prompt"].detail.update(embedder=self._embedder.name)

    async def _query(
        self, snapshot: RouterSnapshot, vector: Vector | None, reports: dict[str, StepReport], degraded: list[str]
    ) -> Neighbours:
        neighbours = Neighbours.empty()
        scope = HistoryScope(snapshot.user_id, snapshot.router.id)
        try:
            if vector is not None:
                neighbours = await _timed(reports, "query_history", self._history.query(scope, vector, NEIGHBOUR_ROWS))
        except DependencyUnavailable:
            degraded.append("vector")
        report = reports.setdefault("query_history", StepReport(detail={}))
        report.detail.update(neighbours=len(neighbours), degraded=list(degraded))
        return neighbours


async def _timed(reports: dict[str, StepReport], name: str, work: Awaitable[Result]) -> Result:
    began = time.perf_counter()
    try:
        return await work
    finally:
        reports[name] = _report(began, {})


def _report(began: float, detail: dict[str, Any]) -> StepReport:
    return StepReport(duration_ms=round((time.perf_counter() - began) * 1000.0, 3), detail=detail)
