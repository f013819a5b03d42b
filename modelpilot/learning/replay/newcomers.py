"""Models that a logged decision did not consider, predicted from what the router has seen of them at other times."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from modelpilot.learning.estimation import Prediction
from modelpilot.learning.replay.table import QUALITY, DecisionTable
from modelpilot.providers.catalogue import NEUTRAL_LATENCY_MS, NEUTRAL_QUALITY, ModelSpec
from modelpilot.providers.pricing import call_cost_usd
from modelpilot.requests.outcome import Usage
from modelpilot.routing.eligibility import breaks_constraint, cannot_serve
from modelpilot.routing.router import Constraints

# Fewer outcomes than this are no evidence: the model is left out of the replay, which says so.
MINIMUM_OUTCOMES = 10
_QUALITY_PSEUDO_COUNT, _LATENCY_PSEUDO_COUNT = 10.0, 3.0
_WIDEST_SD = 0.5  # of a value in [0, 1]


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """Means over the outcomes of one model in one router. `quality` is None where nobody has judged any."""

    outcomes: int
    graded: int
    quality: float | None
    latency_ms: float
    output_tokens: float
    latency_sd_ms: float = 0.0
    output_tokens_sd: float = 0.0


def add_newcomers(
    table: DecisionTable,
    specs: Mapping[str, ModelSpec],
    histories: Mapping[str, ModelHistory],
    constraints: Constraints,
) -> None:
    """Predict, in place, each model of `specs` for the requests that did not consider it; `constraints` are the
    router's. A model without MINIMUM_OUTCOMES is left unpredicted."""
    for name, spec in specs.items():
        history = histories.get(name)
        if name not in table.models or history is None or history.outcomes < MINIMUM_OUTCOMES:
            continue
        place = table.models.index(name)
        for row in np.flatnonzero(np.isnan(table.mean[:, place, QUALITY])):
            _add(table, int(row), place, spec, history, constraints)


def _add(
    table: DecisionTable, row: int, place: int, spec: ModelSpec, history: ModelHistory, constraints: Constraints
) -> None:
    needs = _needs(table.needs[row])
    predicted = _predict(spec, history, needs)
    table.mean[row, place] = np.array(
        [predicted.cost_usd, predicted.latency_ms, predicted.quality, predicted.carbon_g], np.float64
    )
    spread = (predicted.cost_sd_usd, predicted.latency_sd_ms, predicted.quality_sd, predicted.carbon_sd_g)
    table.sd[row, place] = np.nan_to_num(np.array(spread, np.float64))
    table.evidence[row, place] = predicted.evidence
    table.able[row, place] = cannot_serve(spec, needs) is None
    table.constrained[row, place] = breaks_constraint(spec, predicted, constraints) is not None


class _Needs(NamedTuple):
    capabilities: frozenset[str]
    prompt_tokens: int
    max_output_tokens: int | None


def _needs(logged: Mapping[str, Any]) -> _Needs:
    capabilities = frozenset(logged.get("capabilities", ()))
    return _Needs(capabilities, int(logged["promptTokens"]), logged.get("maxOutputTokens"))


def _predict(spec: ModelSpec, history: ModelHistory, needs: _Needs) -> Prediction:
    limit = needs.max_output_tokens
    tokens = history.output_tokens if limit is None else min(history.output_tokens, float(limit))
    tokens_sd = history.output_tokens_sd / history.outcomes**0.5
    latency_prior = NEUTRAL_LATENCY_MS if spec.avg_latency_ms is None else spec.avg_latency_ms
    quality_prior = NEUTRAL_QUALITY if spec.quality_score is None else spec.quality_score
    cost = call_cost_usd(spec, Usage(needs.prompt_tokens, round(tokens)))
    carbon_per_token = None if spec.carbon_g_per_1k_tokens is None else spec.carbon_g_per_1k_tokens / 1000.0
    return Prediction(
        cost_usd=cost,
        latency_ms=_shrunk(history.latency_ms, history.outcomes, latency_prior, _LATENCY_PSEUDO_COUNT),
        quality=_shrunk(history.quality or 0.0, history.graded, quality_prior, _QUALITY_PSEUDO_COUNT),
        carbon_g=None if carbon_per_token is None else carbon_per_token * tokens,
        output_tokens=tokens,
        evidence=history.outcomes,
        quality_sd=_WIDEST_SD / (history.graded + _QUALITY_PSEUDO_COUNT) ** 0.5,
        cost_sd_usd=tokens_sd * (spec.cost_per_output_token or 0.0),
        latency_sd_ms=history.latency_sd_ms / history.outcomes**0.5,
        carbon_sd_g=None if carbon_per_token is None else carbon_per_token * tokens_sd,
    )


def _shrunk(mean: float, count: int, prior: float, pseudo_count: float) -> float:
    return (mean * count + prior * pseudo_count) / (count + pseudo_count)
