"""From predictions to scores in [0, 1] and to the weighted total.

`lower_is_better` maps x to s / (s + x - min), where min is the best value among the candidates and s their lower
median: the best scores 1, a typical one about 1/2, and one absurdly dear candidate cannot flatten the others, since
neither min nor s sees it. Both only grow with any value, so raising a candidate's cost never raises its own score and
never lowers another's. Quality is a probability-like number and is its own score.
"""

from collections.abc import Sequence
from operator import mul

import numpy as np

from modelpilot.arrays import Floats


def lower_is_better(values: Sequence[float | None]) -> list[float]:
    """Scores of costs, latencies or emissions; an unknown value (None) scores 0."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return [0.0] * len(values)
    # An unknown value counts as larger than any other: losing a price must not make the scale smaller.
    best, scale = known[0], known[min((len(values) - 1) // 2, len(known) - 1)]
    return [0.0 if value is None else _score(value - best, scale) for value in values]


def _score(excess: float, scale: float) -> float:
    if excess <= 0.0:
        return 1.0
    # Divided first, so that neither tiny nor huge scales leave the range of a float.
    return 1.0 / (1.0 + excess / scale) if scale > 0.0 else 0.0


def lower_is_better_rows(values: Floats) -> Floats:
    """`lower_is_better` of each row of [rows, candidates]; inf is unknown, and NaN (no candidate) stays NaN."""
    ordered = np.sort(values, axis=1)  # NaN comes last, behind inf
    there, known = (~np.isnan(values)).sum(axis=1), np.isfinite(values).sum(axis=1)
    middle = np.maximum(np.minimum((there - 1) // 2, known - 1), 0)
    best = np.where(known > 0, ordered[:, 0], 0.0)
    scale = np.where(known > 0, ordered[np.arange(len(values)), middle], 0.0)
    return _scores(values, best[:, None], scale[:, None])


def lower_is_better_draws(values: Floats, known: int) -> Floats:
    """The same for [draws, candidates] without NaN, of which the same `known` candidates have values in each row."""
    if known == 0:
        return np.zeros_like(values)
    middle = min((values.shape[1] - 1) // 2, known - 1)
    scale = np.partition(values, middle, axis=1)[:, middle, None]
    return _scores(values, values.min(axis=1, keepdims=True), scale)


def _scores(values: Floats, best: Floats, scale: Floats) -> Floats:
    # The smallest normal float instead of 0: then the best of a scale of 0 scores 1 and all others 0, as they should.
    scale = np.maximum(scale, np.finfo(np.float64).tiny)
    scores: Floats = scale / (scale + (values - best))
    return scores


def weighted_total(scores: Sequence[float], shares: Sequence[float]) -> float:
    """The total score: the sum of score times share of weight."""
    return float(sum(map(mul, scores, shares)))
