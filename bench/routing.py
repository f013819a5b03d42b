"""`modelpilot bench routing`: the product's own estimators on recorded outcomes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from activities.requests.decision import NEIGHBOUR_ROWS
from bench.routing_files import BadRecording, Query
from bench.routing_gain import Table
from infra.vectors.embedders import WordLlamaEmbedder
from modelpilot.chat.profile import classify_request
from modelpilot.chat.text import estimate_prompt_tokens
from modelpilot.learning.estimation import Fit, Prediction, RequestFacts, TrainingRows, fit, predict_all
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import Neighbours, Vector, coded

_NOW_S = 1_790_000_000.0  # nothing recorded has a date: all of it is of today
_MS = 1_000.0

Advance = Callable[[int], None]


def _nobody(_: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts as the gateway would see them: one user message each."""

    vectors: Vector  # [n, dimension]
    request_types: tuple[str, ...]
    tokens: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.request_types)

    def at(self, places: NDArray[np.intp]) -> "Prompts":
        """Some of them."""
        return Prompts(
            self.vectors[places],
            tuple(self.request_types[place] for place in places),
            tuple(self.tokens[place] for place in places),
        )


async def embed_prompts(texts: Sequence[str], advance: Advance = _nobody) -> Prompts:
    """Vector, request type and size of each prompt; `advance` hears of each."""
    embedder, vectors, kinds, sizes = WordLlamaEmbedder(), [], [], []
    for text in texts:
        message = [{"role": "user", "content": text}]
        vectors.append(await embedder.embed(text))
        kinds.append(classify_request(message, has_tools=False))
        sizes.append(estimate_prompt_tokens(message))
        advance(1)
    return Prompts(np.stack(vectors), tuple(kinds), tuple(sizes))


class RecordedHistory:
    """A router with recorded outcomes as its history: fitted once, asked for any number of prompts."""

    def __init__(self, queries: Sequence[Query], prompts: Prompts) -> None:
        self._rows = recorded_rows(queries, prompts)
        self.fit: Fit = fit(self._rows, _NOW_S)
        order = np.argsort(self._rows.prompt, kind="stable")
        self._by_prompt = np.split(order, np.cumsum(np.bincount(self._rows.prompt, minlength=len(prompts)))[:-1])
        self._mean_cost_usd = _mean_costs(self._rows)

    def predict(self, prompts: Prompts, models: Sequence[Sequence[str]]) -> Iterator[dict[str, tuple[float, float]]]:
        """Expected quality and cost (USD) of each prompt's models."""
        specs: dict[str, ModelSpec] = {}
        for place, names in enumerate(models):
            for name in names:
                if name not in specs:
                    specs[name] = ModelSpec(id=name, provider="recorded", provider_model=name)
            wanted = [specs[name] for name in names]
            yield self._cost_known(wanted, self._predict(prompts, place, wanted))

    def _predict(self, prompts: Prompts, place: int, wanted: Sequence[ModelSpec]) -> list[Prediction]:
        vector = prompts.vectors[place]
        facts = RequestFacts(
            prompts.tokens[place],
            request_type=prompts.request_types[place],
            vector=vector,
            now=_NOW_S,
            costs_from_history=True,
        )
        return predict_all(wanted, facts, self._nearest(vector), self.fit.predictor)

    def _nearest(self, vector: Vector) -> Neighbours:
        rows = self._rows
        similarity = np.einsum("ij,j->i", rows.vectors, vector)
        answers = max(len(rows) // max(len(rows.vectors), 1), 1)
        nearest = np.argsort(-similarity, kind="stable")[: NEIGHBOUR_ROWS // answers + 1]
        places = np.concatenate([self._by_prompt[prompt] for prompt in nearest])[:NEIGHBOUR_ROWS]
        return Neighbours(
            similarity=similarity[rows.prompt[places]],
            models=rows.models,
            model=rows.model[places],
            request_ids=("",) * len(places),
            quality=rows.quality[places].astype(np.float32),
            cost_usd=rows.cost_usd[places].astype(np.float32),
            latency_ms=rows.latency_ms[places].astype(np.float32),
            output_tokens=rows.output_tokens[places].astype(np.float32),
            count=rows.count[places].astype(np.float32),
            timestamp=rows.timestamp[places],
        )

    def _cost_known(self, wanted: Sequence[ModelSpec], made: Sequence[Prediction]) -> dict[str, tuple[float, float]]:
        # A model that history does not know costs as much as the others do on the average, which favours it in nothing.
        usual = float(np.mean(list(self._mean_cost_usd.values())))
        return {
            spec.id: (each.quality, self._mean_cost_usd.get(spec.id, usual) if each.cost_usd is None else each.cost_usd)
            for spec, each in zip(wanted, made, strict=True)
        }


def recorded_rows(queries: Sequence[Query], prompts: Prompts) -> TrainingRows:
    """Every outcome of every prompt as columns to learn from."""
    models, model = coded([name for query in queries for name in query.outcomes])
    outcomes = [outcome for query in queries for outcome in query.outcomes.values()]
    ones = np.ones(len(outcomes))
    latency_s = [np.nan if outcome.latency_s is None else outcome.latency_s for outcome in outcomes]
    return TrainingRows(
        vectors=prompts.vectors,
        models=models,
        prompt=np.repeat(np.arange(len(queries)), [len(query.outcomes) for query in queries]),
        model=model,
        quality=np.array([outcome.quality for outcome in outcomes], np.float64),
        quality_weight=ones,
        input_tokens=np.array([outcome.input_tokens for outcome in outcomes], np.float64),
        output_tokens=np.array([outcome.output_tokens for outcome in outcomes], np.float64),
        cost_usd=np.array([outcome.cost_usd for outcome in outcomes], np.float64),
        latency_ms=np.array(latency_s, np.float64) * _MS,
        ttft_ms=np.full(len(outcomes), np.nan),
        count=ones,
        timestamp=np.full(len(outcomes), _NOW_S),
        request_types=prompts.request_types,
    )


def outcome_table(queries: Sequence[Query], read_from: Path) -> Table:
    """Quality and cost of every model on every prompt.

    Raises BadRecording, which names the file or folder, where the outcomes are not all of the same models.
    """
    models = queries[0].models
    if any(query.models != models for query in queries):
        raise BadRecording(f"{read_from}: every line must have outcomes of the same models, in the same order")
    outcomes = [[query.outcomes[model] for model in models] for query in queries]
    quality = np.array([[outcome.quality for outcome in row] for row in outcomes])
    return Table(models, quality, np.array([[outcome.cost_usd for outcome in row] for row in outcomes]))


def _mean_costs(rows: TrainingRows) -> Mapping[str, float]:
    sums = np.bincount(rows.model, rows.cost_usd, len(rows.models))
    means = sums / np.bincount(rows.model, minlength=len(rows.models))
    return dict(zip(rows.models, means.tolist(), strict=True))
