"""What each candidate is expected to cost, take, deliver and emit for one request: neighbours shrunk to priors.

Each estimate is a weighted mean of similar past outcomes of the model and `PSEUDO_COUNT` imaginary ones at the
catalogue's prior, so that thin or distant evidence moves little.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpilot.catalogue import NEUTRAL_LATENCY_MS, NEUTRAL_QUALITY, ModelSpec
from modelpilot.outcome import Usage
from modelpilot.pricing import call_cost_usd
from modelpilot.records import Neighbours

PSEUDO_COUNT_QUALITY = 10.0
PSEUDO_COUNT_MEASURED = 3.0  # latency and length vary less between prompts than right and wrong do
# Cosine similarity at which a neighbour says nothing, and from which it counts in full.
SIMILARITY_FLOOR, SIMILARITY_FULL = 0.2, 0.5
REPEAT_CAP = 5.0  # one prompt asked a thousand times is not a thousand pieces of evidence
DEFAULT_OUTPUT_TOKENS = 256.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """Expectations for one model and request. None means unknown; `evidence` is the number of neighbours used."""

    cost_usd: float | None
    latency_ms: float
    quality: float
    carbon_g: float | None
    output_tokens: float
    evidence: int


def predict(model: ModelSpec, neighbours: Neighbours, prompt_tokens: int, max_output_tokens: int | None) -> Prediction:
    """Expectations for `model`; the caller gives neighbours of this router only."""
    mine = np.fromiter((name == model.id for name in neighbours.models), bool, len(neighbours))
    weight = _weights(neighbours)
    prior_tokens = _shrunk(neighbours.output_tokens, weight, DEFAULT_OUTPUT_TOKENS, PSEUDO_COUNT_MEASURED)
    weight = np.where(mine, weight, np.float32(0.0))
    tokens = _shrunk(neighbours.output_tokens, weight, prior_tokens, PSEUDO_COUNT_MEASURED)
    if max_output_tokens is not None:
        tokens = min(tokens, float(max_output_tokens))
    latency_prior = NEUTRAL_LATENCY_MS if model.avg_latency_ms is None else model.avg_latency_ms
    quality_prior = NEUTRAL_QUALITY if model.quality_score is None else model.quality_score
    return Prediction(
        cost_usd=call_cost_usd(model, Usage(prompt_tokens, round(tokens))),
        latency_ms=_shrunk(neighbours.latency_ms, weight, latency_prior, PSEUDO_COUNT_MEASURED),
        quality=_shrunk(neighbours.quality, weight, quality_prior, PSEUDO_COUNT_QUALITY),
        carbon_g=None if model.carbon_g_per_1k_tokens is None else model.carbon_g_per_1k_tokens * tokens / 1000.0,
        output_tokens=tokens,
        evidence=int(np.count_nonzero(weight)),
    )


def _weights(neighbours: Neighbours) -> NDArray[np.float32]:
    closeness = (neighbours.similarity - SIMILARITY_FLOOR) / (SIMILARITY_FULL - SIMILARITY_FLOOR)
    return np.asarray(np.clip(closeness, 0.0, 1.0) * np.minimum(neighbours.count, REPEAT_CAP), np.float32)


def _shrunk(values: NDArray[np.float32], weight: NDArray[np.float32], prior: float, pseudo_count: float) -> float:
    known = np.isfinite(values)
    weight = np.where(known, weight, np.float32(0.0))
    total = float(weight.sum()) + pseudo_count
    return (float(np.dot(weight, np.where(known, values, np.float32(0.0)))) + pseudo_count * prior) / total
