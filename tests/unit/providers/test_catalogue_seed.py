"""The seeded catalogue: known facts, honest gaps, valid ids."""

from datetime import date
from typing import Any

import pytest
from pydantic import TypeAdapter

from infra.catalogue.models import listed_models
from infra.catalogue.seed import _PREDECESSOR, _PRIORS, REFERENCE_PRICES, price_origin, seed_models
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import profile_request
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.routing.eligibility import cannot_serve
from modelpilot.routing.router import ModelId
from simulator.models import MODELS

SEED = {spec.id: spec for spec in seed_models()}


def test_it_has_the_common_models_of_the_four_providers_and_the_simulator() -> None:
    """Enough to choose from at once, under `provider/model` ids, each once, and no bare ids."""
    assert 60 <= len(SEED) <= 150
    assert len(SEED) == len(seed_models()) == len(listed_models()) + len(MODELS) + 1  # sim/embed
    assert {spec.provider for spec in SEED.values()} == {"openai", "anthropic", "google", "openrouter", "simulator"}
    wanted = ["openai/gpt-4", "openai/gpt-3.5-turbo", "openai/gpt-4o", "anthropic/claude-3-sonnet"]
    wanted += ["google/gemini-2.5-pro", "openrouter/meta-llama/llama-3.3-70b-instruct"]
    wanted += ["sim/small", "sim/large", "sim/embed"]
    assert set(wanted) <= set(SEED)


@pytest.mark.parametrize("spec", SEED.values(), ids=list(SEED))
def test_every_entry_is_valid_and_has_no_zero_price(spec: ModelSpec) -> None:
    """Unknown is None: a zero would make a model free in every comparison."""
    TypeAdapter(ModelId).validate_python(spec.id)
    assert "/" in spec.id
    assert spec.provider == ("simulator" if spec.id.startswith("sim/") else spec.id.split("/")[0])
    for price in (spec.cost_per_input_token, spec.cost_per_cached_input_token, spec.cost_per_output_token):
        assert price is None or 1e-9 < price < 1e-3
    cached, full = spec.cost_per_cached_input_token, spec.cost_per_input_token
    assert cached is None or (full is not None and cached <= full)
    assert spec.carbon_g_per_1k_tokens is None or 0 < spec.carbon_g_per_1k_tokens < 100
    assert spec.capabilities == ["embeddings"] or {"chat", "streaming"} <= set(spec.capabilities)
    assert ModelSpec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec


def test_the_reference_points_of_the_product() -> None:
    """gpt-4 and claude-3-sonnet are given by the product, prices per 1,000 tokens included."""
    gpt_4, sonnet = SEED["openai/gpt-4"], SEED["anthropic/claude-3-sonnet"]
    assert (gpt_4.quality_score, gpt_4.avg_latency_ms, gpt_4.limits.context_window) == (0.95, 2_500.0, 8_192)
    assert gpt_4.cost_per_input_token == pytest.approx(0.03 / 1_000)
    assert gpt_4.cost_per_output_token == pytest.approx(0.06 / 1_000)
    assert (sonnet.quality_score, sonnet.avg_latency_ms) == (0.92, 1_800.0)
    assert sonnet.cost_per_input_token == pytest.approx(0.015 / 1_000)
    assert sonnet.cost_per_output_token == pytest.approx(0.075 / 1_000)
    assert sonnet.cost_per_cached_input_token is None


@pytest.mark.parametrize(
    ("model_id", "input_usd_per_million", "output_usd_per_million", "context_window"),
    [
        ("openai/gpt-3.5-turbo", 0.5, 1.5, 16_385),
        ("openai/gpt-4o", 2.5, 10.0, 128_000),
        ("openai/gpt-4o-mini", 0.15, 0.6, 128_000),
        ("anthropic/claude-3-haiku", 0.25, 1.25, 200_000),
        ("google/gemini-2.5-pro", 1.25, 10.0, 1_048_576),
    ],
)
def test_well_known_prices(
    model_id: str, input_usd_per_million: float, output_usd_per_million: float, context_window: int
) -> None:
    """Per token, of the standard tier, below the first price step; a slip by 1,000 would show here."""
    spec = SEED[model_id]
    assert spec.cost_per_input_token == pytest.approx(input_usd_per_million / 1e6)
    assert spec.cost_per_output_token == pytest.approx(output_usd_per_million / 1e6)
    assert spec.limits.context_window == context_window


