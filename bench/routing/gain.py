"""How much better than not routing: area under the cost-quality curve, and its share of the oracle's. Pure numpy.

For a price of quality the router picks argmax(quality - price · cost) of what it expects. The mean (cost, quality) of
these choices over all prices give a curve, whose concave, non-decreasing hull is averaged over log cost between the
cheapest and the dearest single model. The gain is that average minus the same for the single models, in hundredths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats

PRICES = np.concatenate([[0.0], np.logspace(-1, 5.5, 66)])
_GRID = 2_001
_POINTS = 100.0


@dataclass(frozen=True, slots=True)
class Table:
    """Truth or expectation: [queries, models] each, models in the order of `models`."""

    models: tuple[str, ...]
    quality: Floats
    cost_usd: Floats

    def of(self, models: Sequence[str]) -> "Table":
        """Some of the models only."""
        places = [self.models.index(model) for model in models]
        return Table(tuple(models), self.quality[:, places], self.cost_usd[:, places])

    def at(self, queries: NDArray[np.intp]) -> "Table":
        """Some of the queries only."""
        return Table(self.models, self.quality[queries], self.cost_usd[queries])


@dataclass(frozen=True, slots=True)
class Gain:
    """Points over not routing, and the share of the oracle's points; with the bounds of 95 % where bootstrapped."""

    points: float
    share: float
    low: float = float("nan")
    high: float = float("nan")


def mean_gain(
    truth: Table, expected: Table, pools: Mapping[str, Sequence[str]], resamples: int = 0, seed: int = 0
) -> Gain:
    """The mean over the pools; `resamples` of the queries give the interval."""
    parts = [_Pool(truth.of(models), expected.of(models)) for models in pools.values()]
    whole = np.full(len(truth.quality), 1.0 / len(truth.quality))
    found = [part.measure(whole) for part in parts]
    share = np.mean([points / best if best > 0.0 else 0.0 for points, best in found])
    draws, count = np.random.default_rng(seed), len(truth.quality)
    again = [
        np.mean([part.measure(weight)[0] for part in parts])
        for weight in (np.bincount(draws.integers(0, count, count), minlength=count) / count for _ in range(resamples))
    ]
    low, high = np.quantile(again, [0.025, 0.975]) if again else (np.nan, np.nan)
    return Gain(float(np.mean([points for points, _ in found])), float(share), float(low), float(high))


class _Pool:
    """The choices of router and oracle do not depend on which queries are drawn again: made once."""

    def __init__(self, truth: Table, expected: Table) -> None:
        self._truth = truth
        self._router = self._chosen(expected.quality, expected.cost_usd)
        # Among the equally good the oracle takes the cheapest, also where quality alone counts.
        self._oracle = self._chosen(truth.quality - 1e-12 * truth.cost_usd, truth.cost_usd)

    def measure(self, weight: Floats) -> tuple[float, float]:
        """Points of the router and of the oracle over not routing, with these weights of the queries."""
        single = np.stack([weight @ self._truth.cost_usd, weight @ self._truth.quality], axis=1)
        alone = _area(single, single)
        router, oracle = (
            _area(np.stack([cost @ weight, quality @ weight], axis=1), single)
            for cost, quality in (self._router, self._oracle)
        )
        return _POINTS * (router - alone), _POINTS * (oracle - alone)

    def _chosen(self, quality: Floats, cost: Floats) -> tuple[Floats, Floats]:
        """True cost and quality [prices, queries] of the choice at each price."""
        rows = np.arange(len(quality))
        chosen = [np.argmax(quality - price * cost, axis=1) for price in PRICES]
        costs = np.stack([self._truth.cost_usd[rows, choice] for choice in chosen])
        return costs, np.stack([self._truth.quality[rows, choice] for choice in chosen])


def _area(points: Floats, single: Floats) -> float:
    """Mean height of the hull of (cost, quality) points; the cheapest single model can always be had."""
    cheapest = single[np.argmin(single[:, 0])]
    hull = _hull(np.vstack([points, cheapest]))
    first, last = float(np.log(single[:, 0].min())), float(np.log(single[:, 0].max()))
    heights = np.interp(np.exp(np.linspace(first, last, _GRID)), hull[:, 0], hull[:, 1])
    return float((heights[:-1] + heights[1:]).mean() / 2.0)


def _hull(points: Floats) -> Floats:
    kept: list[tuple[float, float]] = []
    for x, y in points[np.lexsort((-points[:, 1], points[:, 0]))].tolist():
        if kept and (x <= kept[-1][0] + 1e-15 or y <= max(height for _, height in kept)):
            continue
        while len(kept) >= 2 and _below(kept[-2], kept[-1], (x, y)):
            kept.pop()
        kept.append((x, y))
    return np.array(kept)


def _below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    return (middle[1] - first[1]) * (last[0] - first[0]) <= (last[1] - first[1]) * (middle[0] - first[0])


def recovered_gap(truth: Table, expected: Table, strong: str, weak: str) -> tuple[float, float, float]:
    """Of a pair of models: APGR (the mean share of the quality gap that is recovered, over all shares of strong calls),
    and the share of strong calls that recovers 50 % and 80 % of the gap."""
    right, guess = truth.of([strong, weak]).quality, expected.of([strong, weak]).quality
    order = np.argsort(guess[:, 1] - guess[:, 0], kind="stable")
    gap = (right[:, 0] - right[:, 1]).mean()
    recovered = np.concatenate([[0.0], np.cumsum((right[:, 0] - right[:, 1])[order]) / len(right) / gap])
    share = np.linspace(0.0, 1.0, len(recovered))
    half, most = (float(share[np.argmax(recovered >= level)]) for level in (0.5, 0.8))
    return float(np.trapezoid(recovered, share)), half, most
