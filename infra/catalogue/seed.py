"""Builds the seeded catalogue from its sources; shared by all tenants and read-only."""

from datetime import UTC, datetime
from functools import lru_cache

from infra.catalogue.models import Listed, capabilities_of, listed_models
from infra.catalogue.prices import Pricing, carbon_g_per_1k_tokens, openrouter_name, pricing
from infra.catalogue.priors import REFERENCE_PRICES, prior_of
from modelpilot.providers.catalogue import ModelLimits, ModelSpec

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
        openrouter_model=openrouter_name(model),
        quality_score=quality,
        carbon_g_per_1k_tokens=carbon_g_per_1k_tokens(model),
        limits=ModelLimits(context_window=price.context_window),
    )


def _pricing(model: Listed, at: datetime) -> Pricing:
    price, reference = pricing(model, at), REFERENCE_PRICES.get(model.id)
    if reference is None:
        return price
    # No cached price beside a reference price: genai-prices' one belongs to another input price.
    return Pricing(reference.input_usd, None, reference.output_usd, price.context_window)


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
    )
    return [*chat, embedder]
