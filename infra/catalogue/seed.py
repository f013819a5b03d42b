"""Builds the seeded catalogue from its sources; shared by all tenants and read-only.

Quality and latency before any history are approximate on purpose, and outweighed by what a router learns. Sources:

- gpt-4 and claude-3-sonnet, with their prices, are fixed reference points. They anchor the scale: quality is the share
  of everyday requests answered well, so that much stronger models have little room above 0.95.
- Order and rough distance of the others: public preference and knowledge leaderboards (LMArena, MMLU-Pro, LiveBench) as
  generally known, read by hand, rounded to 0.01; not copied from any one table.
- Latency: time to a whole answer of some 300 tokens, from the speed classes that vendors publish; thinking time is
  included for models that think by default.
- `_SUCCESSORS`: a newer model of the same line and tier is *assumed* as good and as fast as the one before it.
- A model that stands nowhere is unknown (None): a neutral prior with wide uncertainty, and never a guess.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from infra.catalogue.limits import longest_answer
from infra.catalogue.models import Listed, capabilities_of, listed_models
from infra.catalogue.prices import Pricing, carbon_g_per_1k_tokens, listed_origin, openrouter_name, pricing
from modelpilot.metrics.use import PriceOrigin
from modelpilot.providers.catalogue import ModelLimits, ModelSpec


@dataclass(frozen=True, slots=True)
class Prior:
    """Expected quality in [0, 1] and latency in milliseconds."""

    quality: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class ReferencePrice:
    """Prices that the product states for a model, USD per token; they win over genai-prices."""

    input_usd: float
    output_usd: float


REFERENCE_PRICES = {
    "openai/gpt-4": ReferencePrice(0.03 / 1_000, 0.06 / 1_000),
    "anthropic/claude-3-sonnet": ReferencePrice(0.015 / 1_000, 0.075 / 1_000),
}

_PRIORS = {
    "openai/gpt-4": Prior(0.95, 2_500),
    "anthropic/claude-3-sonnet": Prior(0.92, 1_800),
    "openai/gpt-3.5-turbo": Prior(0.80, 900),
    "openai/gpt-4-turbo": Prior(0.95, 2_200),
    "openai/gpt-4o": Prior(0.96, 1_300),
    "openai/gpt-4o-mini": Prior(0.91, 900),
    "openai/gpt-4.1": Prior(0.96, 1_400),
    "openai/gpt-4.1-mini": Prior(0.94, 1_000),
    "openai/gpt-4.1-nano": Prior(0.88, 700),
    "openai/o1": Prior(0.97, 12_000),
    "openai/o1-mini": Prior(0.94, 7_000),
    "openai/o3": Prior(0.98, 10_000),
    "openai/o3-mini": Prior(0.96, 6_000),
    "openai/o4-mini": Prior(0.97, 6_000),
    "openai/gpt-5": Prior(0.98, 9_000),
    "openai/gpt-5-mini": Prior(0.96, 5_000),
    "openai/gpt-5-nano": Prior(0.92, 3_500),
    "anthropic/claude-2": Prior(0.85, 4_000),
    "anthropic/claude-3-haiku": Prior(0.87, 900),
    "anthropic/claude-3-opus": Prior(0.95, 4_000),
    "anthropic/claude-3-5-haiku": Prior(0.91, 1_100),
    "anthropic/claude-3-5-sonnet": Prior(0.96, 1_800),
    "anthropic/claude-3-7-sonnet": Prior(0.96, 2_000),
    "anthropic/claude-sonnet-4-0": Prior(0.97, 2_000),
    "anthropic/claude-opus-4-0": Prior(0.97, 3_500),
    "anthropic/claude-haiku-4-5": Prior(0.95, 1_100),
    "anthropic/claude-sonnet-4-5": Prior(0.98, 2_200),
    "anthropic/claude-opus-4-5": Prior(0.98, 2_800),
    "google/gemini-1.5-flash": Prior(0.89, 800),
    "google/gemini-1.5-pro": Prior(0.94, 2_200),
    "google/gemini-2.0-flash": Prior(0.94, 800),
    "google/gemini-2.0-flash-lite": Prior(0.91, 650),
    "google/gemini-2.5-flash-lite": Prior(0.93, 700),
    "google/gemini-2.5-flash": Prior(0.96, 2_500),
    "google/gemini-2.5-pro": Prior(0.98, 8_000),
    "google/gemini-3-flash-preview": Prior(0.97, 3_000),
    "google/gemini-3-pro-preview": Prior(0.98, 9_000),
    "openrouter/meta-llama/llama-3.1-8b-instruct": Prior(0.78, 800),
    "openrouter/meta-llama/llama-3.1-70b-instruct": Prior(0.90, 1_500),
    "openrouter/meta-llama/llama-3.1-405b-instruct": Prior(0.93, 3_000),
    "openrouter/meta-llama/llama-3.3-70b-instruct": Prior(0.92, 1_500),
    "openrouter/meta-llama/llama-4-scout": Prior(0.90, 1_200),
    "openrouter/meta-llama/llama-4-maverick": Prior(0.93, 1_400),
    "openrouter/mistralai/mixtral-8x7b-instruct": Prior(0.78, 1_000),
    "openrouter/mistralai/mixtral-8x22b-instruct": Prior(0.84, 1_600),
    "openrouter/mistralai/mistral-nemo": Prior(0.77, 900),
    "openrouter/deepseek/deepseek-chat-v3-0324": Prior(0.95, 4_000),
    "openrouter/deepseek/deepseek-r1": Prior(0.97, 15_000),
    "openrouter/deepseek/deepseek-v3.2": Prior(0.97, 5_000),
    "openrouter/qwen/qwen-2.5-7b-instruct": Prior(0.79, 800),
    "openrouter/qwen/qwen-2.5-72b-instruct": Prior(0.91, 1_800),
    "openrouter/qwen/qwen3-32b": Prior(0.93, 5_000),
    "openrouter/qwen/qwen3-235b-a22b": Prior(0.95, 6_000),
    "openrouter/moonshotai/kimi-k2": Prior(0.95, 3_500),
    "openrouter/z-ai/glm-4.5-air": Prior(0.93, 4_000),
    "openrouter/z-ai/glm-4.6": Prior(0.96, 5_000),
    "openrouter/microsoft/phi-4": Prior(0.87, 1_200),
    "openrouter/cohere/command-r-08-2024": Prior(0.81, 1_000),
    "openrouter/cohere/command-a": Prior(0.91, 1_500),
    "openrouter/openai/gpt-oss-20b": Prior(0.90, 1_500),
    "openrouter/openai/gpt-oss-120b": Prior(0.94, 2_500),
    "openrouter/google/gemma-3-27b-it": Prior(0.90, 1_800),
    "openrouter/amazon/nova-lite-v1": Prior(0.85, 900),
    "openrouter/amazon/nova-pro-v1": Prior(0.90, 1_400),
}

_SUCCESSORS = {
    "openai/gpt-5": ("gpt-5.1", "gpt-5.2", "gpt-5.4", "gpt-5.5"),
    "openai/gpt-5-mini": ("gpt-5.4-mini",),
    "openai/gpt-5-nano": ("gpt-5.4-nano",),
    "anthropic/claude-opus-4-0": ("claude-opus-4-1",),
    "anthropic/claude-sonnet-4-5": ("claude-sonnet-4-6", "claude-sonnet-5", "claude-sonnet-5-5"),
    "anthropic/claude-opus-4-5": (
        "claude-opus-4-6",
        "claude-opus-4-7",
        "claude-opus-4-8",
        "claude-opus-5",
        "claude-opus-5-5",
    ),
    "anthropic/claude-haiku-4-5": ("claude-haiku-5-5",),
    "google/gemini-2.5-flash-lite": ("gemini-3.1-flash-lite", "gemini-3.5-flash-lite"),
    "google/gemini-3-flash-preview": ("gemini-3.5-flash", "gemini-3.6-flash", "gemini-3.7-flash", "gemini-3.8-flash"),
    "google/gemini-3-pro-preview": ("gemini-3.1-pro-preview",),
}
_PREDECESSOR = {
    f"{older.partition('/')[0]}/{newer}": older for older, successors in _SUCCESSORS.items() for newer in successors
}


def prior_of(model_id: str) -> Prior | None:
    """What is assumed of a model, or None where nothing is known."""
    return _PRIORS.get(model_id) or _PRIORS.get(_PREDECESSOR.get(model_id, ""))


# The simulator takes any text to embed; this is what the real models of its kind take.
_SIMULATED_EMBEDDING_TOKENS = 8_192
_SIMULATOR_CAPABILITIES = ["chat", "functions", "json", "logprobs", "streaming", "vision"]


def seed_models() -> list[ModelSpec]:
    """The seeded models by id; built once per process (0.3 s, nearly all of it imports)."""
    return list(_seed())


@lru_cache(maxsize=1)
def _seed() -> tuple[ModelSpec, ...]:
    now = datetime.now(UTC)
    specs = [*(_spec(model, now) for model in listed_models()), *_simulated()]
    return tuple(sorted(specs, key=lambda spec: spec.id))


def _spec(model: Listed, at: datetime) -> ModelSpec:
    price, prior = _pricing(model, at), prior_of(model.id)
    quality = prior.quality if prior else None
    return ModelSpec(
        id=model.id,
        provider=model.provider,
        provider_model=model.provider_model,
        capabilities=capabilities_of(model.id, price.context_window, quality),
        avg_latency_ms=float(prior.latency_ms) if prior else None,
        cost_per_input_token=price.input_usd,
        cost_per_cached_input_token=price.cached_input_usd,
        cost_per_output_token=price.output_usd,
        prices=list(price.prices),
        openrouter_model=openrouter_name(model),
        quality_score=quality,
        carbon_g_per_1k_tokens=carbon_g_per_1k_tokens(model),
        limits=ModelLimits(
            max_tokens=longest_answer(model.id, price.context_window), context_window=price.context_window
        ),
    )


def _pricing(model: Listed, at: datetime) -> Pricing:
    price, reference = pricing(model, at), REFERENCE_PRICES.get(model.id)
    if reference is None:
        return price
    # No cached price beside a reference price: genai-prices' one belongs to another input price.
    return Pricing(reference.input_usd, None, reference.output_usd, context_window=price.context_window)


def price_origin(model_id: str, input_usd: float | None, output_usd: float | None) -> PriceOrigin:
    """Where a seeded model's prices (USD per token) come from, and from which day on they count: what genai-prices says
    of the price of its list that is the same, which need not be today's."""
    reference = REFERENCE_PRICES.get(model_id)
    if reference is not None and (reference.input_usd, reference.output_usd) == (input_usd, output_usd):
        return PriceOrigin("reference price of the seeded catalogue")
    listed = next((one for one in listed_models() if one.id == model_id), None)
    if listed is None:
        simulated = any(one.id == model_id for one in _simulated())
        return PriceOrigin("the simulator's own" if simulated else "shared catalogue")
    if input_usd is None and output_usd is None:
        return PriceOrigin("no price is listed")
    return listed_origin(listed, input_usd, output_usd) or PriceOrigin("shared catalogue, no longer listed")


def _simulated() -> list[ModelSpec]:
    from simulator.models import MODELS

    chat = [
        ModelSpec(
            id=f"sim/{model.name}",
            provider="simulator",
            provider_model=model.name,
            capabilities=_SIMULATOR_CAPABILITIES,
            avg_latency_ms=model.avg_latency_ms,
            cost_per_input_token=model.input_usd,
            cost_per_cached_input_token=model.cached_input_usd,
            cost_per_output_token=model.output_usd,
            quality_score=model.quality,
            carbon_g_per_1k_tokens=model.carbon_g_per_1k_tokens,
            limits=ModelLimits(max_tokens=model.max_output_tokens, context_window=model.context_window),
        )
        for model in MODELS.values()
    ]
    embedder = ModelSpec(
        id="sim/embed",
        provider="simulator",
        provider_model="embed",
        capabilities=["embeddings"],
        avg_latency_ms=5.0,
        cost_per_input_token=0.02e-6,
        limits=ModelLimits(max_tokens=1, context_window=_SIMULATED_EMBEDDING_TOKENS),
    )
    return [*chat, embedder]
