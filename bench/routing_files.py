"""Recorded routing outcomes: one JSON object per line, plain or gzipped.

A line of history has `query_id`, `prompt` and `outcomes`: {model: [quality 0..1, cost USD, latency s or null, input
tokens, output tokens]}. A query has `models` (a list of names) instead; of outcomes in it only the names are read.
"""

import gzip
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

_LENGTH = 5


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
