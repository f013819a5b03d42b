"""Cost arithmetic, USD. Prices are USD per token; an unknown price makes the cost unknown, never zero."""

import numpy as np
from numpy.typing import NDArray

from modelpilot.catalogue import ModelSpec
from modelpilot.listing import Listing
from modelpilot.outcome import Usage

Floats = NDArray[np.float64]


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


def call_costs_usd(listing: Listing, input_tokens: Floats, output_tokens: Floats, cached_tokens: int) -> Floats:
    """`call_cost_usd` of every model by its own token counts [models]; NaN is unknown."""
    fresh = np.maximum(input_tokens - cached_tokens, 0.0)
    return fresh * listing.input_price + cached_tokens * listing.cached_price + output_tokens * listing.output_price
