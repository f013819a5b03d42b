"""Sample configuration for tests of the repositories."""

from typing import Any

from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.routing.router import Router

CANARY = "sk-canary-77"


def sample_router(router_id: str = "support", **changes: Any) -> Router:
    """A router of one model."""
    return Router(id=router_id, available_models=["sim/small"], **changes)


def sample_model(model_id: str = "sim/small", **changes: Any) -> ModelSpec:
    """A model of the simulator's."""
    return ModelSpec(id=model_id, provider="simulator", provider_model="small", **changes)


def sample_provider(provider_id: str = "openai", **changes: Any) -> ProviderSpec:
    """A provider without a key."""
    return ProviderSpec(id=provider_id, kind="openai", **changes)
