"""`modelpilot bench routing`: the product's own estimators on recorded outcomes.

A recording has one JSON object per line, plain or gzipped. A line of history has `query_id`, `prompt` and `outcomes`:
{model: [quality 0..1, cost USD, latency s or null, input tokens, output tokens]}. A query has `models`, which is a list
of names, instead; of outcomes in it only the names are read.
"""

import gzip
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.routing.gain import Table
from infra.catalogue.basis import shipped_basis
from infra.vectors.embedders import WordLlamaEmbedder
from modelpilot.chat.size import PromptSize
from modelpilot.learning.estimation import Fit, Outlooks, Prediction, RequestFacts, TrainingRows, fit, predict
from modelpilot.learning.estimation.admission import taught
from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec
from modelpilot.requests.records import Vector, coded

_LENGTH = 5
_NOW_S = 1_790_000_000.0  # nothing recorded has a date: all of it is of today
_MS = 1_000.0
Advance = Callable[[int], None]


class BadRecording(Exception):
    """A file that cannot be read as recorded outcomes; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model made of one prompt. None: not recorded."""

    quality: float
    cost_usd: float
    latency_s: float | None
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Query:
    """One prompt. `outcomes` is empty where the file was read as queries."""

    query_id: str
    prompt: str
    models: tuple[str, ...]
    outcomes: Mapping[str, Outcome]
    task: str = ""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts as the gateway would see them: one user message each."""

    vectors: Vector  # [n, dimension]
    tokens: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, places: NDArray[np.intp]) -> "Prompts":
        """Some of them."""
        return Prompts(
            self.vectors[places],
            tuple(self.tokens[place] for place in places),
        )


class RecordedHistory:
    """A router with recorded outcomes as its history: learnt and fitted once, asked for any number of prompts."""

    def __init__(self, queries: Sequence[Query], prompts: Prompts) -> None:
        rows = recorded_rows(queries, prompts)
        self.fit: Fit = fit(rows, _NOW_S)
        learner = taught(rows, np.ones(len(rows), bool), shipped_basis(), _NOW_S)
        self._outlooks = Outlooks(learner, _NOW_S)
        self._mean_cost_usd = _mean_costs(rows)

    def predict(self, prompts: Prompts, models: Sequence[Sequence[str]]) -> Iterator[dict[str, tuple[float, float]]]:
        """Expected quality and cost (USD) of each prompt's models."""
        columns: dict[tuple[str, ...], CatalogueColumns] = {}
        for place, names in enumerate(map(tuple, models)):
            if names not in columns:
                specs = [ModelSpec(id=name, provider="recorded", provider_model=name) for name in names]
                columns[names] = CatalogueColumns.of(specs)
            yield self._cost_known(names, self._predict(prompts, place, columns[names]))

    def _predict(self, prompts: Prompts, place: int, columns: CatalogueColumns) -> list[Prediction]:
        facts = RequestFacts(prompts.tokens[place], vector=prompts.vectors[place], costs_from_history=True)
        return predict(columns, facts, self._outlooks.of(columns), self.fit.predictor)

    def _cost_known(self, names: Sequence[str], made: Sequence[Prediction]) -> dict[str, tuple[float, float]]:
        # A model that history does not know costs as much as the others do on the average, which favours it in nothing.
        usual = float(np.mean(list(self._mean_cost_usd.values())))
        return {
            name: (each.quality, self._mean_cost_usd.get(name, usual) if each.cost_usd is None else each.cost_usd)
            for name, each in zip(names, made, strict=True)
        }


def _nobody(_: int) -> None:
    """Progress that nobody watches."""


def read_history(path: Path) -> list[Query]:
    """Prompts with their outcomes. Raises BadRecording, OSError."""
    return [_history_line(line, f"{path}, line {number}") for number, line in _lines(path)]


def read_queries(path: Path) -> list[Query]:
    """Prompts and model names only, whatever else the file has. Raises BadRecording, OSError."""
    queries = [_query_line(line, f"{path}, line {number}") for number, line in _lines(path)]
    if len({query.query_id for query in queries}) < len(queries):
        raise BadRecording(f"{path}: a query_id occurs twice")
    return queries


def write_predictions(path: Path, lines: Iterable[tuple[str, Mapping[str, tuple[float, float]]]]) -> None:
    """One line per query: expected quality and cost (USD) of every model; gzipped where the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as file:
        for query_id, expected in lines:
            predictions = {model: {"quality": pair[0], "costUsd": pair[1]} for model, pair in expected.items()}
            file.write(orjson.dumps({"query_id": query_id, "predictions": predictions}) + b"\n")


async def embed_prompts(texts: Sequence[str], advance: Advance = _nobody) -> Prompts:
    """Vector and size of each prompt; `advance` hears of each."""
    embedder, vectors, sizes = WordLlamaEmbedder(), [], []
    for text in texts:
        message = [{"role": "user", "content": text}]
        vectors.append(await embedder.embed(text))
        sizes.append(PromptSize.of({"messages": message}).tokens)
        advance(1)
    return Prompts(np.stack(vectors), tuple(sizes))


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


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    found = False
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    found = True
                    yield number, _parsed(text, f"{path}, line {number}")
    except (EOFError, gzip.BadGzipFile) as error:
        raise BadRecording(f"{path}: {error}") from error
    if not found:
        raise BadRecording(f"{path}: no lines in it")


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        line: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRecording(f"{where}: {error}") from error
    texts = [line.get(name) for name in ("query_id", "prompt")] if isinstance(line, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise BadRecording(f"{where}: an object with query_id and prompt was expected")
    return dict(line)


def _history_line(line: dict[str, Any], where: str) -> Query:
    outcomes = line.get("outcomes")
    if not isinstance(outcomes, dict) or not outcomes:
        raise BadRecording(f"{where}: a line of history needs outcomes")
    read = {model: _outcome(values, f"{where}, {model}") for model, values in outcomes.items()}
    return Query(line["query_id"], line["prompt"], tuple(read), read, str(line.get("task", "")))


def _query_line(line: dict[str, Any], where: str) -> Query:
    models = line.get("models") or list(line.get("outcomes") or ())
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise BadRecording(f"{where}: a query needs models, a list of names")
    return Query(line["query_id"], line["prompt"], tuple(models), {})


def _outcome(values: Any, where: str) -> Outcome:
    usable = isinstance(values, list) and len(values) == _LENGTH
    numbers = [value for place, value in enumerate(values) if place != 2 or value is not None] if usable else []
    if not numbers or not all(type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in numbers):
        raise BadRecording(f"{where}: [quality, cost, latency or null, input tokens, output tokens] was expected")
    if values[0] > 1.0:
        raise BadRecording(f"{where}: quality {values[0]} is above 1")
    return Outcome(*values)


def _mean_costs(rows: TrainingRows) -> Mapping[str, float]:
    sums = np.bincount(rows.model, rows.cost_usd, len(rows.models))
    means = sums / np.bincount(rows.model, minlength=len(rows.models))
    return dict(zip(rows.models, means.tolist(), strict=True))
