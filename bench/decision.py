"""`modelpilot bench decision`: what a decision costs inside one process, step by step, beside an empty decision."""

import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from activities.requests.decision import NEIGHBOUR_ROWS, Decided, DecisionSteps
from bench import machine
from bench.decision_past import SCOPE, FittedOnce, StoredRows, models, past_rows, snapshot
from bench.prompts import prompt
from bench.statistics import percentiles
from infra.vectors.embedders import WordLlamaEmbedder
from infra.vectors.hot_index import HotHistory
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.learning.estimation import FittedPredictor, RequestFacts, predict
from modelpilot.requests.ports import Embedder
from modelpilot.requests.records import Neighbours, RouterSnapshot, Vector
from modelpilot.routing.selection import decide

EMPTY = "empty"
_WARM_UP_CALLS = 20

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DecisionOptions:
    """`calls` is per step; `history` is in rows."""

    models: int = 20
    history: int = 20_000
    calls: int = 1_000


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
        self._fitted: FittedPredictor | None = fitted.served.fitted if fitted.served else None
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
        }

    async def whole(self, asked: Asked) -> Decided:
        """The decision as a request makes it: embed, search, score."""
        return await self._steps.decide(self._loaded, asked.profile)

    async def _empty(self, asked: Asked) -> object:
        return decide(self._snapshot, asked.profile, Neighbours.empty(), self._draw)

    async def _predict(self, asked: Asked) -> object:
        profile, now = asked.profile, time.time()
        facts = RequestFacts(profile.prompt_tokens, None, profile.request_type, vector=asked.vector, now=now)
        return predict(self._snapshot.listing, facts, asked.neighbours, self._fitted)

    async def _score(self, asked: Asked) -> object:
        return decide(
            self._snapshot,
            asked.profile,
            asked.neighbours,
            self._draw,
            fitted=self._fitted,
            vector=asked.vector,
            now=time.time(),
        )

    async def _embed(self, asked: Asked) -> object:
        return await self._embedder.embed(asked.profile.text)

    async def _search(self, asked: Asked) -> object:
        return await self._history.query(SCOPE, asked.vector, NEIGHBOUR_ROWS)

    async def _loaded(self) -> RouterSnapshot:
        return self._snapshot


async def bench_decision(options: DecisionOptions, progress: Progress) -> dict[str, Any]:
    """Measure every step in turns; the results as JSON. Nothing is started beside this process."""
    about = machine.about("decision")
    embedder, specs = WordLlamaEmbedder(), models(options.models)
    progress(f"embedding {options.history:,} past prompts")
    rows = await past_rows(embedder, specs, options.history)
    history = HotHistory(StoredRows(embedder.dimension, rows), cap_rows=options.history)
    await history.warm(SCOPE)
    progress("fitting a predictor")
    fitted = FittedOnce.of(rows)
    try:
        samples = await _measure(Decider(embedder, history, snapshot(specs), fitted), options, progress)
    finally:
        await history.close()
    return {
        **about,
        "options": {"models": options.models, "history": options.history, "calls": options.calls},
        "fitted": fitted.served is not None,
        "results": results(samples),
    }


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
