"""The router that `bench decision` decides for: its models, its past, and a predictor fitted to that."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from bench.history import DAYS_S, PastModel, past_point
from infra.vectors.rows import HistoryRow, new_row
from infra.vectors.training import training_rows
from modelpilot.learning.estimation import fit
from modelpilot.learning.refit import ServedPredictor
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import ProviderFacts
from modelpilot.requests.ports import Embedder
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, RouterSnapshot, Vector
from modelpilot.routing.router import Objective, Router

SCOPE = HistoryScope("bench", "decision")
_FITTED_ROWS = 4_000  # enough for a predictor of full size
_PAGE_ROWS = 1_000


def models(count: int) -> list[ModelSpec]:
    """Models from cheap and quick to dear and good."""
    steps = [number / max(count - 1, 1) for number in range(count)]
    return [
        ModelSpec(
            id=f"bench/model-{number}",
            provider="simulator",
            provider_model=f"model-{number}",
            avg_latency_ms=300.0 + 2_700.0 * step,
            cost_per_input_token=1e-7 * 30.0**step,
            cost_per_output_token=4e-7 * 30.0**step,
            quality_score=0.55 + 0.4 * step,
            carbon_g_per_1k_tokens=0.1 + 2.0 * step,
        )
        for number, step in enumerate(steps)
    ]


def snapshot(specs: Sequence[ModelSpec]) -> RouterSnapshot:
    """A router over all of them that weighs cost, latency and quality."""
    objective = Objective(cost_weight=0.4, latency_weight=0.2, quality_weight=0.4)
    router = Router(id=SCOPE.router_id, available_models=[spec.id for spec in specs], objective=objective)
    catalogue = {spec.id: spec for spec in specs}
    return RouterSnapshot(SCOPE.user_id, router, 1, catalogue, {}, {"simulator": ProviderFacts("simulator")})


async def past_rows(embedder: Embedder, specs: Sequence[ModelSpec], count: int) -> list[HistoryRow]:
    """`count` outcomes of as many prompts, over the past month."""
    past = [
        PastModel(
            spec.id, spec.quality_score or 0.0, spec.avg_latency_ms or 0.0, 60 * (spec.cost_per_output_token or 0)
        )
        for spec in specs
    ]
    now = time.time()
    moments = [now - DAYS_S * (count - number) / count for number in range(count)]
    points = [await past_point(embedder, SCOPE, past, number, moment) for number, moment in enumerate(moments)]
    return [new_row(replace(point, quality=_quality(point)), point.timestamp) for point in points]


def _quality(point: HistoryPoint) -> float:
    # Half of all prompts are hard ones, as their vectors show: there has to be something for a fit to find.
    return point.quality or 0.0 if point.embedding[0] > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class FittedOnce:
    """Implements `modelpilot.learning.refit.Predictors`; None where the fit was refused."""

    served: ServedPredictor | None

    @classmethod
    def of(cls, rows: Sequence[HistoryRow]) -> "FittedOnce":
        """Fitted to the newest rows."""
        now = time.time()
        predictor = fit(training_rows(rows, _FITTED_ROWS), now).predictor
        return cls(None if predictor is None else ServedPredictor(1, now, predictor))

    def get(self, scope: HistoryScope) -> ServedPredictor | None:
        """The same for whoever asks."""
        return self.served


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Implements `infra.vectors.hot_index.HistoryStore` for what is only ever read into memory."""

    dimension: int
    rows: Sequence[HistoryRow]

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        """Nothing: the copy in memory answers."""
        return Neighbours.empty()

    async def store(self, point: HistoryPoint) -> None:
        """Nothing is stored."""

    async def update_quality(self, scope: HistoryScope, updates: Sequence[QualityUpdate]) -> int:
        """Nothing is stored."""
        return 0

    async def delete_scope(self, scope: HistoryScope) -> None:
        """Nothing is stored."""

    async def newest_since(self, scope: HistoryScope, rows: int) -> float:
        """All of them."""
        return 0.0

    async def scan(
        self, scope: HistoryScope, *, updated_since: float = 0.0, min_timestamp: float = 0.0
    ) -> AsyncIterator[list[HistoryRow]]:
        """All of them, but for what was updated before."""
        for begin in range(0, len(self.rows), _PAGE_ROWS):
            page = self.rows[begin : begin + _PAGE_ROWS]
            yield [row for row in page if row.updated_at >= updated_since]
