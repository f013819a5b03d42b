"""Cost of a call from its token counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.outcome import Usage
from modelpilot.pricing import call_cost_usd
from tests.support.routing_samples import spec

PRICED = spec(cost_per_input_token=3e-5, cost_per_output_token=6e-5)


@pytest.mark.parametrize(
    ("usage", "cached_price", "cost"),
    [
        (Usage(1_000, 1_000), None, 0.09),
        (Usage(0, 0), None, 0.0),
        (Usage(1_000, 0, cached_tokens=400), None, 0.03),
        (Usage(1_000, 0, cached_tokens=400), 1e-5, 0.022),
        (Usage(1_000, 0, cached_tokens=400), 0.0, 0.018),
        (Usage(100, 50, reasoning_tokens=40), None, 0.006),
    ],
)
def test_known_costs(usage: Usage, cached_price: float | None, cost: float) -> None:
    """gpt-4's reference prices (0.03 / 0.06 USD per 1,000), cached input at its own price, reasoning within output."""
    priced = PRICED.model_copy(update={"cost_per_cached_input_token": cached_price})
    assert call_cost_usd(priced, usage) == pytest.approx(cost)


@pytest.mark.parametrize("field", ["cost_per_input_token", "cost_per_output_token"])
def test_an_unknown_price_makes_the_cost_unknown(field: str) -> None:
    """Unknown is never zero."""
    assert call_cost_usd(PRICED.model_copy(update={field: None}), Usage(1, 1)) is None


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**8))
def test_costs_are_never_negative(inputs: int, outputs: int, cached: int) -> None:
    """Not even where a provider reports more cached than input tokens."""
    cost = call_cost_usd(PRICED, Usage(inputs, outputs, cached))
    assert cost is not None
    assert cost >= 0.0
