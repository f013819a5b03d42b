"""What routing saved against named baselines: what each request would have cost, and sums over requests. Pure.

A baseline is a fixed choice of a model, from the candidates of the request's own logged decision. Measured: what the
model that answered cost (its provider's bill, or its token counts times prices). Estimated: what another model would
have cost, as the decision predicted it before the call, corrected by how far predictions were off for the models that
did answer (`Correction`). Where the baseline's model is the one that answered, its figure is the
measured one, so that a prediction error never looks like a saving.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from math import sqrt
from typing import Any, Literal

from modelpilot.wire.json_model import WireModel

Baseline = Literal["alwaysPreferred", "alwaysBest", "alwaysCheapest"]
BASELINES: tuple[Baseline, ...] = ("alwaysPreferred", "alwaysBest", "alwaysCheapest")
# In words, and in the order in which one of them is shown where there is room for one.
BASELINE_NAMES: Mapping[str, str] = {
    "alwaysBest": "always the best model",
    "alwaysPreferred": "always the preferred model",
    "alwaysCheapest": "always the cheapest model",
}
# Beside the baselines: the prediction for the model that answered, which shows how far predictions can be trusted.
AS_PREDICTED = "asPredicted"

STATEMENT = (
    "Measured: actual costs, as providers charged them or from their token counts and prices. Estimated: baseline "
    "costs of models that did not answer, as predicted before each call and corrected by how far predictions were off "
    "where models did answer; carbon of both, from catalogue figures per 1,000 tokens. Where the baseline's model "
    "answered, its measured cost counts. Only completed requests whose actual and baseline figures are both known are "
    "compared: see `requests` beside `completed`. The interval holds the true saving in about 95 of 100 cases."
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


_NONE = Decimal(0)


@dataclass(frozen=True, slots=True)
class BaselineSums:
    """Sums over the requests where both sides are known, USD exactly. Of the baseline's figures `estimated` many are
    predictions, which come to `estimated_cost_usd`, their squares to `squares`. `products` and `actual_squares` (of
    actual costs with the baseline's, and with themselves) are known where all are predictions: `AS_PREDICTED`."""

    requests: int = 0
    estimated: int = 0
    cost_usd: Decimal = _NONE
    actual_cost_usd: Decimal = _NONE
    estimated_cost_usd: Decimal = _NONE
    squares: float = 0.0
    products: float = 0.0
    actual_squares: float = 0.0
    carbon_requests: int = 0
    carbon_g: float = 0.0
    actual_carbon_g: float = 0.0
    estimated_carbon_g: float = 0.0

    def plus(self, other: "BaselineSums") -> "BaselineSums":
        """Both together."""
        names = [each.name for each in fields(self)]
        return BaselineSums(**{name: getattr(self, name) + getattr(other, name) for name in names})


# Sums by baseline and by the model that it would have taken.
SumsByModel = Mapping[tuple[str, str], BaselineSums]


class Saving(WireModel):
    """Baseline less actual over the same requests: positive is saved, negative was paid on top. Shares are of the
    baseline, null where nothing is known. `low` and `high` bound the saving: 95 % of intervals like it are right."""

    baseline: str
    requests: int
    estimated_requests: int
    baseline_cost_usd: float
    actual_cost_usd: float
    saved_cost_usd: float
    saved_cost_low_usd: float
    saved_cost_high_usd: float
    saved_cost_share: float | None
    carbon_requests: int
    baseline_carbon_g: float
    actual_carbon_g: float
    saved_carbon_g: float
    saved_carbon_share: float | None


def savings(sums: SumsByModel, correction: "Correction | None" = None) -> tuple[Saving, ...]:
    """One for each baseline, in their order, also where nothing is known of it. `correction` is that of all requests of
    which these are a part, so that the parts add up to the whole; None: these are all."""
    known = correction or correction_of(sums)
    return tuple(
        _saving(name, {model: found for (of, model), found in sums.items() if of == name}, known) for name in BASELINES
    )


def correction_of(sums: SumsByModel) -> "Correction":
    """How far predictions were off among these requests."""
    return Correction.of({model: found for (name, model), found in sums.items() if name == AS_PREDICTED})


def prediction_ratio(sums: SumsByModel) -> float | None:
    """Actual by predicted cost of the models that answered: 1 is right, 2 means that twice as much was paid."""
    found = [each for (name, _), each in sums.items() if name == AS_PREDICTED]
    predicted = sum((each.cost_usd for each in found), _NONE)
    return float(sum((each.actual_cost_usd for each in found), _NONE) / predicted) if predicted > 0 else None


def added_up(parts: Iterable[tuple[tuple[str, str], BaselineSums]]) -> dict[tuple[str, str], BaselineSums]:
    """Sums by baseline and model, out of sums of disjoint sets of requests."""
    total: dict[tuple[str, str], BaselineSums] = {}
    for place, sums in parts:
        total[place] = total.get(place, BaselineSums()).plus(sums)
    return total


# Before anything is known: predictions of single calls are off by half (standard deviation of the ratio), those of a
# model as a whole by a third from those of the others. What is seen counts against so many calls' worth of that.
_CALL_SD, _MODEL_SD, _CALLS = 0.5, 0.3, 5.0
_LEAST = 0.01  # deviations are relative to the ratio, and this is its least: of nothing nobody can be that sure
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Correction:
    """How far predicted costs are off, from the calls of models that answered, whose costs are known.

    A ratio estimate (Cochran, Sampling Techniques, chapter 6): actual by predicted cost of all of them, and of each
    model by itself, drawn towards that of all as far as its calls are few. `variance` is that of the ratio of all,
    `call_variance` that of a single call's, relative to its prediction.
    """

    ratio: float
    variance: float
    call_variance: float
    by_model: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, seen: Mapping[str, BaselineSums]) -> "Correction":
        """From `AS_PREDICTED` sums by the model that answered."""
        total = BaselineSums()
        for sums in seen.values():
            total = total.plus(sums)
        predicted, squares = float(total.cost_usd), total.squares
        if predicted <= 0.0 or squares <= 0.0:
            return cls(1.0, _CALL_SD**2, _CALL_SD**2, {})
        ratio = float(total.actual_cost_usd) / predicted
        left = total.actual_squares - 2.0 * ratio * total.products + ratio**2 * squares
        few = _CALLS * squares / total.requests
        call_variance = (max(left, 0.0) + few * (_CALL_SD * max(ratio, _LEAST)) ** 2) / (squares + few)
        variance = call_variance * squares / predicted**2
        found = cls(ratio, variance, call_variance, {})
        return replace(found, by_model={model: found._shrunk(sums) for model, sums in seen.items()})

    def _shrunk(self, sums: BaselineSums) -> tuple[float, float]:
        """A model's own ratio and its variance around that of all, both Gaussian."""
        predicted = float(sums.cost_usd)
        if predicted <= 0.0:
            return self._unseen
        ratio, prior = self._unseen
        weight = prior / (prior + self.call_variance * sums.squares / predicted**2)
        return ratio + weight * (float(sums.actual_cost_usd) / predicted - ratio), (1.0 - weight) * prior

    @property
    def _unseen(self) -> tuple[float, float]:
        return self.ratio, (_MODEL_SD * max(self.ratio, _LEAST)) ** 2

    def of_model(self, model: str) -> tuple[float, float]:
        """The ratio for predictions of this model, and the variance that it has of its own."""
        return self.by_model.get(model, self._unseen)

    def corrected(self, by_model: Mapping[str, BaselineSums]) -> tuple[float, float, float]:
        """What the predictions among these sums come to (USD, gCO2e), and the variance of the costs."""
        usd, grams, together, apart = 0.0, 0.0, 0.0, 0.0
        for model, sums in by_model.items():
            ratio, variance = self.of_model(model)
            predicted = float(sums.estimated_cost_usd)
            usd, grams, together = (
                usd + ratio * predicted,
                grams + ratio * sums.estimated_carbon_g,
                together + predicted,
            )
            apart += variance * predicted**2 + self.call_variance * sums.squares
        return usd, grams, apart + self.variance * together**2


