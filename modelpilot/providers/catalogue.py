"""The catalogue ("capability matrix"): what each model can do, costs, and is expected to deliver."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SecretStr, StringConstraints, ValidationInfo, field_validator

from modelpilot.arrays import Floats
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners
from modelpilot.routing.router import Aliases, ModelId, RouterId, UnitInterval
from modelpilot.wire.json_model import ResourceBody, WireModel

# Far beyond every real one, and far from where sums of products stop being finite.
Price = Annotated[float, Field(ge=0.0, le=1_000.0)]
_MAXIMUM_TOKENS = 1_000_000_000
ProviderModel = Annotated[str, StringConstraints(min_length=1, max_length=200)]

# Neutral priors for what nobody has told us; `scoring` widens their uncertainty.
NEUTRAL_QUALITY = 0.5
NEUTRAL_LATENCY_MS = 2_000.0

MAXIMUM_KEYS = 16  # per provider
MAXIMUM_DEPLOYMENTS = 32  # per model
MAXIMUM_PRICES = 64  # per model


Unit = Literal[
    "input", "output", "cached_input", "cache_write_5m", "cache_write_1h",
    "audio_input", "audio_output", "image_input", "image_output", "request", "web_search",
]  # fmt: skip
# Tiers in the words of OpenAI, Anthropic and Google by which nothing but the standard price is meant.
_STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand", "none"})


class UnitPrice(WireModel):
    """What one `unit` costs (USD), in prompts of `from_tokens` tokens or more. `tier` null: the standard one."""

    unit: Unit
    usd: Price
    from_tokens: Annotated[int, Field(ge=0, le=_MAXIMUM_TOKENS)] = 0
    tier: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


class ModelLimits(WireModel):
    """Token limits; null means unknown (and is then not enforced)."""

    max_tokens: Annotated[int, Field(gt=0, le=_MAXIMUM_TOKENS)] | None = None
    context_window: Annotated[int, Field(gt=0, le=_MAXIMUM_TOKENS)] | None = None


class DeploymentSpec(WireModel):
    """A deployment as its owner wrote it: the model at one provider. Lower `priority` numbers come first; among
    equals `weight` shares the load.

    `provider_model` null: the model's own. `cooldown_seconds`: how long it is left alone after a 429 that does not say.
    """

    provider: RouterId
    provider_model: ProviderModel | None = None
    weight: Annotated[float, Field(gt=0.0, le=1_000_000.0)] = 1.0
    priority: Annotated[int, Field(ge=0, le=1_000)] = 0
    cooldown_seconds: Annotated[float, Field(ge=0.0, le=3_600.0)] = 60.0


class ModelSpec(ResourceBody):
    """One model. Prices are USD per token; null means unknown, which is never zero. What `prices` says of a unit counts
    before the simple field of it. `parameters` are its manners, where they differ from what its name and its provider
    tell.

    Without `deployments` it has one: `provider` under the name `provider_model`. With them, `provider` is what lists
    show, and `provider_model` the default of their names.
    """

    id: ModelId
    provider: RouterId
    provider_model: ProviderModel
    aliases: Aliases = Field(default_factory=list)
    deployments: list[DeploymentSpec] = Field(default_factory=list, max_length=MAXIMUM_DEPLOYMENTS)
    capabilities: list[str] = Field(default_factory=lambda: ["chat"], max_length=32)
    avg_latency_ms: Annotated[float, Field(gt=0.0, le=86_400_000.0)] | None = None
    cost_per_input_token: Price | None = None
    cost_per_cached_input_token: Price | None = None
    cost_per_output_token: Price | None = None
    prices: list[UnitPrice] = Field(default_factory=list, max_length=MAXIMUM_PRICES)
    openrouter_model: str | None = None
    quality_score: UnitInterval | None = None
    carbon_g_per_1k_tokens: Annotated[float, Field(ge=0.0, le=1_000_000.0)] | None = Field(
        default=None, alias="carbonGPer1kTokens"
    )
    limits: ModelLimits = Field(default_factory=ModelLimits)
    parameters: Manners | None = None

    @field_validator("deployments")
    @classmethod
    def _differ(cls, deployments: list[DeploymentSpec], info: ValidationInfo) -> list[DeploymentSpec]:
        own = info.data.get("provider_model")
        if len({(each.provider, each.provider_model or own) for each in deployments}) < len(deployments):
            raise ValueError("each deployment needs a provider or a provider's model of its own")
        return deployments

    @field_validator("prices")
    @classmethod
    def _once(cls, prices: list[UnitPrice]) -> list[UnitPrice]:
        if len({(each.unit, each.from_tokens, each.tier) for each in prices}) < len(prices):
            raise ValueError("each price needs a unit, fromTokens or tier of its own")
        return prices

    def price(self, unit: Unit, prompt_tokens: int = 0, tier: str | None = None) -> float | None:
        """USD per `unit` in a prompt of so many tokens, at this service tier (None: the standard one); what a tier
        names no price for costs what it does at the standard one. None: unknown."""
        field = _SIMPLE_PRICES.get(unit)
        simple: float | None = None if field is None else getattr(self, field)
        if not self.prices:
            return simple
        steps = [each for each in self.prices if each.unit == unit and each.from_tokens <= prompt_tokens]
        for wanted in (tier, None) if tier is not None else (None,):
            if found := [(each.from_tokens, each.usd) for each in steps if each.tier == wanted]:
                return max(found)[1]
        return simple

    def known_tier(self, answered: object) -> str | None:
        """The tier by which an answer with this `service_tier` is billed; None: the standard one."""
        name = str(answered or "").lower()
        if name in _STANDARD_TIERS or not self.prices:
            return None
        return next((each.tier for each in self.prices if each.tier is not None and each.tier.lower() == name), None)

    @property
    def price_steps(self) -> frozenset[int]:
        """The sizes of prompts from which on something costs otherwise."""
        return frozenset(each.from_tokens for each in self.prices if each.from_tokens and each.tier is None)


_SIMPLE_PRICES: Mapping[str, str] = {
    "input": "cost_per_input_token",
    "cached_input": "cost_per_cached_input_token",
    "output": "cost_per_output_token",
}


class ProviderSpec(ResourceBody):
    """One provider as its owner wrote it; `api_key` and `api_keys` are write-only, `parameters` are the manners of all
    models there."""

    id: RouterId
    kind: ProviderKind
    base_url: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    api_key: SecretStr | None = None
    api_keys: Annotated[list[SecretStr], Field(min_length=1, max_length=MAXIMUM_KEYS)] | None = None
    parameters: Manners | None = None

    @property
    def given_keys(self) -> tuple[str, ...]:
        """Every given key in clear, `api_key` first, none twice; empty where the stored ones are to be kept."""
        given = [*([] if self.api_key is None else [self.api_key]), *(self.api_keys or [])]
        return tuple(dict.fromkeys(key.get_secret_value() for key in given))

    @field_validator("api_keys")
    @classmethod
    def _bounded(cls, keys: list[SecretStr] | None, info: ValidationInfo) -> list[SecretStr] | None:
        if keys is not None and info.data.get("api_key") is not None and len(keys) >= MAXIMUM_KEYS:
            raise ValueError(f"at most {MAXIMUM_KEYS} keys, apiKey included")
        return keys


@dataclass(frozen=True, slots=True)
class CatalogueColumns:
    """What the catalogue says of a router's models, as columns, so that it is worked out once per version and not with
    every request.

    Arrays are [models]. Unknown qualities and latencies are neutral; unknown prices (USD per token), all of a model
    where that of input or output is, and `carbon_g_per_1k_tokens` are NaN."""

    models: tuple[str, ...]
    places: Mapping[str, int]  # where each model stands
    quality: Floats
    quality_listed: NDArray[np.bool_]
    latency_ms: Floats
    input_price: Floats
    cached_price: Floats
    output_price: Floats
    carbon_g_per_1k_tokens: Floats

    @classmethod
    def of(cls, specs: Sequence[ModelSpec], prompt_tokens: Sequence[int] = ()) -> "CatalogueColumns":
        """The models in this order, with their prices for a prompt of so many tokens as each counts (empty: for the
        shortest)."""
        models = tuple(spec.id for spec in specs)
        counted = list(zip(specs, prompt_tokens or [0] * len(specs), strict=True))
        input_price = _column([spec.price("input", tokens) for spec, tokens in counted])
        output_price = _column([spec.price("output", tokens) for spec, tokens in counted])
        priced = ~np.isnan(input_price + output_price)
        cached_price = _column([spec.price("cached_input", tokens) for spec, tokens in counted])
        quality = _column([spec.quality_score for spec in specs])
        latency = _column([spec.avg_latency_ms for spec in specs])
        listed = ~np.isnan(quality)
        return cls(
            models=models,
            places={model: place for place, model in enumerate(models)},
            quality=np.where(listed, quality, NEUTRAL_QUALITY),
            quality_listed=listed,
            latency_ms=np.where(np.isnan(latency), NEUTRAL_LATENCY_MS, latency),
            input_price=np.where(priced, input_price, np.nan),
            # The input price where the catalogue has none.
            cached_price=np.where(np.isnan(cached_price), input_price, cached_price),
            output_price=np.where(priced, output_price, np.nan),
            carbon_g_per_1k_tokens=_column([spec.carbon_g_per_1k_tokens for spec in specs]),
        )


def _column(values: Sequence[float | None]) -> Floats:
    return np.array(values, np.float64)  # None becomes NaN
