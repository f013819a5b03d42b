"""A router that learns while it serves: the product's own history, fit and decision, one outcome at a time.

Recorded outcomes become a stream of requests: an order of arrival, true utilities, a catalogue without history."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.routing.offline import outcome_table, read_history
from modelpilot.arrays import Floats, Indices
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.learning.estimation import FittedPredictor, Learner, Outcome, Outlooks, TrainingRows, fit
from modelpilot.learning.estimation.admission import Rival, taught
from modelpilot.learning.estimation.basis import Basis
from modelpilot.learning.online import basis_may_be_due, own_basis
from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec
from modelpilot.requests.records import HistoryScope, Neighbours, RouterSnapshot, Vector
from modelpilot.routing.decision import Decision
from modelpilot.routing.router import Objective, Router
from modelpilot.routing.scoring import lower_is_better
from modelpilot.routing.selection import decide

SCOPE = HistoryScope("bench", "online")
_SECOND_PER_REQUEST = 60.0
_BEGAN_S = 1_700_000_000.0
_REFRESH = 10  # ungraded answers after which a gateway looks at what was learnt anew; a grade has it look at once
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


@dataclass(frozen=True)
class Known:
    """What is known before the stream: all outcomes of all models, learnt and, if that chooses better, fitted."""

    learner: Learner
    fitted: FittedPredictor | None = None


def known_before(
    recording: Recording, prompts: Prompts, basis: Basis, specs: Sequence[ModelSpec], objective: Objective
) -> Known:
    """A router that has had all of a recording's outcomes, its refit included."""
    rows = recorded(recording, prompts)
    cost, latency, quality, carbon = objective.shares()
    rival = Rival(basis, CatalogueColumns.of(specs), (cost, latency, quality, carbon))
    everything = taught(rows, np.ones(len(rows), bool), basis, _BEGAN_S)
    return Known(everything, fit(rows, _BEGAN_S, rival).predictor)


def recorded(recording: Recording, prompts: Prompts) -> TrainingRows:
    """Every outcome of every model as rows to learn from."""
    count, models = len(recording), len(recording.models)
    ones = np.ones(count * models)
    return TrainingRows(
        vectors=prompts.vectors,
        models=recording.models,
        prompt=np.repeat(np.arange(count), models),
        model=np.tile(np.arange(models), count),
        quality=recording.quality.ravel(),
        quality_weight=ones,
        input_tokens=recording.tokens[:, :, 0].ravel(),
        output_tokens=recording.tokens[:, :, 1].ravel(),
        cost_usd=recording.cost_usd.ravel(),
        latency_ms=1_000.0 * ones,
        ttft_ms=np.nan * ones,
        count=ones,
        timestamp=_BEGAN_S * ones,
    )


@dataclass
class Stream:
    """One run of one router. `learns` False: a router that follows its catalogue for ever."""

    recording: Recording
    prompts: Prompts
    specs: dict[str, ModelSpec]
    objective: Objective
    exploration: float
    draw: random.Random
    basis: Basis
    learns: bool = True
    known: Known | None = None
    _served: dict[int, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        models = list(self.recording.models)
        router = Router(id="online", available_models=models, objective=self.objective, exploration=self.exploration)
        self._snapshot = RouterSnapshot(SCOPE.user_id, router, 1, self.specs, {})
        self._clock, self._new, self._basis_prompts = 0, _REFRESH, 0
        self._learner = Learner(self.basis, _BEGAN_S) if self.known is None else self.known.learner.copy()

    def decide(self, query: int) -> Decision:
        """The decision for a prompt, with everything learnt so far."""
        self._clock += 1
        if self._new >= _REFRESH:
            self._outlooks, self._new = Outlooks(self._learner, self._now), 0
        return decide(
            self._snapshot,
            self.prompts.profiles[query],
            Neighbours.empty(),
            self.draw,
            fitted=self.known.fitted if self.known is not None else None,
            vector=self.prompts.vectors[query],
            learnt=self._outlooks if self.learns else None,
        )

    def served(self, query: int, model: int) -> None:
        """The chosen model has answered: its length is known, its quality is not."""
        used_in, used_out = self.recording.tokens[query, model].tolist()
        sized = self.prompts.profiles[query].prompt_tokens
        name = self.recording.models[model]
        self._served[query] = Outcome(name, 1.0, 0.0, 0.0, used_in, used_out, 1_000.0, sized, self._now)
        self._learner.learn(self.prompts.vectors[query], [self._served[query]])
        self._new += 1
        if self.known is None and basis_may_be_due(len(self._served) - 1.0, float(len(self._served))):
            self._renew()

    def graded(self, query: int, quality: float) -> None:
        """Somebody has said how good the answer was."""
        vector, before = self.prompts.vectors[query], self._served[query]
        self._served[query] = replace(before, quality=quality, weight=1.0)
        self._learner.learn(vector, [before], -1.0)
        self._learner.learn(vector, [self._served[query]])
        self._new = _REFRESH

    def _renew(self) -> None:
        """Features of the router's own prompts, where there are enough of them, with everything learnt anew."""
        basis = own_basis(self.prompts.vectors[sorted(self._served)], self._basis_prompts)
        if basis is not None:
            self._basis_prompts, self._learner, self._new = len(self._served), Learner(basis, _BEGAN_S), _REFRESH
            for query, outcome in self._served.items():
                self._learner.learn(self.prompts.vectors[query], [outcome])

    @property
    def _now(self) -> float:
        return _BEGAN_S + self._clock * _SECOND_PER_REQUEST
