"""The quality-cost plane: single models, the router, random choice, the best of each request, and the hull."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.replay import LoggedRequest
from modelpilot.learning.replay.frontier import MINIMUM_GRADED, frontier, upper_hull

CHEAP, GOOD = "cheap", "good"


def logged(
    chosen: str, quality: tuple[float, float], observed: float | None = None, **changes: object
) -> LoggedRequest:
    """A decision between a cheap and a good model of these predicted qualities, and its outcome."""
    costs = {CHEAP: 0.001, GOOD: 0.01}
    candidates = [
        {
            "model": name,
            **{part: {"raw": raw, "weight": 0.25, "sd": None} for part, raw in (("latency", 500.0), ("carbon", 0.1))},
            "cost": {"raw": costs[name], "weight": 0.25, "sd": None},
            "quality": {"raw": value, "weight": 0.25, "sd": 0.05},
            "total": 0.5,
            "evidence": 20,
            "probability": 0.5,
        }
        for name, value in zip((CHEAP, GOOD), quality, strict=True)
    ]
    decision = {"selectedModel": chosen, "candidates": candidates, "propensity": 0.5}
    return LoggedRequest(decision, chosen, costs[chosen] * 2, 400.0, observed)


def test_every_point_is_where_it_belongs() -> None:
    """Predicted means per model, the mean of models for a random choice, and per request the best of each."""
    requests = [logged(CHEAP, (0.9, 0.8)), logged(GOOD, (0.3, 0.8))]
    found = frontier(requests)
    predicted = {one.model: one.predicted for one in found.models if one.predicted is not None}
    assert predicted[CHEAP].quality.mean == pytest.approx(0.6)
    assert predicted[GOOD].cost_usd.mean == pytest.approx(0.01)
    assert found.best_single == GOOD
    assert found.random is not None
    assert found.random.quality.mean == pytest.approx(0.7)
    assert found.random.cost_usd.mean == pytest.approx(0.0055)
    assert found.per_request is not None
    assert found.per_request.quality.mean == pytest.approx(0.85)
    assert found.predicted is not None
    assert found.predicted.quality.mean == pytest.approx(0.85)
    assert found.observed is None  # nothing was graded
    assert [number for corner in found.hull for number in corner] == pytest.approx([0.001, 0.6, 0.01, 0.8])


def test_few_graded_answers_make_no_point() -> None:
    """A model is measured from MINIMUM_GRADED graded answers on; the router from its first one."""
    few = [logged(CHEAP, (0.5, 0.8), 0.5) for _ in range(MINIMUM_GRADED - 1)]
    found = frontier(few)
    assert [(one.model, one.observed, one.graded, one.chosen) for one in found.models] == [
        (CHEAP, None, MINIMUM_GRADED - 1, MINIMUM_GRADED - 1),
        (GOOD, None, 0, 0),
    ]
    assert found.observed is not None
    assert found.observed.quality.requests == MINIMUM_GRADED - 1
    enough = frontier([*few, logged(CHEAP, (0.5, 0.8), 1.0)]).models[0].observed
    assert enough is not None
    assert enough.quality.mean == pytest.approx((0.5 * (MINIMUM_GRADED - 1) + 1.0) / MINIMUM_GRADED)
    assert enough.cost_usd.mean == pytest.approx(0.002)  # what was paid, not what was predicted


def test_models_that_could_not_serve_are_not_counted() -> None:
    """An excluded candidate is no point of the plane, nor part of a random choice."""
    request = logged(CHEAP, (0.5, 0.9))
    request.decision["candidates"][1] |= {"total": None, "excludedBy": "request"}
    found = frontier([request])
    assert {one.model: one.predicted is None for one in found.models} == {CHEAP: False, GOOD: True}
    assert found.random is not None
    assert found.random.quality.mean == pytest.approx(0.5)
    assert found.best_single == CHEAP


def test_nothing_logged_is_an_empty_plane() -> None:
    """No requests, and decisions without a usable choice, are counted and draw nothing."""
    assert frontier([]).requests == 0
    found = frontier([LoggedRequest({"candidates": []})])
    assert (found.requests, found.left_out, found.models, found.hull) == (0, 1, (), ())


COSTS, QUALITIES = (st.integers(0, top).map(lambda value: value / 1_000.0) for top in (10_000, 1_000))
POINTS = st.lists(st.tuples(COSTS, QUALITIES), min_size=1, max_size=12)


@given(POINTS)
def test_no_point_lies_above_the_hull(points: list[tuple[float, float]]) -> None:
    """Corners are given points with rising cost and quality, and mixing two of them is as good as any point between."""
    hull = upper_hull(points)
    assert set(hull) <= set(points)
    assert list(hull) == sorted(hull)
    assert all(left[1] < right[1] for left, right in itertools.pairwise(hull))
    for cost, quality in points:
        below = [corner for corner in hull if corner[0] <= cost]
        assert below, "the cheapest point is a corner"
        above = next((corner for corner in hull if corner[0] > cost), None)
        left = below[-1]
        share = 0.0 if above is None else (cost - left[0]) / (above[0] - left[0])
        reached = left[1] + (0.0 if above is None else share * (above[1] - left[1]))
        assert quality <= reached + 1e-6
