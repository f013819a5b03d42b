"""Which models and providers a single request prefers, in the words of OpenRouter (`models`, `provider`, `route`) and
of LiteLLM (`fallbacks`): they narrow and order what the router has, and widen nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelpilot.errors import InvalidRequest
from modelpilot.providers.catalogue import DeploymentSpec, ModelSpec, Unit
from modelpilot.providers.deployments import OPENROUTER, deployment_specs
from modelpilot.requests.records import RouterSnapshot
from modelpilot.routing.router import FallbackStrategy, Objective

MOST_NAMES = 32
_MILLION = 1_000_000.0
_OBJECTIVES = {
    "price": Objective(cost_weight=1.0),
    "latency": Objective(latency_weight=1.0),
    "throughput": Objective(latency_weight=1.0),
}
# What it costs, by OpenRouter's names; where the catalogue knows no price, the first two are over every limit.
_PRICES: Mapping[str, Unit] = {
    "prompt": "input", "completion": "output", "request": "request", "image": "image_input", "audio": "audio_input",
}  # fmt: skip
_OF_EVERY_CALL = ("prompt", "completion")

Names = Annotated[list[str], Field(max_length=MOST_NAMES)]
UsdPerMillion = Annotated[float, Field(ge=0.0)]


class ProviderPreferences(BaseModel):
    """OpenRouter's `provider`. Providers are named by our ids. What is not listed here only OpenRouter knows."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)

    order: Names | None = None
    only: Names | None = None
    ignore: Names | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    sort: Literal["price", "latency", "throughput"] | dict[str, Any] | None = None
    max_price: dict[Literal["prompt", "completion", "request", "image", "audio"], UsdPerMillion] | None = None

    def objective(self) -> Objective | None:
        """What `sort` asks for."""
        by = self.sort.get("by") if isinstance(self.sort, dict) else self.sort
        return _OBJECTIVES.get(str(by))

    def unknown(self) -> list[str]:
        """The fields that only OpenRouter can follow."""
        said = self.model_extra or {}
        return [name for name, value in said.items() if value and (name, value) != ("data_collection", "allow")]


@dataclass(frozen=True, slots=True)
class Preferences:
    """What one request prefers: `fallbacks` are the models, each behind the field that names it, that are to stand in
    for the first, in this order."""

    fallbacks: tuple[tuple[str, str], ...] = ()
    provider: ProviderPreferences | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The fallbacks alone."""
        return tuple(name for _, name in self.fallbacks)


def followed(snapshot: RouterSnapshot, wanted: Preferences) -> RouterSnapshot:
    """The router as it is for a request with these preferences. Raises InvalidRequest for a model that it has not."""
    router, provider = snapshot.router, wanted.provider
    for field, name in wanted.fallbacks:
        if name not in snapshot.models:
            raise InvalidRequest.at(field, f"{f'router {router.id}' if router.id else 'the catalogue'} has no '{name}'")
    changes: dict[str, Any] = {}
    if names := list(wanted.names):
        changes["fallback_strategy"] = FallbackStrategy(fallback_models=names, retry_attempts=min(len(names), 20))
    if provider is not None and provider.require_parameters:
        changes["strict_parameters"] = True
    if provider is not None and (objective := provider.objective()) is not None:
        changes["objective"] = objective
    narrowed = replace(snapshot, router=router.model_copy(update=changes))
    return narrowed if provider is None else _with_providers(narrowed, provider)


def _with_providers(snapshot: RouterSnapshot, wanted: ProviderPreferences) -> RouterSnapshot:
    models, unavailable = dict(snapshot.models), dict(snapshot.unavailable)
    for name, spec in snapshot.models.items():
        kept, reasons = _kept(spec, wanted)
        models[name] = spec.model_copy(update={"deployments": _ordered(kept, wanted)})
        reason = _too_expensive(spec, wanted) if kept else "; ".join(dict.fromkeys(reasons))
        if reason:
            unavailable.setdefault(name, reason)
    return replace(snapshot, models=models, unavailable=unavailable)


def _kept(spec: ModelSpec, wanted: ProviderPreferences) -> tuple[list[DeploymentSpec], list[str]]:
    kept, reasons = [], []
    for each in deployment_specs(spec):
        reason = _why_not(each.provider, wanted)
        if reason is None:
            kept.append(each)
        else:
            reasons.append(reason)
    return kept, reasons


def _why_not(provider: str, wanted: ProviderPreferences) -> str | None:
    if provider in _lowered(wanted.ignore):
        return f"provider.ignore names {provider}"
    if provider == OPENROUTER:  # it is told, and chooses among its own providers
        return None
    allowed = {"only": wanted.only, "order": wanted.order if wanted.allow_fallbacks is False else None}
    for field, names in allowed.items():
        if names and provider not in _lowered(names):
            return f"provider.{field} does not name {provider}"
    if unknown := wanted.unknown():
        return f"provider.{unknown[0]}: only OpenRouter can follow this"
    return None


def _lowered(names: Sequence[str] | None) -> list[str]:
    return [name.lower() for name in names or ()]


def _ordered(kept: Iterable[DeploymentSpec], wanted: ProviderPreferences) -> list[DeploymentSpec]:
    """By `order`, which counts before their own priorities; without fallbacks the first alone."""
    order = _lowered(wanted.order)

    def place(each: DeploymentSpec) -> tuple[int, int, float]:
        return order.index(each.provider) if each.provider in order else len(order), each.priority, -each.weight

    ranked = sorted(kept, key=place)
    if order:
        return [each.model_copy(update={"priority": rank}) for rank, each in enumerate(ranked)]
    return ranked[:1] if wanted.allow_fallbacks is False else ranked


def _too_expensive(spec: ModelSpec, wanted: ProviderPreferences) -> str | None:
    for name, limit in (wanted.max_price or {}).items():
        price = spec.price(_PRICES[name])
        if price is None and name in _OF_EVERY_CALL:
            return f"its price is unknown and provider.max_price.{name} is {limit:g}"
        usd = (price or 0.0) * (1.0 if name in ("request", "image") else _MILLION)
        if usd > limit:
            return f"costs {usd:g} USD, over provider.max_price.{name} of {limit:g}"
    return None
