"""Normalization to [0, 1] and the weighted total."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.routing.router import Objective
from modelpilot.routing.scoring import lower_is_better, weighted_total

VALUES = st.floats(min_value=0.0, max_value=1e12, allow_nan=False)
PRICES = st.just(0.0) | st.floats(min_value=1e-9, max_value=1e6)


@pytest.mark.parametrize(
    ("values", "scores"),
    [
        ([], []),
        ([5.0], [1.0]),
        ([0.0], [1.0]),
        ([0.0, 0.0], [1.0, 1.0]),
        ([None], [0.0]),
        ([None, None, 3.0], [0.0, 0.0, 1.0]),
        ([1.0, 2.0], [1.0, 0.5]),
        ([1.0, 2.0, 3.0], [1.0, 2 / 3, 0.5]),
        ([0.0, 1.0], [1.0, 0.0]),
        ([0.0, 1.0, 1.0], [1.0, 0.5, 0.5]),
        ([7.0, 7.0], [1.0, 1.0]),
    ],
)
def test_known_scores(values: list[float | None], scores: list[float]) -> None:
    """The documented formula s / (s + x - min), unknown 0, best 1."""
    assert lower_is_better(values) == pytest.approx(scores)


@given(st.lists(st.none() | VALUES, max_size=20))
def test_scores_are_shares(values: list[float | None]) -> None:
    """Every score is a finite number in [0, 1], the best known value scores 1, an unknown one 0."""
    scores = lower_is_better(values)
    assert all(math.isfinite(score) and 0.0 <= score <= 1.0 for score in scores)
    assert all(score == 0.0 for value, score in zip(values, scores, strict=True) if value is None)
    known = [value for value in values if value is not None]
    assert all(score == 1.0 for value, score in zip(values, scores, strict=True) if known and value == min(known))


@given(st.lists(VALUES, min_size=2, max_size=10))
def test_lower_values_never_score_lower(values: list[float]) -> None:
    """The order of the scores is the order of the values, reversed."""
    scores = lower_is_better(values)
    ordered = [score for _, score in sorted(zip(values, scores, strict=True))]
    assert all(left >= right for left, right in itertools.pairwise(ordered))


@given(st.lists(PRICES, min_size=1, max_size=10), st.data())
def test_raising_a_value_never_helps_it(values: list[float], data: st.DataObject) -> None:
    """A dearer model scores no higher than before, and no other model loses by it."""
    index = data.draw(st.integers(0, len(values) - 1))
    dearer = [*values]
    dearer[index] += data.draw(PRICES)
    before, after = lower_is_better(values), lower_is_better(dearer)
    assert after[index] <= before[index] + 1e-9
    assert all(after[i] >= before[i] - 1e-9 for i in range(len(values)) if i != index)


@given(st.lists(PRICES, min_size=3, max_size=10))
def test_one_absurd_value_does_not_flatten_the_others(values: list[float]) -> None:
    """Adding a candidate at a billion times the price leaves the others' order visible."""
    typical = lower_is_better([*values, max(values)])
    assert lower_is_better([*values, max(values) * 1e9])[:-1] == pytest.approx(typical[:-1])


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.lists(st.floats(0, 1e6), min_size=4, max_size=4))
def test_the_total_is_a_share(scores: list[float], weights: list[float]) -> None:
    """Whatever the weights, the total lies in [0, 1], since shares sum to 1."""
    cost, latency, quality, carbon = weights
    objective = Objective(cost_weight=cost, latency_weight=latency, quality_weight=quality, carbon_weight=carbon)
    shares = objective.shares()
    assert math.fsum(shares) == pytest.approx(1.0)
    assert -1e-12 <= weighted_total(scores, shares) <= 1.0 + 1e-12


def test_the_total_is_the_weighted_sum() -> None:
    """cost, latency, quality and carbon each count by their share."""
    assert weighted_total((1.0, 0.5, 0.25, 0.0), (0.4, 0.3, 0.2, 0.1)) == pytest.approx(0.6)