@pytest.mark.parametrize("spec", SEED.values(), ids=list(SEED))
def test_limits_are_known_for_all(spec: ModelSpec) -> None:
    """What is asked beyond a limit can be clamped only where the limit is known."""
    longest, window = spec.limits.max_tokens, spec.limits.context_window
    assert longest is not None
    assert window is not None
    assert longest <= window
    assert (longest == 1) == (spec.capabilities == ["embeddings"])


@pytest.mark.parametrize(
    ("model_id", "longest"),
    [
        ("openai/gpt-3.5-turbo", 4_096), ("openai/gpt-4o", 16_384), ("openai/gpt-4.1", 32_768),
        ("openai/o1-mini", 65_536), ("openai/o3", 100_000), ("openai/gpt-5", 128_000),
        ("anthropic/claude-3-haiku", 4_096), ("anthropic/claude-3-5-sonnet", 8_192),
        ("anthropic/claude-opus-4-1", 32_000), ("anthropic/claude-sonnet-4-5", 64_000),
        ("anthropic/claude-opus-4-6", 128_000), ("google/gemini-2.0-flash", 8_192),
        ("google/gemini-2.5-pro", 65_536), ("openrouter/openai/gpt-oss-120b", 131_072),
    ],
)  # fmt: skip
def test_well_known_limits(model_id: str, longest: int) -> None:
    """The rules are over names: one that matches too much would show here."""
    assert SEED[model_id].limits.max_tokens == longest


def test_prices_are_known_for_all_and_gaps_elsewhere_are_none() -> None:
    """Every listed name is found in the price data (a typo would lose it); what nobody knows stays unknown."""
    assert [spec.id for spec in SEED.values() if spec.cost_per_input_token is None] == []
    assert SEED["anthropic/claude-3-haiku"].carbon_g_per_1k_tokens is None
    assert SEED["openai/gpt-6-astra"].quality_score is None
    assert {*_PRIORS, *_PREDECESSOR, *REFERENCE_PRICES} <= set(SEED)


def test_carbon_is_per_thousand_output_tokens() -> None:
    """Grams, not kilograms; a large model emits more than a small one."""
    big, small = SEED["openai/gpt-4"].carbon_g_per_1k_tokens, SEED["openai/gpt-4o-mini"].carbon_g_per_1k_tokens
    assert big is not None
    assert small is not None
    assert 1 < big < 50
    assert 0.001 < small < 1


def test_quality_orders_models_as_everybody_would() -> None:
    """Priors decide until there is history, so their order must make sense."""
    quality = {model_id: spec.quality_score or 0.0 for model_id, spec in SEED.items()}
    assert quality["openai/gpt-3.5-turbo"] < quality["openai/gpt-4o-mini"] < quality["openai/gpt-4"]
    assert quality["openai/gpt-4"] <= quality["openai/gpt-4o"] < quality["openai/gpt-5"] < 1.0
    assert quality["anthropic/claude-3-haiku"] < quality["anthropic/claude-3-sonnet"]


def test_capabilities_follow_the_documented_rules() -> None:
    """A few that decide whether a request can be served."""
    can = {model_id: set(spec.capabilities) for model_id, spec in SEED.items()}
    assert "vision" in can["openai/gpt-4o"]
    assert not {"vision", "json"} & can["openai/gpt-4"]
    assert {"vision", "functions", "json"} <= can["anthropic/claude-3-haiku"]
    assert "functions" not in can["anthropic/claude-2"]
    assert "reasoning" in can["openai/o3-mini"]
    assert "reasoning" not in can["openai/gpt-4o"]
    assert {"analysis", "vision"} <= can["google/gemini-2.5-pro"]
    assert "functions" in can["sim/small"]


