"""Recorded outcomes as a stream of requests: an order of arrival, true utilities, and a catalogue without history."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.routing import outcome_table
from bench.routing_files import read_history
from modelpilot.arrays import Floats, Indices
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.routing.scoring import lower_is_better

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
