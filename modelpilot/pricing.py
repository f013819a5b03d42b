"""Cost arithmetic, USD. Prices are USD per token; an unknown price makes the cost unknown, never zero."""

from modelpilot.catalogue import ModelSpec
from modelpilot.outcome import Usage


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
