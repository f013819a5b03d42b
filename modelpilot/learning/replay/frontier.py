"""The quality-cost plane of one router: what each model alone would have done with its logged requests.

Predictions are those of the logged decisions, so they say of every model what it would have cost and been worth on the
same prompts. Observations exist for the model that was chosen only; models see different prompts, so observed points
of two models are not comparable, and the page says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelpilot.arrays import Floats
from modelpilot.learning.replay.estimates import BOUNDS, Interval, common_error_variance, interval_of
from modelpilot.learning.replay.table import COST, QUALITY, DecisionTable, Flags, LoggedRequest, decision_table

# Fewer graded answers than this say nothing about a model's quality.
MINIMUM_GRADED = 10


@dataclass(frozen=True, slots=True)
class Point:
    """Means per request, each with how many requests it stands on: cost in USD, quality in [0, 1]."""

    cost_usd: Interval
    quality: Interval


@dataclass(frozen=True, slots=True)
class ModelPoint:
    """One model. `observed` is None below MINIMUM_GRADED graded answers of its own; `graded` counts them."""

    model: str
    predicted: Point | None
    observed: Point | None
    graded: int
    chosen: int  # requests for which it was the router's choice


@dataclass(frozen=True, slots=True)
class Frontier:
    """Everything on the plane; None where nothing is known. `left_out` requests had no decision that could be used.

    `predicted` is the router by its own predictions, `random` an equal draw among the models that could serve each
    request, `per_request` the best predicted model of each request: an upper bound in prediction, not in fact.
    `hull` has the corners (cost, quality) of what mixing single models can reach, from the cheapest on.
    """

    requests: int
    left_out: int
    models: tuple[ModelPoint, ...] = ()
    observed: Point | None = None
    predicted: Point | None = None
    random: Point | None = None
    per_request: Point | None = None
    best_single: str | None = None
    hull: tuple[tuple[float, float], ...] = ()


def frontier(logged: Sequence[LoggedRequest]) -> Frontier:
    """The plane of these requests of one router."""
    table = decision_table(logged)
    usable = table.able & np.isfinite(table.mean[:, :, COST]) & np.isfinite(table.mean[:, :, QUALITY])
    models = tuple(_model(table, usable, place) for place in range(len(table.models)))
    known = {one.model: one.predicted for one in models if one.predicted is not None}
    best = max(known, key=lambda name: (known[name].quality.mean, -known[name].cost_usd.mean), default=None)
    chosen = np.zeros(usable.shape)
    chosen[np.arange(len(table)), table.chosen] = 1.0
    return Frontier(
        requests=len(table),
        left_out=len(logged) - len(table),
        models=models,
        observed=_observed(table, np.ones(len(table), np.bool_)),
        predicted=_expected(table, usable, chosen),
        random=_expected(table, usable, usable / np.maximum(usable.sum(axis=1, keepdims=True), 1)),
        per_request=_expected(table, usable, _best_each(table, usable)),
        best_single=best,
        hull=upper_hull([(point.cost_usd.mean, point.quality.mean) for point in known.values()]),
    )


def upper_hull(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The upper left convex hull of (cost, quality): dearer corners that are better, with falling gain per dollar."""
    corners: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda one: (one[0], -one[1])):
        if corners and point[1] <= corners[-1][1]:
            continue
        while len(corners) > 1 and _is_below(corners[-1], corners[-2], point):
            corners.pop()
        corners.append(point)
    return tuple(corners)


def _is_below(corner: tuple[float, float], left: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether the line from `left` to `right` passes above the corner between them, or through it."""
    rise, run = right[1] - left[1], right[0] - left[0]
    return (corner[1] - left[1]) * run <= rise * (corner[0] - left[0])


def _model(table: DecisionTable, usable: Flags, place: int) -> ModelPoint:
    share = np.zeros(usable.shape)
    share[usable[:, place], place] = 1.0
    taken = table.chosen == place
    graded = int(np.isfinite(table.observed[taken, QUALITY]).sum())
    return ModelPoint(
        model=table.models[place],
        predicted=_expected(table, usable, share),
        observed=_observed(table, taken) if graded >= MINIMUM_GRADED else None,
        graded=graded,
        chosen=int(taken.sum()),
    )


def _expected(table: DecisionTable, usable: Flags, share: Floats) -> Point | None:
    """The mean predictions of a policy that takes model m for request n with probability `share` [n, m]."""
    rows = np.where(usable, share, 0.0).sum(axis=1) > 0.0
    intervals = []
    for part in (COST, QUALITY):
        mean = np.where(usable, share * table.mean[:, :, part], 0.0).sum(axis=1)[rows]
        intervals.append(interval_of(mean, common_error_variance(share[rows], table.sd[rows, :, part])))
    return _point(*intervals)


def _observed(table: DecisionTable, rows: Flags) -> Point | None:
    values = [table.observed[rows, part] for part in (COST, QUALITY)]
    return _point(*(interval_of(one[np.isfinite(one)]) for one in values))


def _point(cost: Interval | None, quality: Interval | None) -> Point | None:
    if cost is None or quality is None:
        return None
    return Point(cost.within(*BOUNDS[COST]), quality.within(*BOUNDS[QUALITY]))


def _best_each(table: DecisionTable, usable: Flags) -> Floats:
    """[n, m] one for the model with the best predicted quality of each request, the cheaper of equal ones."""
    quality = np.where(usable, table.mean[:, :, QUALITY], -np.inf)
    share = np.zeros(usable.shape)
    served = np.flatnonzero(usable.any(axis=1))
    if len(served):
        tied = usable[served] & (quality[served] == quality[served].max(axis=1, keepdims=True))
        cost = np.where(tied, table.mean[served, :, COST], np.inf)
        share[served, cost.argmin(axis=1)] = 1.0
    return share
