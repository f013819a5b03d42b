"""Why a model cannot serve a request. Every reason is a sentence for the person who asks."""

from typing import Protocol

from modelpilot.learning.estimation.facts import Prediction
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.kinds import ProviderKind, unsupported_fields
from modelpilot.routing.router import Constraints
from modelpilot.wire.jsonb import JsonObject


class Needs(Protocol):
    """What a request needs of a model, as a `RequestProfile` says it and a logged decision keeps it."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the model must be able to do."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """The estimated size of the prompt."""
        ...

    @property
    def max_output_tokens(self) -> int | None:
        """The longest answer asked for; None: not said."""
        ...


def cannot_serve(model: ModelSpec, needs: Needs) -> str | None:
    """The hard limits of the model itself: capabilities, context window, output limit."""
    missing = needs.capabilities.difference(model.capabilities)
    if missing:
        return f"lacks the capability {', '.join(sorted(missing))}"
    if (too_long := exceeds_window(model, needs)) is not None:
        return too_long
    wanted = needs.max_output_tokens or 0
    if model.limits.max_tokens is not None and wanted > model.limits.max_tokens:
        return f"{wanted} output tokens requested, the model gives at most {model.limits.max_tokens}"
    return None


def exceeds_window(model: ModelSpec, needs: Needs) -> str | None:
    """Prompt and answer together against the context window."""
    window, tokens = model.limits.context_window, needs.prompt_tokens + (needs.max_output_tokens or 0)
    too_long = window is not None and tokens > window
    return f"needs about {tokens} tokens of context, the window is {window}" if too_long else None


def cannot_honour(kind: ProviderKind | None, body: JsonObject) -> str | None:
    """The fields of the body that a provider of this kind (None: unknown) has nothing for: never silently dropped."""
    fields = unsupported_fields(kind, body) if kind is not None else []
    return f"its provider ({kind}) cannot honour {', '.join(fields)}" if fields else None


def breaks_constraint(model: ModelSpec, predicted: Prediction, constraints: Constraints) -> str | None:
    """The constraints of the router and the request against the prediction; unknown fails where a limit is set."""
    missing = [name for name in constraints.required_capabilities if name not in model.capabilities]
    if missing:
        return f"lacks the required capability {', '.join(sorted(set(missing)))}"
    return (
        _over("cost", predicted.cost_usd, constraints.max_cost_usd, "USD")
        or _over("latency", predicted.latency_ms, constraints.max_latency_ms, "ms")
        or _over("carbon", predicted.carbon_g, constraints.max_carbon_g, "gCO2e")
        or _under_quality(predicted.quality, constraints.min_quality)
    )


def _over(what: str, value: float | None, limit: float | None, unit: str) -> str | None:
    if limit is None:
        return None
    if value is None:
        return f"{what} is unknown and the limit is {limit:g} {unit}"
    return f"expected {what} {value:.4g} {unit} is over the limit {limit:g} {unit}" if value > limit else None


def _under_quality(value: float, limit: float | None) -> str | None:
    if limit is None or value >= limit:
        return None
    return f"expected quality {value:.3f} is under the minimum {limit:g}"
