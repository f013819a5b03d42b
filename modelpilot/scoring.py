"""From predictions to scores in [0, 1] and to the weighted total.

`lower_is_better` maps x to s / (s + x - min), where min is the best value among the candidates and s the lower median
of the positive ones: the best scores 1, a typical one about 1/2, and one absurdly dear candidate cannot flatten the
others, since neither min nor the lower median sees it. It is monotone: raising a value never raises its own score and
never lowers another's. Quality is a probability-like number and is its own score.
"""

from collections.abc import Sequence


def lower_is_better(values: Sequence[float | None]) -> list[float]:
    """Scores of costs, latencies or emissions; an unknown value (None) scores 0."""
    known = sorted(value for value in values if value is not None)
    positive = [value for value in known if value > 0.0]
    if not positive:
        return [0.0 if value is None else 1.0 for value in values]
    best, scale = known[0], positive[(len(positive) - 1) // 2]
    # Divided first, so that neither tiny nor huge scales leave the range of a float.
    return [0.0 if value is None else 1.0 / (1.0 + (value - best) / scale) for value in values]


def weighted_total(scores: Sequence[float], shares: Sequence[float]) -> float:
    """The total score: the sum of score times share of weight."""
    return sum(score * share for score, share in zip(scores, shares, strict=True))
