"""Why a model cannot serve a request. Every reason is a sentence for the person who asks."""

import math
from typing import Protocol

from modelpilot.learning.estimation.facts import Prediction
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.routing.router import Constraints


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


def cannot_serve(model: ModelSpec, needs: Needs, prompt_tokens: int | None = None) -> str | None:
    """The hard limits of the model itself: capabilities and context window. `prompt_tokens`: as it counts them; None:
    as the request's own count."""
    missing = needs.capabilities.difference(model.capabilities)
    if missing:
        return f"lacks the capability {', '.join(sorted(missing))}"
    return exceeds_window(model, needs, prompt_tokens)


def exceeds_window(model: ModelSpec, needs: Needs, prompt_tokens: int | None = None) -> str | None:
    """Prompt and answer together against the context window."""
    window = model.limits.context_window
    # A limit above the model's own is clamped, and within a window that is large enough for the prompt as well.
    wanted = min(needs.max_output_tokens or 0, model.limits.max_tokens or math.inf, (window or math.inf) / 2)
    tokens = needs.prompt_tokens if prompt_tokens is None else prompt_tokens
    if window is not None and tokens + wanted > window:
        return f"needs about {tokens + int(wanted)} tokens of context, the window is {window}"
    return None


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
