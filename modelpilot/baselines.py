"""What a request would have cost under fixed choices of a model, from the candidates of its own logged decision.

Measured: what the model that answered cost (its provider's token counts times catalogue prices). Estimated: what
another model would have cost, as the decision predicted it before the call. Where the baseline's model is the one that
answered, its figure is the measured one, so that a prediction error never looks like a saving.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Baseline = Literal["alwaysPreferred", "alwaysBest", "alwaysCheapest"]
BASELINES: tuple[Baseline, ...] = ("alwaysPreferred", "alwaysBest", "alwaysCheapest")


@dataclass(frozen=True, slots=True)
class Alternative:
    """A model with what it costs (measured where it answered, otherwise predicted); None is unknown."""

    model: str | None = None
    cost_usd: float | None = None
    carbon_g: float | None = None


NO_ALTERNATIVE = Alternative()


@dataclass(frozen=True, slots=True)
class Counterfactuals:
    """The baselines of one request, and what its decision had predicted for the model that answered."""

    preferred: Alternative = NO_ALTERNATIVE
    best: Alternative = NO_ALTERNATIVE
    cheapest: Alternative = NO_ALTERNATIVE
    predicted: Alternative = NO_ALTERNATIVE


NOTHING_KNOWN = Counterfactuals()


def counterfactuals(decision: Mapping[str, Any], answered: Alternative) -> Counterfactuals:
    """The baselines of a completed request whose decision is JSON as `Decision.to_wire` writes it.

    Only candidates that could have served the request count. A router that always takes its preferred model compared
    nothing, so it has no best and no cheapest; one without a preferred model has no such baseline.
    """
    served = [each for each in _candidates(decision) if each.get("excludedBecause") is None]
    by_name = {str(each["model"]): each for each in served}
    compared = [] if decision.get("mode") == "preferredModel" else served

    def alternative(candidate: Mapping[str, Any] | None) -> Alternative:
        if candidate is None:
            return NO_ALTERNATIVE
        return answered if candidate["model"] == answered.model else _predicted(candidate)

    preferred, answering = decision.get("preferredModel"), by_name.get(answered.model or "")
    return Counterfactuals(
        preferred=alternative(by_name.get(preferred) if isinstance(preferred, str) else None),
        best=alternative(_first(compared, _by_quality)),
        cheapest=alternative(_first(compared, _by_cost)),
        predicted=NO_ALTERNATIVE if answering is None else _predicted(answering),
    )


def _candidates(decision: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = decision.get("candidates")
    known = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    return [each for each in known if isinstance(each.get("model"), str)]


def _raw(candidate: Mapping[str, Any], component: str) -> float | None:
    part = candidate.get(component)
    value = part.get("raw") if isinstance(part, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _predicted(candidate: Mapping[str, Any]) -> Alternative:
    return Alternative(str(candidate["model"]), _raw(candidate, "cost"), _raw(candidate, "carbon"))


def _first(
    candidates: Sequence[Mapping[str, Any]], rank: Callable[[Mapping[str, Any]], tuple[float, float, str] | None]
) -> Mapping[str, Any] | None:
    ranked = [(place, each) for each in candidates if (place := rank(each)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _by_quality(candidate: Mapping[str, Any]) -> tuple[float, float, str] | None:
    quality, cost = _raw(candidate, "quality"), _raw(candidate, "cost")
    if quality is None:
        return None
    return (-quality, float("inf") if cost is None else cost, str(candidate["model"]))


def _by_cost(candidate: Mapping[str, Any]) -> tuple[float, float, str] | None:
    quality, cost = _raw(candidate, "quality"), _raw(candidate, "cost")
    # The better one of two that cost the same is what somebody who wants the cheapest would take.
    return None if cost is None else (cost, -(quality or 0.0), str(candidate["model"]))
