"""Bills: every unit a line at its price, by the size of the prompt and the tier; and what they come to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.catalogue.seed import seed_models
from modelpilot.providers.catalogue import ModelSpec, UnitPrice
from modelpilot.providers.pricing import bill_of, call_cost_usd, merged, quantities, sum_of, total_usd
from modelpilot.requests.outcome import BillLine, Usage
from tests.support.routing_samples import spec

SEEDED = {model.id: model for model in seed_models()}
PLAIN = spec(cost_per_input_token=2.5e-6, cost_per_output_token=1e-5)


def priced(*prices: tuple[Any, ...], **fields: Any) -> ModelSpec:
    """A model with these further prices: unit, USD, from how many tokens on, tier."""
    names = ("unit", "usd", "from_tokens", "tier")
    return PLAIN.model_copy(update={"prices": [UnitPrice(**dict(zip(names, each, strict=False))) for each in prices]})


@pytest.mark.parametrize(
    ("model", "usd"),
    [("google/gemini-2.5-pro", 0.765), ("anthropic/claude-sonnet-4-5", 1.8225), ("openai/gpt-5.4", 1.5225)],
)
def test_long_prompts_cost_what_their_providers_charge(model: str, usd: float) -> None:
    """300,000 tokens in, 1,000 out: beyond the step of each of them."""
    seeded = SEEDED[model]
    assert call_cost_usd(seeded, Usage(300_000, 1_000)) == usd
    below = min(seeded.price_steps) - 1
    assert call_cost_usd(seeded, Usage(below, 0)) == pytest.approx(below * (seeded.cost_per_input_token or 0.0))


def test_sound_has_prices_of_its_own() -> None:
    """900 of 1,000 tokens in and 400 of 500 out."""
    model = priced(("audio_input", 32e-6), ("audio_output", 64e-6))
    usage = Usage(1_000, 500, audio_input_tokens=900, audio_output_tokens=400)
    assert call_cost_usd(model, usage) == 0.05565
    assert [(line.unit, line.quantity) for line in bill_of(model, usage)] == [
        ("input", 100), ("audio_input", 900), ("output", 100), ("audio_output", 400),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tier", "usd"),
    [(None, 0.0035), ("flex", 0.00175), ("priority", 0.006), ("batch", 0.0035)],
)
def test_a_tier_has_its_prices(tier: str | None, usd: float) -> None:
    """What it names none for costs what it does at the standard one, and so does a tier that nobody named."""
    model = priced(("input", 1.25e-6, 0, "flex"), ("output", 5e-6, 0, "flex"), ("input", 5e-6, 0, "priority"))
    assert sum_of(bill_of(model, Usage(1_000, 100), tier=tier)) == usd


@pytest.mark.parametrize(
    ("answered", "tier"),
    [
        ("flex", "flex"),
        ("Flex", "flex"),
        ("default", None),
        ("standard", None),
        (None, None),
        (7, None),
        ("batch", None),
    ],
)
def test_the_answered_tier_is_billed(answered: Any, tier: str | None) -> None:
    """Whatever was asked for; a word that is not among the prices means the standard ones."""
    assert priced(("input", 1e-6, 0, "flex")).known_tier(answered) == tier


def test_steps_and_tiers_go_together() -> None:
    """The highest step that the prompt reaches, within the tier."""
    model = priced(("input", 5e-6, 200_001), ("input", 1e-6, 0, "flex"), ("input", 2e-6, 200_001, "flex"))
    sizes = (200_000, 200_001)
    assert [model.price("input", size) for size in sizes] == [2.5e-6, 5e-6]
    assert [model.price("input", size, "flex") for size in sizes] == [1e-6, 2e-6]
    assert model.price_steps == {200_001}


def test_fees_are_charged_where_there_are_any() -> None:
    """Per request and per search; without a price there is none, and the cost is known all the same."""
    model = priced(("request", 0.005), ("web_search", 0.01))
    assert sum_of(bill_of(model, Usage(0, 0, web_searches=3))) == 0.035
    assert sum_of(bill_of(PLAIN, Usage(0, 0, web_searches=3))) == 0.0


def test_only_what_was_used_must_have_a_price() -> None:
    """Embeddings have no output; an unknown price of what was used makes the whole unknown."""
    model = spec(cost_per_input_token=1e-6, cost_per_output_token=None)
    assert sum_of(bill_of(model, Usage(10, 0))) == 1e-5
    (known, unknown) = bill_of(model, Usage(10, 1))
    assert (known.usd, unknown.usd, sum_of((known, unknown))) == (1e-5, None, None)


COUNT = st.integers(0, 10**7)


@given(st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT))
def test_every_token_is_on_the_bill_once(usage: Usage) -> None:
    """Parts within the input and output are not charged twice, and no quantity is negative."""
    found = quantities(usage)
    assert all(count >= 0 for count in found.values())
    written = usage.cache_write_tokens + usage.audio_input_tokens + usage.image_input_tokens
    if written <= usage.input_tokens:
        units = ("input", "cached_input", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
        assert sum(count for unit, count in found.items() if unit in units) == usage.input_tokens


@given(
    st.lists(
        st.lists(st.builds(BillLine, st.sampled_from("abc"), COUNT, st.integers(0, 10**12).map(lambda n: n / 10**12)))
    )
)
def test_bills_add_up_to_the_last_digit(bills: list[list[BillLine]]) -> None:
    """The merged bill of several calls comes to what they cost together."""
    amounts = [line.usd for each in bills for line in each if line.usd is not None]
    assert sum_of(merged(bills)) == total_usd(amounts)
