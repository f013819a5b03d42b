"""Training rows, fakes and runs of the refit workflow."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.jobs.refit import RefitActivities
from infra.fitting import fit_rows
from modelpilot import names
from modelpilot.errors import DependencyUnavailable
from modelpilot.learning.estimation import FitReport, TrainingRows
from modelpilot.learning.estimation.admission import Rival
from modelpilot.learning.online import LearnerVersion
from modelpilot.learning.refit import FittedArtifact, PredictorVersion, RefitInput, RefitResult
from modelpilot.providers.catalogue import CatalogueColumns
from modelpilot.requests.records import HistoryPoint, HistoryScope, RouterSnapshot, Vector
from tests.support.fakes import FakeConfiguration
from tests.support.routing_samples import router, snapshot, spec
from tests.support.saved_histories import SavedHistories
from workflows import refit
from workflows.refit import RefitWorkflow

DIMENSION = 16
MODELS = ("sim/a", "sim/b")
RIVAL = Rival(None, CatalogueColumns.of([spec(name) for name in MODELS]), (0.0, 0.0, 1.0, 0.0))
Handle = WorkflowHandle[RefitWorkflow, RefitResult]


def training_rows(count: int = 400, *, seed: int = 0, learnable: bool = True) -> TrainingRows:
    """Each prompt answered by both models; with `learnable`, sim/a is right on one half of the sphere and sim/b on the
    other. Otherwise the last fifth contradicts what came before, so that a fit is worse than the means."""
    nature = np.random.default_rng(seed)
    vectors = nature.standard_normal((count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    prompt, model = np.repeat(np.arange(count), 2), np.tile(np.arange(2), count)
    right = (vectors[prompt, 0] > 0.0) == (model == 0)
    if not learnable:
        right = nature.random(2 * count) < 0.5
    ones = np.ones(2 * count)
    return TrainingRows(
        vectors=vectors,
        models=MODELS,
        prompt=prompt,
        model=model,
        quality=right.astype(np.float64),
        quality_weight=ones,
        input_tokens=20.0 * ones,
        output_tokens=100.0 * ones,
        cost_usd=0.001 * ones,
        latency_ms=500.0 * ones,
        ttft_ms=100.0 * ones,
        count=ones,
        timestamp=1_790_000_000.0 * ones + prompt,
    )


def vector(first: float) -> Vector:
    """A prompt's unit vector with this first coordinate."""
    made = np.zeros(DIMENSION, np.float32)
    made[0], made[1] = first, (1.0 - first * first) ** 0.5
    return made


def report(refused_because: str | None = None, rows: int = 100) -> FitReport:
    """A fit's report."""
    return FitReport(rows, rows, 2, refused_because=refused_because)


def artifact(seed: int = 0) -> FittedArtifact:
    """An accepted fit."""
    made = fit_rows(training_rows(seed=seed), 1_790_000_000.0, RIVAL)
    assert made.artifact is not None, made.report
    return made


@dataclass
class FakePredictorStore:
    """`PredictorStore` in memory; `away` makes it unavailable."""

    routers: list[HistoryScope] = field(default_factory=list)
    kept: dict[HistoryScope, list[tuple[PredictorVersion, bytes | None]]] = field(default_factory=dict)
    away: bool = False
    reads: int = 0

    async def due(
        self, user_id: str | None, router_id: str | None, after: HistoryScope | None, limit: int
    ) -> tuple[HistoryScope, ...]:
        behind = [
            r for r in self.routers if after is None or (r.user_id, r.router_id) > (after.user_id, after.router_id)
        ]
        return tuple(r for r in behind if user_id in (None, r.user_id) and router_id in (None, r.router_id))[:limit]

    async def add(self, scope: HistoryScope, fitted_at: float, rows: int, fit: FittedArtifact) -> int:
        versions = self.kept.setdefault(scope, [])
        number = len(versions) + 1
        facts = {"refused_because": fit.report.refused_because}
        version = PredictorVersion(number, fitted_at, rows, fit.artifact is not None, facts)
        versions.append((version, fit.artifact))
        return number

    async def newest(self, scope: HistoryScope, than: int = 0) -> tuple[PredictorVersion, bytes | None] | None:
        self.reads += 1
        if self.away:
            raise DependencyUnavailable("Postgres is away")
        found = [(v, made) for v, made in self.kept.get(scope, ()) if v.version > than]
        return found[-1] if found else None

    async def versions(self, scope: HistoryScope) -> Sequence[PredictorVersion]:
        return [version for version, _ in reversed(self.kept.get(scope, []))]