def _saving(name: str, by_model: Mapping[str, BaselineSums], correction: Correction) -> Saving:
    sums = BaselineSums()
    for each in by_model.values():
        sums = sums.plus(each)
    estimated_usd, estimated_g, variance = correction.corrected(by_model)
    measured_usd, margin = sums.cost_usd - sums.estimated_cost_usd, _Z95 * sqrt(variance)
    baseline_usd, baseline_g = (
        float(measured_usd) + estimated_usd,
        sums.carbon_g - sums.estimated_carbon_g + estimated_g,
    )
    saved_measured = float(measured_usd - sums.actual_cost_usd)
    saved_usd, saved_g = saved_measured + estimated_usd, baseline_g - sums.actual_carbon_g
    return Saving(
        baseline=name,
        requests=sums.requests,
        estimated_requests=sums.estimated,
        baseline_cost_usd=baseline_usd,
        actual_cost_usd=float(sums.actual_cost_usd),
        saved_cost_usd=saved_usd,
        saved_cost_low_usd=max(saved_usd - margin, saved_measured),  # no call costs less than nothing
        saved_cost_high_usd=saved_usd + margin,
        saved_cost_share=saved_usd / baseline_usd if baseline_usd > 0.0 else None,
        carbon_requests=sums.carbon_requests,
        baseline_carbon_g=baseline_g,
        actual_carbon_g=sums.actual_carbon_g,
        saved_carbon_g=saved_g,
        saved_carbon_share=saved_g / baseline_g if baseline_g > 0.0 else None,
    )
