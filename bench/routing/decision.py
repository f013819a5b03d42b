"""`modelpilot bench decision`: what a decision costs inside one process, step by step, beside an empty decision."""

import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from activities.requests.decision import NEIGHBOUR_ROWS, Decided, DecisionSteps
from bench import machine
from bench.gateway.history import DAYS_S, PastModel, past_point, prompt
from bench.report import Progress, conditions, print_report, table
from bench.routing.token_counts import counts_table, measure_counts
from bench.statistics import percentiles
from infra.catalogue.basis import shipped_basis
from infra.vectors.embedders import WordLlamaEmbedder
from infra.vectors.hot_history import HotHistory
from infra.vectors.rows import HistoryRow, new_row
from infra.vectors.training import training_rows
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.learning.estimation import Outlooks, RequestFacts, fit, predict
from modelpilot.learning.estimation.admission import taught
from modelpilot.learning.estimation.learner import NOTHING_LEARNT
from modelpilot.learning.refit import Served, ServedPredictor
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import ProviderFacts
from modelpilot.requests.ports import Embedder
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, RouterSnapshot, Vector
from modelpilot.routing.router import Objective, Router
from modelpilot.routing.selection import decide

SCOPE = HistoryScope("bench", "decision")
EMPTY = "empty"
_WARM_UP_CALLS = 20
_FITTED_ROWS = 4_000  # enough for a predictor of full size
_PAGE_ROWS = 1_000
_PERCENTS = ("p50", "p95", "p99")
_SAYS = {
    "empty": "the decision without anything known of the prompt: what the others are compared with",
    "predict": "expectations for every model, from what was learnt online and the fitted predictor",
    "score": "the whole decision with its explanation, the expectations included",
    "embed": "the prompt's vector",
    "search": "its neighbours, from memory",
    "whole": "embed, search and score, as a request makes them",
    "read": "before that: the body read once, and the tokens of its prompt counted",
}


@dataclass(frozen=True, slots=True)
class DecisionOptions:
    """`calls` is per step; `history` is in rows."""

    models: int = 20
    history: int = 20_000
    calls: int = 1_000


@dataclass(frozen=True, slots=True)
class FittedOnce:
    """Implements `modelpilot.learning.refit.Predictors`."""

    served: Served

    @classmethod
    def of(cls, rows: Sequence[HistoryRow]) -> "FittedOnce":
        """Learnt from the newest rows, and fitted to them."""
        now, known = time.time(), training_rows(rows, _FITTED_ROWS)
        predictor = fit(known, now).predictor
        learner = taught(known, np.ones(len(known), bool), shipped_basis(), now)
        found = None if predictor is None else ServedPredictor(1, now, predictor)
        return cls(Served(1, now, Outlooks(learner, now), found))

    def get(self, scope: HistoryScope) -> Served | None:
        """The same for whoever asks."""
        return self.served


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Implements `infra.vectors.hot_history.HistoryStore` for what is only ever read into memory."""

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


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt with what a step may need of the steps before it."""

    profile: RequestProfile
    vector: Vector
    neighbours: Neighbours


Step = Callable[[Asked], Awaitable[object]]