@dataclass
class FakeSource:
    """`TrainingSource` with the same rows for every router, except those that are `broken`."""

    rows: TrainingRows
    broken: frozenset[str] = frozenset()

    async def read(self, scope: HistoryScope, limit: int, beat: Callable[[int], None]) -> TrainingRows:
        if scope.router_id in self.broken:
            raise DependencyUnavailable("Milvus is away")
        beat(len(self.rows))
        return self.rows


@dataclass
class FakeFitter:
    """`Fitter` that answers what it is told to."""

    answer: FittedArtifact = field(default_factory=lambda: FittedArtifact(b"fitted", report()))

    async def fit(self, rows: TrainingRows, now: float, rival: Rival) -> FittedArtifact:
        return replace(self.answer)


@dataclass
class FakeLearners:
    """`LearnerStore` that gives out the state it is told to, and hears of points."""

    known: LearnerVersion | None = None
    heard: list[HistoryPoint] = field(default_factory=list)

    async def learn(self, points: Sequence[HistoryPoint]) -> None:
        self.heard += points

    async def regrade(self, limit: int) -> int:
        return 0

    async def forget(self, user_id: str, request_ids: Sequence[str]) -> None:
        self.heard = [point for point in self.heard if point.request_id not in request_ids]

    async def recount(self, scope: HistoryScope, prompts: Sequence[str]) -> None:
        self.heard = [point for point in self.heard if point.point_id.rpartition("/")[0] not in prompts]

    async def forget_model(self, user_id: str, model: str) -> None:
        self.heard = [point for point in self.heard if (point.scope.user_id, point.model) != (user_id, model)]

    async def renew(self, scope: HistoryScope) -> bool:
        return False

    async def state(self, scope: HistoryScope, than: int | None = None) -> LearnerVersion | None:
        newer = self.known is not None and (than is None or self.known.version > than)
        return self.known if newer else None


def steps(source: FakeSource, store: FakePredictorStore, fitter: FakeFitter, limit: int) -> RefitActivities:
    """The activities over fakes, for a router over both models that weighs quality alone."""
    rules = router(*MODELS, objective={"quality_weight": 1.0})
    configuration = EveryRouter(snapshot(rules, *(spec(name) for name in MODELS)))
    return RefitActivities(source, store, fitter, FakeLearners(), configuration, limit)


class EveryRouter(FakeConfiguration):
    """The same router under every id."""

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        return await super().router_snapshot(user_id, self.shot.router.id)


@asynccontextmanager
async def worker(client: Client, activities: RefitActivities, queue: str, **options: Any) -> AsyncIterator[None]:
    """A worker whose workflows are sandboxed, unless the options say otherwise."""
    steps: list[Callable[..., Any]] = [activities.list_refits, activities.refit_router]
    async with Worker(client, task_queue=queue, workflows=[RefitWorkflow], activities=steps, **options):
        yield


async def start(client: Client, work: RefitInput, queue: str) -> Handle:
    """Start the workflow as everybody does: by its name."""
    started: Handle = await client.start_workflow(
        names.REFIT_WORKFLOW,
        work,
        id=f"refit-{secrets.token_hex(6)}",
        task_queue=queue,
        result_type=RefitResult,
        execution_timeout=timedelta(seconds=60),
    )
    return started


# Saved histories of RefitWorkflow: `python -m tests.support.refit` makes the missing ones.

QUEUE = "saved-refits"
# Which routers are due, which of them cannot be fitted, and how many one run lists.
SCENARIOS: Mapping[str, tuple[str, str, int]] = {
    "all_fitted": ("ab", "", 100),
    "nothing_due": ("", "", 100),
    "one_failed": ("abc", "b", 100),
    "continued": ("abc", "", 2),
}


def activities(due: str, broken: str, limit: int) -> RefitActivities:
    """The steps over fakes."""
    store = FakePredictorStore([HistoryScope("alice", name) for name in due])
    return steps(FakeSource(training_rows(40), frozenset(broken)), store, FakeFitter(), limit)


async def run(client: Client, name: str) -> Handle:
    """Run a scenario to its end."""
    async with worker(client, activities(*SCENARIOS[name]), QUEUE):
        handle = await start(client, RefitInput("alice"), QUEUE)
        await asyncio.gather(handle.result(), return_exceptions=True)
    return handle


HISTORIES = SavedHistories(refit.RefitWorkflow, "refit", "refit_histories", SCENARIOS, run)

if __name__ == "__main__":
    refit.FIT_RETRIES.initial_interval = timedelta(milliseconds=10)
    HISTORIES.make_missing()
