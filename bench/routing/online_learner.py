"""A router that learns while it serves: the product's own history, fit and decision, one outcome at a time.

Recorded outcomes become a stream of requests: an order of arrival, true utilities, a catalogue without history."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from activities.requests.decision import NEIGHBOUR_ROWS
from bench.routing.offline import outcome_table, read_history
from infra.vectors.hot_copy import HotCopy
from infra.vectors.rows import HistoryRow, new_row, with_quality
from modelpilot.arrays import Floats, Indices
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.learning.estimation import FittedPredictor, TrainingRows, fit
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, RouterSnapshot, Vector
from modelpilot.routing.decision import Decision
from modelpilot.routing.router import Objective, Router
from modelpilot.routing.scoring import lower_is_better
from modelpilot.routing.selection import decide

SCOPE = HistoryScope("bench", "online")
_SECOND_PER_REQUEST = 60.0
_BEGAN_S = 1_700_000_000.0
# The scheduled refit, in requests: when half as much again has come in, and at least every so many rows.
_FIRST_FIT, _GROWTH, _AT_MOST = 60, 1.5, 500
# Of the whole stream: every task but one appears for the first time somewhere in this first part of it.
_LAST_APPEARANCE = 0.5
_PROVIDER = "recorded"


@dataclass(frozen=True, slots=True)
class Recording:
    """n prompts with the outcome of each of m models. Costs in USD; `tokens` are (input, output)."""

    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    quality: Floats  # [n, m] in [0, 1]
    cost_usd: Floats  # [n, m]
    tokens: Floats  # [n, m, 2]

    def __len__(self) -> int:
        return len(self.prompts)


def load_recording(path: Path) -> Recording:
    """Prompts that all have the outcomes of the same models. Raises BadRecording, OSError."""
    rows = read_history(path)
    truth = outcome_table(rows, path)
    outcomes = [[row.outcomes[model] for model in truth.models] for row in rows]
    return Recording(
        prompts=tuple(row.prompt for row in rows),
        tasks=tuple(row.task for row in rows),
        models=truth.models,
        quality=truth.quality,
        cost_usd=truth.cost_usd,
        tokens=np.array([[(one.input_tokens, one.output_tokens) for one in line] for line in outcomes]),
    )


def catalogue(known: Recording, blur: float, draw: np.random.Generator) -> dict[str, ModelSpec]:
    """What a catalogue would say of the models: their prices (which are public; fitted to the recorded costs) and
    their mean quality, blurred by a normal error of standard deviation `blur`."""
    specs = {}
    for index, model in enumerate(known.models):
        prices, *_ = np.linalg.lstsq(known.tokens[:, index], known.cost_usd[:, index], rcond=None)
        quality = known.quality[:, index].mean() + draw.normal(0.0, blur)
        specs[model] = ModelSpec(
            id=model,
            provider=_PROVIDER,
            provider_model=model,
            cost_per_input_token=max(float(prices[0]), 0.0),
            cost_per_output_token=max(float(prices[1]), 0.0),
            quality_score=float(np.clip(quality, 0.0, 1.0)),
        )
    return specs


def arrival_order(tasks: Sequence[str], draw: np.random.Generator) -> Indices:
    """[n] the order in which the prompts arrive: shuffled, with tasks that appear one after the other."""
    names = sorted(set(tasks))
    starts = dict(zip(names, draw.uniform(0.0, _LAST_APPEARANCE, len(names)), strict=True))
    starts[names[int(draw.integers(len(names)))]] = 0.0
    begin = np.array([starts[task] for task in tasks])
    return np.argsort(begin + draw.random(len(tasks)) * (1.0 - begin), kind="stable").astype(np.int64)


def utilities(recording: Recording, cost_weight: float, quality_weight: float) -> Floats:
    """[n, m] the product's own objective with the true outcomes in the place of predictions."""
    scores = np.array([lower_is_better(costs) for costs in recording.cost_usd.tolist()])
    total = cost_weight + quality_weight
    return (cost_weight * scores + quality_weight * recording.quality) / total


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
