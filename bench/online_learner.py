"""A router that learns while it serves: the product's own history, fit and decision, one outcome at a time."""

import random
from dataclasses import dataclass, field

import numpy as np

from activities.requests.decision import NEIGHBOUR_ROWS
from bench.online_stream import Recording
from infra.vectors.hot_copy import HotCopy
from infra.vectors.rows import HistoryRow, new_row, with_quality
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.learning.estimation import FittedPredictor, TrainingRows, fit
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, RouterSnapshot, Vector
from modelpilot.routing.decision import Decision
from modelpilot.routing.router import Objective, Router
from modelpilot.routing.selection import decide

SCOPE = HistoryScope("bench", "online")
_SECOND_PER_REQUEST = 60.0
_BEGAN_S = 1_700_000_000.0
# The scheduled refit, in requests: when half as much again has come in, and at least every so many rows.
_FIRST_FIT, _GROWTH, _AT_MOST = 60, 1.5, 500


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is worked out once per prompt: its vector and its profile."""

    vectors: Vector  # [n, dimension]
    profiles: tuple[RequestProfile, ...]


def profiles_of(recording: Recording) -> tuple[RequestProfile, ...]:
    """The profile of each prompt as a single user message."""
    bodies = [{"messages": [{"role": "user", "content": prompt}]} for prompt in recording.prompts]
    return tuple(profile_request(body, ChatBody.model_validate(body)) for body in bodies)


@dataclass
class Learner:
    """One run of one router. `learns` False: a router that follows its catalogue for ever."""

    recording: Recording
    prompts: Prompts
    specs: dict[str, ModelSpec]
    objective: Objective
    exploration: float
    draw: random.Random
    learns: bool = True
    fitted: FittedPredictor | None = None
    refusals: int = 0
    _rows: dict[int, HistoryRow] = field(default_factory=dict)
    _fitted_rows: int = 0

    def __post_init__(self) -> None:
        self._copy = HotCopy(self.prompts.vectors.shape[1], len(self.recording))
        models = list(self.recording.models)
        router = Router(id="online", available_models=models, objective=self.objective, exploration=self.exploration)
        self._snapshot = RouterSnapshot(SCOPE.user_id, router, 1, self.specs, {})
        self._clock = 0

    def decide(self, query: int) -> Decision:
        """The decision for a prompt, with everything learnt so far."""
        self._clock += 1
        vector = self.prompts.vectors[query]
        neighbours = self._copy.search(vector, NEIGHBOUR_ROWS) if self.learns else Neighbours.empty()
        return decide(
            self._snapshot,
            self.prompts.profiles[query],
            neighbours,
            self.draw,
            fitted=self.fitted,
            vector=vector,
            now=self._now,
        )

    def served(self, query: int, model: int) -> None:
        """The chosen model has answered: its cost and length are known, its quality is not."""
        used_in, used_out = self.recording.tokens[query, model]
        point = HistoryPoint(
            point_id=str(query),
            scope=SCOPE,
            model=self.recording.models[model],
            request_id=str(query),
            embedding=self.prompts.vectors[query],
            latency_ms=1_000.0,  # the objective leaves latency out
            cost_usd=float(self.recording.cost_usd[query, model]),
            quality=None,
            ttft_ms=None,
            input_tokens=int(used_in),
            output_tokens=int(used_out),
            request_type=self.prompts.profiles[query].request_type,
            timestamp=self._now,
        )
        self._rows[query] = new_row(point, self._now)
        self._copy.put([self._rows[query]])

    def graded(self, query: int, quality: float) -> None:
        """Somebody has said how good the answer was."""
        row = self._rows[query]
        update = QualityUpdate(row.point_id, row.model, quality)
        self._rows[query] = with_quality(row, update, self._now)
        self._copy.put([self._rows[query]])

    def refit_if_due(self) -> None:
        """What the scheduled job does, when enough has come in since the last time."""
        rows = len(self._rows)
        if rows < _FIRST_FIT or rows < min(self._fitted_rows * _GROWTH, self._fitted_rows + _AT_MOST):
            return
        self._fitted_rows = rows
        fitted = fit(self._training_rows(), self._now)
        if fitted.predictor is None:
            self.refusals += 1
        else:
            self.fitted = fitted.predictor

    @property
    def _now(self) -> float:
        return _BEGAN_S + self._clock * _SECOND_PER_REQUEST

    def _training_rows(self) -> TrainingRows:
        queries, rows = list(self._rows), list(self._rows.values())
        index = {model: i for i, model in enumerate(self.recording.models)}

        def column(name: str) -> np.ndarray:
            return np.array([getattr(row, name) for row in rows])

        return TrainingRows(
            vectors=self.prompts.vectors[queries],
            models=self.recording.models,
            prompt=np.arange(len(rows)),
            model=np.array([index[row.model] for row in rows]),
            quality=np.where(column("quality_count") > 0, column("quality"), np.nan),
            quality_weight=np.ones(len(rows)),
            input_tokens=column("input_tokens"),
            output_tokens=column("output_tokens"),
            cost_usd=column("cost_usd"),
            latency_ms=column("latency_ms"),
            ttft_ms=np.full(len(rows), np.nan),
            count=column("request_count"),
            timestamp=column("timestamp"),
            request_types=tuple(row.request_type for row in rows),
        )
