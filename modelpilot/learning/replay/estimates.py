"""Means with intervals: of predictions, and off-policy from outcomes that another policy brought about.

Sources: Dudík, Langford, Li (2011), "Doubly robust policy evaluation and learning"; Owen (2013), "Monte Carlo theory",
chapter 9, for the self-normalized estimate, its variance and the effective sample size.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from modelpilot.arrays import Floats

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `requests` requests with its 95 % interval."""

    mean: float
    low: float
    high: float
    requests: int

    def within(self, low: float, high: float) -> "Interval":
        """The same without what cannot be: estimates that weigh outcomes, and symmetric intervals, know no bounds."""
        mean, at_least, at_most = (min(max(value, low), high) for value in (self.mean, self.low, self.high))
        return Interval(mean, at_least, at_most, self.requests)

    def to_wire(self) -> dict[str, float | int]:
        """As the API shows it."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "requests": self.requests}


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """What outcomes say about a policy that did not bring them about. `weights_ess` is the effective sample size."""

    logged: Interval
    inverse_propensity: Interval | None
    doubly_robust: Interval | None
    difference: Interval | None  # doubly robust, less the logged outcomes
    weights_ess: float

    def within(self, low: float, high: float) -> "OffPolicy":
        """The same without what cannot be: neither an estimate nor the logged outcomes plus a difference is outside."""
        logged, weighted, robust = self.logged.within(low, high), self.inverse_propensity, self.doubly_robust
        return OffPolicy(
            logged=logged,
            inverse_propensity=weighted and weighted.within(low, high),
            doubly_robust=robust and robust.within(low, high),
            difference=self.difference and self.difference.within(low - logged.mean, high - logged.mean),
            weights_ess=self.weights_ess,
        )


# Between what a mean of the component can be: cost, latency, quality, carbon.
BOUNDS: tuple[tuple[float, float], ...] = ((0.0, inf), (0.0, inf), (0.0, 1.0), (0.0, inf))


def interval_of(values: Floats, prediction_variance: float = 0.0) -> Interval | None:
    """The mean of [n] values; `prediction_variance` is that of an error common to them. None without any value."""
    count = len(values)
    if count == 0:
        return None
    spread = float(values.var(ddof=1)) / count if count > 1 else 0.0
    return _interval(float(values.mean()), spread + prediction_variance, count)


def common_error_variance(share: Floats, sd: Floats) -> float:
    """Variance of a mean of predictions where one model's errors all point the same way and models err apart.

    `share` [n, m] is how much of each prediction the mean has (negative in differences), `sd` [n, m] their standard
    deviations. Cautious: errors on different prompts partly cancel.
    """
    return float(((share * sd).mean(axis=0) ** 2).sum()) if len(share) else 0.0


def own_error_variance(share: Floats, sd: Floats) -> float:
    """The same where every request errs by itself, as its length does: errors cancel as requests get many."""
    return float(((share * sd) ** 2).sum()) / len(share) ** 2 if len(share) else 0.0


def off_policy(outcome: Floats, ratio: Floats, predicted: Floats, predicted_chosen: Floats) -> OffPolicy | None:
    """The value of a policy from [n] outcomes of another one; None without any outcome.

    `ratio` is the probability of the logged choice under the policy over that under the one that made it, `predicted`
    the mean prediction under the policy, `predicted_chosen` the prediction for the logged choice.
    """
    seen = np.isfinite(outcome)
    logged = interval_of(outcome[seen])
    if logged is None:
        return None
    ess = effective_size(ratio[seen])
    usable = seen & np.isfinite(predicted) & np.isfinite(predicted_chosen)
    robust = predicted[usable] + ratio[usable] * (outcome[usable] - predicted_chosen[usable])
    return OffPolicy(
        logged=logged,
        inverse_propensity=_self_normalized(ratio[seen], outcome[seen]) if ess > 0.0 else None,
        doubly_robust=interval_of(robust) if ess > 0.0 else None,
        difference=interval_of(robust - outcome[usable]) if ess > 0.0 else None,
        weights_ess=ess,
    )


def effective_size(ratio: Floats) -> float:
    """How many equally weighted outcomes these weights are worth (Kish); 0 where all are 0."""
    shares = _shares(ratio)
    return float(shares.sum() ** 2 / (shares**2).sum()) if len(shares) else 0.0


def _shares(ratio: Floats) -> Floats:
    """Relative to the largest, so that squares of tiny weights do not vanish; none where all are 0."""
    largest = float(ratio.max(initial=0.0))
    return ratio / largest if largest > 0.0 else ratio[:0]


def _self_normalized(ratio: Floats, value: Floats) -> Interval:
    weight = _shares(ratio)
    total = float(weight.sum())
    mean = float((weight * value).sum()) / total
    # The delta method's variance of a ratio of means.
    variance = float((weight**2 * (value - mean) ** 2).sum()) / total**2
    return _interval(mean, variance, len(value))


def _interval(mean: float, variance: float, count: int) -> Interval:
    margin = _Z95 * max(variance, 0.0) ** 0.5
    return Interval(mean, mean - margin, mean + margin, count)
