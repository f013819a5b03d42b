"""What routing saved against named baselines: what each request would have cost, and sums over requests. Pure.

A baseline is a fixed choice of a model, from the candidates of the request's own logged decision. Measured: what the
model that answered cost (its provider's token counts times catalogue prices). Estimated: what another model would have
cost, as the decision predicted it before the call. Where the baseline's model is the one that answered, its figure is
the measured one, so that a prediction error never looks like a saving.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from modelpilot.wire.json_model import WireModel

Baseline = Literal["alwaysPreferred", "alwaysBest", "alwaysCheapest"]
BASELINES: tuple[Baseline, ...] = ("alwaysPreferred", "alwaysBest", "alwaysCheapest")
# Beside the baselines: the prediction for the model that answered, which shows how far predictions can be trusted.
AS_PREDICTED = "asPredicted"

STATEMENT = (
    "Measured: actual costs, from the token counts that providers reported and catalogue prices. Estimated: baseline "
    "costs of models that did not answer, as predicted before each call; carbon of both, from catalogue figures per "
    "1,000 tokens. Where the baseline's model answered, its measured cost counts. Only completed requests whose "
    "actual and baseline figures are both known are compared: see `requests` beside `completed`."
)


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


@dataclass(frozen=True, slots=True)
class BaselineSums:
    """Sums over the requests where both sides are known. `estimated`: how many baseline figures were predictions."""

    requests: int = 0
    estimated: int = 0
    cost_usd: float = 0.0
    actual_cost_usd: float = 0.0
    carbon_requests: int = 0
    carbon_g: float = 0.0
    actual_carbon_g: float = 0.0

    def plus(self, other: "BaselineSums") -> "BaselineSums":
        """Both together."""
        names = [each.name for each in fields(self)]
        return BaselineSums(**{name: getattr(self, name) + getattr(other, name) for name in names})


class Saving(WireModel):
    """Baseline less actual over the same requests: positive is saved, negative was paid on top. Shares are of the
    baseline, null where nothing is known."""

    baseline: str
    requests: int
    estimated_requests: int
    baseline_cost_usd: float
    actual_cost_usd: float
    saved_cost_usd: float
    saved_cost_share: float | None
    carbon_requests: int
    baseline_carbon_g: float
    actual_carbon_g: float
    saved_carbon_g: float
    saved_carbon_share: float | None


def savings(sums: Mapping[str, BaselineSums]) -> tuple[Saving, ...]:
    """One for each baseline, in their order, also where nothing is known of it."""
    return tuple(_saving(name, sums.get(name, BaselineSums())) for name in BASELINES)


def prediction_ratio(sums: Mapping[str, BaselineSums]) -> float | None:
    """Actual by predicted cost of the models that answered: 1 is right, 2 means that twice as much was paid.

    Multiply an estimated baseline by it to correct for answers that were longer or shorter than expected.
    """
    found = sums.get(AS_PREDICTED, BaselineSums())
    return found.actual_cost_usd / found.cost_usd if found.cost_usd > 0.0 else None


def added_up(parts: Iterable[tuple[str, BaselineSums]]) -> dict[str, BaselineSums]:
    """Sums by baseline, out of sums of disjoint sets of requests."""
    total: dict[str, BaselineSums] = {}
    for name, sums in parts:
        total[name] = total.get(name, BaselineSums()).plus(sums)
    return total


def _saving(name: str, sums: BaselineSums) -> Saving:
    saved_usd, saved_g = sums.cost_usd - sums.actual_cost_usd, sums.carbon_g - sums.actual_carbon_g
    return Saving(
        baseline=name,
        requests=sums.requests,
        estimated_requests=sums.estimated,
        baseline_cost_usd=sums.cost_usd,
        actual_cost_usd=sums.actual_cost_usd,
        saved_cost_usd=saved_usd,
        saved_cost_share=saved_usd / sums.cost_usd if sums.cost_usd > 0.0 else None,
        carbon_requests=sums.carbon_requests,
        baseline_carbon_g=sums.carbon_g,
        actual_carbon_g=sums.actual_carbon_g,
        saved_carbon_g=saved_g,
        saved_carbon_share=saved_g / sums.carbon_g if sums.carbon_g > 0.0 else None,
    )
