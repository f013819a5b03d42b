"""A router: the objective and the rules under which one model is chosen per request; and how two versions differ.

Its fields are declared here and nowhere else: API, OpenAPI document, database and command line take them from here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from modelpilot.wire.json_model import ResourceBody, WireModel

# Ids appear in URLs, workflow ids and search attributes, hence the narrow alphabet. Models may contain slashes.
RouterId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
ModelId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}$")]
ROUTER_PREFIX = "router/"  # in a client's `model`
ANYTHING = "*"  # in an alias


def _no_router(alias: str) -> str:
    if alias.startswith(ROUTER_PREFIX):
        raise ValueError(f"{ROUTER_PREFIX}… are the routers themselves")
    return alias


# A name for a router or a model in the code of clients.
Alias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9*][A-Za-z0-9._:@/+*-]{0,127}$"), AfterValidator(_no_router)
]
Aliases = Annotated[list[Alias], Field(max_length=100)]
Weight = Annotated[float, Field(ge=0.0, le=1e6)]
UnitInterval = Annotated[float, Field(ge=0.0, le=1.0)]
CallFormat = Literal["openrouter"]


class Objective(WireModel):
    """Weights of the total score. They need not sum to 1; all zero means all equal."""

    cost_weight: Weight = 0.0
    latency_weight: Weight = 0.0
    quality_weight: Weight = 0.0
    carbon_weight: Weight = 0.0

    def shares(self) -> tuple[float, float, float, float]:
        """The weights (cost, latency, quality, carbon) scaled to sum to 1; all zero gives four quarters."""
        weights = (self.cost_weight, self.latency_weight, self.quality_weight, self.carbon_weight)
        total = math.fsum(weights)
        if total <= 0.0:
            return (0.25, 0.25, 0.25, 0.25)
        return (weights[0] / total, weights[1] / total, weights[2] / total, weights[3] / total)


class FallbackStrategy(WireModel):
    """Attempt i (0-based) uses `fallback_models[i mod n]`; no models means no fallback."""

    fallback_models: list[ModelId] = Field(default_factory=list, max_length=32)
    retry_attempts: Annotated[int, Field(ge=0, le=20)] = 3


class Constraints(WireModel):
    """Limits that a candidate's prediction for this request must meet; null means no limit."""

    max_cost_usd: Annotated[float, Field(ge=0.0)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0.0)] | None = None
    max_carbon_g: Annotated[float, Field(ge=0.0)] | None = None
    min_quality: UnitInterval | None = None
    required_capabilities: list[str] = Field(default_factory=list, max_length=32)

    def narrowed(self, other: "Constraints") -> "Constraints":
        """The stricter of both, field by field: a request can narrow a router's settings, not widen them."""
        return Constraints(
            max_cost_usd=_stricter(self.max_cost_usd, other.max_cost_usd, min),
            max_latency_ms=_stricter(self.max_latency_ms, other.max_latency_ms, min),
            max_carbon_g=_stricter(self.max_carbon_g, other.max_carbon_g, min),
            min_quality=_stricter(self.min_quality, other.min_quality, max),
            required_capabilities=sorted({*self.required_capabilities, *other.required_capabilities}),
        )


def _stricter(mine: float | None, theirs: float | None, pick: Callable[[Iterable[float]], float]) -> float | None:
    present = [value for value in (mine, theirs) if value is not None]
    return pick(present) if present else None


class Timeouts(WireModel):
    """Milliseconds. `total_ms` bounds the whole request, fallbacks and waits included; `connect_ms` one connection, its
    name resolution and TLS included."""

    connect_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 5_000
    first_token_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 30_000
    idle_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 30_000
    total_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 120_000


class Router(ResourceBody):
    """One router, as its owner wrote it. Keyed by (owner, id)."""

    id: RouterId
    name: Annotated[str, Field(max_length=200)] = ""
    aliases: Aliases = Field(default_factory=list)
    mode: Literal["smartRouter", "preferredModel"] = "smartRouter"
    preferred_model: ModelId | None = None
    available_models: list[ModelId] = Field(default_factory=list, max_length=500)
    objective: Objective = Field(default_factory=Objective)
    fallback_strategy: FallbackStrategy = Field(default_factory=FallbackStrategy)
    constraints: Constraints = Field(default_factory=Constraints)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    exploration: UnitInterval = 0.0
    durability: Literal["strict", "relaxed"] = "strict"
    on_stream_cut: Literal["resume", "restart"] = "resume"
    upstream: Literal["stream", "whole"] = "stream"
    store_prompts: bool = False
    same_model_retries: Annotated[int, Field(ge=0, le=5)] = 1
    call_format: CallFormat | None = None
    strict_parameters: bool = False

    def named_models(self) -> Iterator[tuple[str, str]]:
        """Every model that the router names, each behind the field that names it."""
        if self.preferred_model is not None:
            yield "preferredModel", self.preferred_model
        for position, model in enumerate(self.available_models):
            yield f"availableModels[{position}]", model
        for position, model in enumerate(self.fallback_strategy.fallback_models):
            yield f"fallbackStrategy.fallbackModels[{position}]", model

    @model_validator(mode="after")
    def _mode_has_its_models(self) -> Self:
        if self.mode == "preferredModel" and self.preferred_model is None:
            raise ValueError("preferredModel is required when mode is preferredModel")
        if self.mode == "smartRouter" and not self.available_models:
            raise ValueError("availableModels must name at least one model when mode is smartRouter")
        return self


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field (`objective.costWeight`) before and after; None where it was not there."""

    field: str
    before: Any
    after: Any


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """The fields whose values differ, in the order of `after`. Objects are compared by field, lists as a whole."""
    old, new = dict(_fields(before)), dict(_fields(after))
    names = [*new, *(name for name in old if name not in new)]
    return tuple(FieldChange(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name))


def added_and_removed(before: Sequence[Any], after: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What a list has gained and lost; both empty where only the order changed."""
    return tuple(one for one in after if one not in before), tuple(one for one in before if one not in after)


def _fields(body: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
