"""The catalogue ("capability matrix"): what each model can do, costs, and is expected to deliver."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from modelpilot.router import ModelId, RouterId, UnitInterval
from modelpilot.wire_model import WireModel

ProviderKind = Literal["openai", "anthropic", "google", "openrouter", "simulator"]
Price = Annotated[float, Field(ge=0.0)]

# Neutral priors for what nobody has told us; `scoring` widens their uncertainty.
NEUTRAL_QUALITY = 0.5
NEUTRAL_LATENCY_MS = 2_000.0


class ModelLimits(WireModel):
    """Token limits; null means unknown (and is then not enforced)."""

    max_tokens: Annotated[int, Field(gt=0)] | None = None
    context_window: Annotated[int, Field(gt=0)] | None = None


class ModelSpec(WireModel):
    """One model. Prices are USD per token; null means unknown, which is never zero."""

    id: ModelId
    provider: RouterId
    provider_model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    capabilities: list[str] = Field(default_factory=lambda: ["chat"], max_length=32)
    avg_latency_ms: Annotated[float, Field(gt=0.0)] | None = None
    cost_per_input_token: Price | None = None
    cost_per_cached_input_token: Price | None = None
    cost_per_output_token: Price | None = None
    openrouter_model: str | None = None
    quality_score: UnitInterval | None = None
    carbon_g_per_1k_tokens: Annotated[float, Field(ge=0.0)] | None = Field(default=None, alias="carbonGPer1kTokens")
    limits: ModelLimits = Field(default_factory=ModelLimits)


class ProviderSpec(WireModel):
    """One provider as its owner wrote it; `api_key` is write-only."""

    id: RouterId
    kind: ProviderKind
    base_url: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    api_key: SecretStr | None = None
