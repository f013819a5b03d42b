"""What calls cost (USD) and emit (gCO2e). Where a price or a figure is unknown the result is unknown, never zero.

Prices are USD per token.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from modelpilot.arrays import Floats
from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec
from modelpilot.requests.outcome import Attempt, Usage


def call_cost_usd(model: ModelSpec, usage: Usage) -> float | None:
    """What a call cost by its token counts; cached input at its own price where the catalogue has one."""
    if model.cost_per_input_token is None or model.cost_per_output_token is None:
        return None
    cached_price = model.cost_per_cached_input_token
    if cached_price is None:
        cached_price = model.cost_per_input_token
    fresh = max(usage.input_tokens - usage.cached_tokens, 0)
    return (
        fresh * model.cost_per_input_token
        + usage.cached_tokens * cached_price
        + usage.output_tokens * model.cost_per_output_token
    )


def call_costs_usd(
    columns: CatalogueColumns, input_tokens: Floats, output_tokens: Floats, cached_tokens: int
) -> Floats:
    """`call_cost_usd` of every model by its own token counts [models]; NaN is unknown."""
    fresh = np.maximum(input_tokens - cached_tokens, 0.0)
    return fresh * columns.input_price + cached_tokens * columns.cached_price + output_tokens * columns.output_price


TOKENS_PER_UNIT = 1_000.0
_FIELD = "carbonGPer1kTokens"


def carbon_g(attempts: Iterable[Attempt], specs: Mapping[str, Mapping[str, Any]]) -> float | None:
    """gCO2e of all calls together, failed ones included: the catalogue's figure per 1,000 tokens times their tokens.
    None where a model that used tokens has no known figure.

    `specs` has the catalogue entries (ModelSpec as JSON) by model id.
    """
    total = 0.0
    for attempt in attempts:
        tokens = attempt.usage.total_tokens
        per_unit = specs.get(attempt.model, {}).get(_FIELD)
        if tokens and per_unit is None:
            return None
        total += tokens / TOKENS_PER_UNIT * (per_unit or 0.0)
    return total


def carbon_range_g(
    by_model: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> tuple[float, float] | None:
    """Between which gCO2e the sum over models lies. `ranges` are multiples of a model's own figure; a model without one
    counts as it is. None where no model with emissions has a range."""
    if not any(grams > 0.0 and model in ranges for model, grams in by_model.items()):
        return None
    factors = {model: ranges.get(model, (1.0, 1.0)) for model in by_model}
    low, high = (sum(grams * factors[model][end] for model, grams in by_model.items()) for end in (0, 1))
    return low, high