class Decider:
    """One router with everything a decision of it takes, and its steps one by one."""

    def __init__(self, embedder: Embedder, history: HotHistory, known: RouterSnapshot, fitted: FittedOnce) -> None:
        self._embedder, self._history, self._snapshot = embedder, history, known
        self._fitted = fitted.served.predictor.fitted if fitted.served.predictor else None
        self._outlooks = fitted.served.outlooks or NOTHING_LEARNT
        self._draw = random.Random(0)
        self._steps = DecisionSteps(embedder, history, self._draw, predictors=fitted)

    async def asked(self, number: int) -> Asked:
        """Prompt `number`, as the scoring finds it."""
        text = prompt(number)
        body = {"messages": [{"role": "user", "content": text}]}
        vector = await self._embedder.embed(text)
        near = await self._history.query(SCOPE, vector, NEIGHBOUR_ROWS)
        return Asked(profile_request(body, ChatBody.model_validate(body)), vector, near)

    def steps(self) -> Mapping[str, Step]:
        """What is measured, by name."""
        return {
            EMPTY: self._empty,
            "predict": self._predict,
            "score": self._score,
            "embed": self._embed,
            "search": self._search,
            "whole": self.whole,
            "read": self._read,
        }

    async def whole(self, asked: Asked) -> Decided:
        """The decision as a request makes it: embed, search, score."""
        return await self._steps.decide(self._loaded, asked.profile)

    async def _empty(self, asked: Asked) -> object:
        return decide(self._snapshot, asked.profile, Neighbours.empty(), self._draw)

    async def _predict(self, asked: Asked) -> object:
        facts = RequestFacts(asked.profile.prompt_tokens, vector=asked.vector)
        return predict(self._snapshot.columns, facts, self._outlooks.of(self._snapshot.columns), self._fitted)

    async def _score(self, asked: Asked) -> object:
        return decide(
            self._snapshot,
            asked.profile,
            asked.neighbours,
            self._draw,
            fitted=self._fitted,
            vector=asked.vector,
            learnt=self._outlooks,
        )

    async def _embed(self, asked: Asked) -> object:
        return await self._embedder.embed(asked.profile.text)

    async def _search(self, asked: Asked) -> object:
        return await self._history.query(SCOPE, asked.vector, NEIGHBOUR_ROWS)

    async def _read(self, asked: Asked) -> object:
        return profile_request(asked.profile.body, ChatBody.model_construct(**asked.profile.body))

    async def _loaded(self) -> RouterSnapshot:
        return self._snapshot


async def bench_decision(options: DecisionOptions, progress: Progress) -> dict[str, Any]:
    """Measure every step in turns; the results as JSON. Nothing is started beside this process."""
    about = machine.about("decision", options)
    embedder, specs = WordLlamaEmbedder(), models(options.models)
    progress(f"embedding {options.history:,} past prompts")
    rows = await past_rows(embedder, specs, options.history)
    history = HotHistory(StoredRows(embedder.dimension, rows), cap_rows=options.history)
    await history.warm(SCOPE)
    progress("counting tokens")
    counts = measure_counts()
    progress("fitting a predictor")
    fitted = FittedOnce.of(rows)
    try:
        samples = await _measure(Decider(embedder, history, snapshot(specs), fitted), options, progress)
    finally:
        await history.close()
    return {
        **about,
        "fitted": fitted.served.predictor is not None,
        "results": results(samples),
        "counts": counts,
    }


def results(samples: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """JSON: percentiles of each step, and its p50 as a multiple of the empty decision's."""
    figures = {name: percentiles(taken) for name, taken in samples.items()}
    return {
        name: {
            "ms": {percent: round(value, 4) for percent, value in found.items()},
            "ofEmpty": round(found["p50"] / figures[EMPTY]["p50"], 3),
        }
        for name, found in figures.items()
    }


def show_decision(found: Mapping[str, Any]) -> None:
    """Print a line per step, and the conditions."""
    rows = [
        (name, *(f"{step['ms'][percent]:.2f}" for percent in _PERCENTS), f"{step['ofEmpty']:.2f}", _SAYS[name])
        for name, step in found["results"].items()
    ]
    columns = ("step", *(f"{percent} ms" for percent in _PERCENTS), "of empty", "is")
    options = found["options"]
    predictor = "a fitted predictor" if found["fitted"] else "no predictor (its fit was refused)"
    print_report(
        table("One decision", columns, rows, texts=("step", "is")),
        counts_table(found["counts"]),
        f"{options['models']} models, {options['history']:,} past prompts, {predictor}, {options['calls']:,} calls of "
        f"each step; {conditions(found)}",
        least_width=124,
    )


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


async def _measure(decider: Decider, options: DecisionOptions, progress: Progress) -> Mapping[str, Sequence[float]]:
    """Milliseconds of each call. Every prompt meets every step, each time another one first."""
    steps, samples = list(decider.steps().items()), defaultdict(list)
    progress(f"{options.calls:,} calls of each step")
    for call in range(-_WARM_UP_CALLS, options.calls):
        asked = await decider.asked(options.history + call + _WARM_UP_CALLS)
        first = call % len(steps)
        for name, step in (*steps[first:], *steps[:first]):
            began = time.perf_counter()
            await step(asked)
            took_ms = (time.perf_counter() - began) * 1000.0
            if call >= 0:
                samples[name].append(took_ms)
    return {name: samples[name] for name, _ in steps}
