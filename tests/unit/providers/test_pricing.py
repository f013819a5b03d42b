"""Cost of a call from its token counts."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec, UnitPrice
from modelpilot.providers.pricing import bill, call_cost_usd, call_costs_usd, prices_of
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


@given(st.lists(st.tuples(PRICES, PRICES, PRICES), min_size=1, max_size=5), st.integers(1, 999), st.integers(0, 999))
def test_many_models_cost_what_each_of_them_does(
    prices: list[tuple[float | None, float | None, float | None]], tokens: int, cached: int
) -> None:
    """The prices of a whole catalogue at once: unknown and cached ones as with a single model."""
    cached = min(cached, tokens - 1)  # the price of what is not used need not be known, which a column cannot say
    names = ("cost_per_input_token", "cost_per_cached_input_token", "cost_per_output_token")
    specs = [PRICED.model_copy(update=dict(zip(names, each, strict=True))) for each in prices]
    counts = np.full(len(specs), float(tokens))
    together = call_costs_usd(CatalogueColumns.of(specs), counts, counts, np.full(len(specs), float(cached))).tolist()
    alone = [call_cost_usd(each, Usage(tokens, tokens, cached)) for each in specs]
    assert [None if math.isnan(cost) else pytest.approx(cost, abs=1e-12) for cost in together] == alone


CLAUDE = spec(cost_per_input_token=1e-6, cost_per_cached_input_token=1e-7, cost_per_output_token=5e-6)


@pytest.mark.parametrize(
    ("kind", "prices", "five_minutes", "hour"),
    [
        ("anthropic", [], 0.12551, 0.20051),
        ("openai", [], 0.10051, 0.10051),
        (None, [], 0.10051, 0.10051),
        ("openrouter", [UnitPrice(unit="cache_write_5m", usd=1.25e-6)], 0.12551, 0.12551),
        ("anthropic", [UnitPrice(unit="cache_write_1h", usd=3e-6)], 0.12551, 0.30051),
        (
            "anthropic",
            [UnitPrice(unit="input", usd=2e-6), UnitPrice(unit="input", usd=0.0, tier="flex")],
            0.25052,
            0.40052,
        ),
        ("anthropic", [UnitPrice(unit="input", usd=2e-6, from_tokens=200_000)], 0.12551, 0.20051),
        ("anthropic", [UnitPrice(unit="input", usd=2e-6, from_tokens=100_000)], 0.25052, 0.40052),
    ],
)
def test_writing_to_a_cache_has_its_price(kind: Any, prices: list[UnitPrice], five_minutes: float, hour: float) -> None:
    """The catalogue's, else Anthropic's 1.25 and 2 times the price of input, else that of input; by size of prompt."""
    model = CLAUDE.model_copy(update={"prices": prices})
    assert call_cost_usd(model, Usage(100_010, 100, cache_write_5m_tokens=100_000), kind) == five_minutes
    assert call_cost_usd(model, Usage(100_010, 100, cache_write_1h_tokens=100_000), kind) == hour


COUNTS = st.integers(0, 10**7)


@given(st.lists(st.floats(0.0, 1e-5), min_size=3, max_size=3), st.lists(COUNTS, min_size=5, max_size=5))
def test_a_bill_adds_up_to_the_last_digit(prices: list[float], counts: list[int]) -> None:
    """Written as decimals, its lines are exactly what is recorded as the cost, and name every token once."""
    names = ("cost_per_input_token", "cost_per_cached_input_token", "cost_per_output_token")
    model = CLAUDE.model_copy(update=dict(zip(names, prices, strict=True)))
    fresh, output, cached, five, hour = counts
    usage = Usage(fresh + cached + five + hour, output, cached, 0, five, hour)
    known = prices_of(model, "anthropic")
    assert known is not None
    lines = bill(usage, known)
    assert sum(Decimal(repr(line.usd)) for line in lines) == Decimal(repr(call_cost_usd(model, usage, "anthropic")))
    assert sum(line.quantity for line in lines) == usage.total_tokens


def test_absurd_counts_are_billed_all_the_same() -> None:
    """A provider's nonsense must not lose an answer that was paid for."""
    cost = call_cost_usd(CLAUDE.model_copy(update={"cost_per_input_token": 1_000.0}), Usage(2**63, 1))
    assert cost == pytest.approx(2**63 * 1_000.0)


def test_a_model_names_each_price_once() -> None:
    """Two prices of one unit for the same prompts would leave the bill to their order."""
    price = {"unit": "cache_write_5m", "usd": 1e-6}
    with pytest.raises(ValidationError, match="of its own"):
        ModelSpec.model_validate({**CLAUDE.to_wire(), "prices": [price, price]})
