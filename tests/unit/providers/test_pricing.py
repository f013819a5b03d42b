"""Cost of a call from its token counts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.catalogue import CatalogueColumns
from modelpilot.providers.pricing import call_cost_usd, call_costs_usd
from modelpilot.requests.outcome import Usage
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


PRICES = st.none() | st.sampled_from([0.0, 1e-7, 3e-5])


@given(st.lists(st.tuples(PRICES, PRICES, PRICES), min_size=1, max_size=5), st.integers(0, 999), st.integers(0, 999))
def test_many_models_cost_what_each_of_them_does(
    prices: list[tuple[float | None, float | None, float | None]], tokens: int, cached: int
) -> None:
    """The prices of a whole catalogue at once: unknown and cached ones as with a single model."""
    names = ("cost_per_input_token", "cost_per_cached_input_token", "cost_per_output_token")
    specs = [PRICED.model_copy(update=dict(zip(names, each, strict=True))) for each in prices]
    counts = np.full(len(specs), float(tokens))
    together = call_costs_usd(CatalogueColumns.of(specs), counts, counts, cached).tolist()
    alone = [call_cost_usd(each, Usage(tokens, tokens, cached)) for each in specs]
    assert [None if math.isnan(cost) else cost for cost in together] == alone