@pytest.mark.parametrize(
    ("model_id", "usd_per_million"),
    [
        ("openai/text-embedding-3-small", 0.02),
        ("openai/text-embedding-3-large", 0.13),
        ("google/gemini-embedding-001", 0.15),
    ],
)
def test_embeddings_models_embed_and_never_chat(model_id: str, usd_per_million: float) -> None:
    """A router that names one by mistake gets a stated exclusion, not a failed call; their output costs nothing."""
    spec = SEED[model_id]
    assert spec.capabilities == ["embeddings"]
    assert spec.cost_per_input_token == pytest.approx(usd_per_million / 1e6)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
    profile = profile_request(body, ChatBody.model_validate(body))
    assert cannot_serve(spec, profile) == "lacks the capability chat"


def test_openrouter_names_are_its_own_spelling() -> None:
    """`callFormat: openrouter` needs the name that OpenRouter uses; where none is known there is none."""
    assert SEED["openai/gpt-4o"].openrouter_model == "openai/gpt-4o"
    assert SEED["anthropic/claude-3-5-haiku"].openrouter_model == "anthropic/claude-3.5-haiku"
    assert SEED["openrouter/deepseek/deepseek-r1"].openrouter_model == "deepseek/deepseek-r1"
    assert SEED["google/gemini-1.5-flash"].openrouter_model is None


def test_the_simulator_is_as_its_own_table_says() -> None:
    """One table for the simulated models, so that predictions and behaviour agree."""
    for model in MODELS.values():
        spec = SEED[f"sim/{model.name}"]
        assert (spec.provider, spec.provider_model) == ("simulator", model.name)
        assert (spec.cost_per_output_token, spec.quality_score) == (model.output_usd, model.quality)
        assert spec.avg_latency_ms == model.avg_latency_ms


def test_writing_to_a_cache_has_its_list_price() -> None:
    """Anthropic's and, since GPT-5.6, OpenAI's: 1.25 times the price of input; older models of OpenAI have none."""
    for name in ("anthropic/claude-sonnet-4-5", "anthropic/claude-opus-4-1"):
        price = SEED[name].price("input")
        assert price is not None
        assert SEED[name].price("cache_write_5m") == pytest.approx(1.25 * price)
    assert SEED["openai/gpt-4o"].price("cache_write_5m") is None


@pytest.mark.parametrize(
    ("model", "prices", "source", "since"),
    [
        ("openai/o3", (2e-06, 8e-06), "genai-prices", date(2025, 6, 10)),
        ("openai/o3", (1e-05, 4e-05), "genai-prices", None),  # what it cost before, as an older seed may have stored
        ("openai/gpt-4o", (2.5e-06, 1e-05), "genai-prices", None),
        ("openai/gpt-4", (0.03 / 1_000, 0.06 / 1_000), "reference price", None),
        ("openai/o3", (1.0, 2.0), "no longer listed", None),
        ("openai/o3", (None, None), "no price", None),
        ("sim/small", (1.5e-07, 6e-07), "the simulator's own", None),
        ("gone/model", (1.0, 2.0), "shared catalogue", None),
    ],
)
def test_a_price_has_the_day_that_its_source_names(
    model: str, prices: tuple[float | None, float | None], source: str, since: date | None
) -> None:
    """Where genai-prices says from which day on a price counts, that is its day, and nowhere the day of seeding."""
    found = price_origin(model, *prices)
    assert source in found.source
    assert found.since == since


def test_every_seeded_price_has_its_origin() -> None:
    """What is seeded today is found again in its source."""
    found = [price_origin(one.id, one.cost_per_input_token, one.cost_per_output_token) for one in seed_models()]
    assert not [one for one in found if one.source.startswith("shared catalogue")]
    assert any(one.since for one in found)
