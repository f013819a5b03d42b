"""Baselines, carbon and savings: what is measured, what is estimated, and what is left out."""

from collections.abc import Sequence
from dataclasses import fields, replace
from decimal import Decimal
from math import isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.db.requests.rows import request_row
from infra.db.schema.requests import RequestRow
from modelpilot.metrics.savings import (
    AS_PREDICTED,
    NO_ALTERNATIVE,
    NOTHING_KNOWN,
    Alternative,
    BaselineSums,
    added_up,
    counterfactuals,
    prediction_ratio,
    savings,
)
from modelpilot.providers.pricing import carbon_g
from modelpilot.requests.outcome import Usage
from tests.support.aggregation import decision
from tests.support.samples import attempt, outcome, record

SMALL = Alternative("sim/small", 0.002, 0.3)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["raw", "model", "cost"]), inner),
    max_leaves=10,
)


def test_baselines_of_a_smart_decision() -> None:
    """The highest predicted quality, the lowest cost, the router's preferred model: each with its prediction."""
    found = counterfactuals(decision(), SMALL)
    assert found.best == Alternative("sim/large", 0.020, 2.0)
    assert found.preferred == Alternative("sim/medium", 0.004, 0.4)
    assert found.predicted == Alternative("sim/small", 0.001, 0.1)


def test_the_model_that_answered_is_measured() -> None:
    """Its own baseline is what was really paid, so that a wrong prediction never looks like a saving."""
    assert counterfactuals(decision(), SMALL).cheapest is SMALL


def test_excluded_candidates_are_no_baseline() -> None:
    """A model that could not have served the request would not have been taken by anybody."""
    wire = decision(preferredModel="sim/large")
    wire["candidates"][2]["excludedBecause"] = "its breaker is open"
    found = counterfactuals(wire, SMALL)
    assert (found.best.model, found.preferred) == ("sim/medium", NO_ALTERNATIVE)


def test_a_fixed_model_has_no_best_and_no_cheapest() -> None:
    """Where nothing was compared, nothing can be claimed."""
    wire = decision(mode="preferredModel", preferredModel="sim/small")
    found = counterfactuals(wire, SMALL)
    assert (found.preferred, found.best, found.cheapest) == (SMALL, NO_ALTERNATIVE, NO_ALTERNATIVE)


def test_unknown_figures_stay_unknown() -> None:
    """A model without a price is never the cheapest, and its cost is no zero."""
    wire = decision()
    wire["candidates"][0]["cost"]["raw"] = None
    wire["candidates"][2]["cost"]["raw"] = None
    found = counterfactuals(wire, Alternative("sim/medium", 0.004, None))
    assert (found.cheapest.model, found.best.model, found.best.cost_usd) == ("sim/medium", "sim/large", None)


@given(JSON, st.dictionaries(st.sampled_from(["mode", "candidates", "preferredModel"]), JSON))
def test_any_decision_is_survived(candidates: object, rest: dict[str, object]) -> None:
    """A decision of another version, or a damaged one, costs a baseline and never the row."""
    counterfactuals({**rest, "candidates": [candidates, {"model": candidates, "cost": {"raw": candidates}}]}, SMALL)


def test_the_row_has_every_figure() -> None:
    """A completed request's row has its baselines, a failed one's has none; both have every column of theirs."""
    row = request_row(record(decision=decision(), outcome=outcome(cost_usd=0.002), carbon_g=0.3))
    figures = {name for name in RequestRow.model_fields if name.endswith(("_usd", "_g", "_model"))}
    assert figures <= set(row) <= set(RequestRow.model_fields)
    assert (row["best_model"], row["best_cost_usd"], row["cheapest_cost_usd"]) == ("sim/large", 0.020, 0.002)
    assert (row["predicted_cost_usd"], row["carbon_g"]) == (0.001, 0.3)
    failed = request_row(record(decision=decision(), outcome=outcome(status="failed")))
    assert [value for name, value in failed.items() if name.startswith(("best_", "predicted_"))] == [None] * 5


def test_carbon_of_all_calls() -> None:
    """Failed calls that used tokens count; a model without a figure makes the sum unknown, unless it used none."""
    calls = (attempt(0, model="a", usage=Usage(500, 500)), attempt(1, model="b", usage=Usage(0, 2_000)))
    specs: dict[str, dict[str, Any]] = {
        "a": {"carbonGPer1kTokens": 1.5},
        "b": {"carbonGPer1kTokens": 0.25},
        "c": {"carbonGPer1kTokens": None},
    }
    assert carbon_g(calls, specs) == pytest.approx(2.0)
    assert carbon_g((*calls, attempt(2, model="c", usage=Usage())), specs) == pytest.approx(2.0)
    assert carbon_g((*calls, attempt(2, model="c", usage=Usage(1, 0))), specs) is None
    assert carbon_g((), {}) == 0.0


def _sums(pairs: Sequence[tuple[float, float]], **others: Any) -> BaselineSums:
    """Sums of (predicted, actual) costs where all of the baseline's are predictions."""
    predicted, actual = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    costs = Decimal(repr(float(sum(predicted))))
    return BaselineSums(
        requests=len(pairs),
        estimated=len(pairs),
        cost_usd=costs,
        actual_cost_usd=Decimal(repr(float(sum(actual)))),
        estimated_cost_usd=costs,
        squares=sum(each**2 for each in predicted),
        products=sum(one * other for one, other in pairs),
        actual_squares=sum(each**2 for each in actual),
        **others,
    )


def test_savings_without_predictions_are_exact() -> None:
    """Baseline less actual over the same requests; paying more is a negative saving; no data is no percentage."""
    sums = {
        ("alwaysBest", "large"): BaselineSums(
            10, 0, Decimal("0.3"), Decimal("0.1"), carbon_g=100.0, actual_carbon_g=50.0
        ),
        ("alwaysCheapest", "small"): BaselineSums(10, 0, Decimal(1), Decimal(2)),
    }
    best, cheapest = savings(sums)[1], savings(sums)[2]
    assert (best.saved_cost_usd, best.saved_cost_low_usd, best.saved_cost_high_usd) == (0.2, 0.2, 0.2)
    assert (best.saved_cost_share, best.saved_carbon_share) == pytest.approx((2 / 3, 0.5))
    assert (cheapest.saved_cost_usd, cheapest.saved_cost_share, cheapest.saved_carbon_share) == (-1.0, -1.0, None)
    assert [saving.saved_cost_share for saving in savings({})] == [None, None, None]


def test_predictions_are_corrected_by_what_was_seen() -> None:
    """Where every answer cost half of what was predicted, so would the baseline's have: no prediction is a saving."""
    seen = _sums([(0.010, 0.005)] * 400)
    baseline = replace(_sums([(0.040, 0.005)] * 400), carbon_requests=400, carbon_g=8.0, estimated_carbon_g=8.0)
    best = savings({(AS_PREDICTED, "small"): seen, ("alwaysBest", "large"): baseline})[1]
    assert best.baseline_cost_usd == pytest.approx(400 * 0.020)
    assert (best.saved_cost_usd, best.baseline_carbon_g) == pytest.approx((6.0, 4.0))
    assert -2.0 < best.saved_cost_low_usd < 6.0 < best.saved_cost_high_usd


def test_a_model_that_answered_itself_is_corrected_by_that() -> None:
    """Its own ratio counts as far as its calls are many."""
    seen = {
        (AS_PREDICTED, "small"): _sums([(0.01, 0.01)] * 1_000),
        (AS_PREDICTED, "large"): _sums([(0.02, 0.04)] * 500),
    }
    best = savings(seen | {("alwaysBest", "large"): _sums([(0.02, 0.01)] * 1_000)})[1]
    assert best.baseline_cost_usd == pytest.approx(40.0, rel=0.02)


def test_the_interval_holds_what_it_says() -> None:
    """In about 95 of 100 worlds the baseline's true cost lies within it, also where its model has never answered."""
    random, held, worlds = np.random.default_rng(1), 0, 400
    for _ in range(worlds):
        common, own = np.exp(random.normal(0.0, 0.5)), random.normal(1.0, 0.3)
        predicted = random.lognormal(-5.0, 0.7, (2, 60))
        actual = predicted * common * np.maximum(1.0 + random.normal(0.0, 0.5, (2, 60)), 0.0)
        truth, seen = float((actual[1] * own).sum()), list(zip(predicted[0], actual[0], strict=True))
        baseline = _sums(list(zip(predicted[1], actual[0], strict=True)))
        best = savings({(AS_PREDICTED, "small"): _sums(seen), ("alwaysBest", "large"): baseline})[1]
        held += best.saved_cost_low_usd <= truth - best.actual_cost_usd <= best.saved_cost_high_usd
    assert 0.9 <= held / worlds <= 0.99, held


def test_how_far_predictions_are_off() -> None:
    """Actual by predicted, where anything was predicted."""
    seen = {(AS_PREDICTED, "a"): _sums([(1.0, 1.5)]), (AS_PREDICTED, "b"): _sums([(1.0, 1.5)])}
    assert prediction_ratio(seen) == 1.5
    assert prediction_ratio({}) is None


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_parts_add_up(parts: list[tuple[str, int, int]]) -> None:
    """Sums of disjoint sets of requests are the sums of all of them, whatever the order."""
    total = added_up(((name, "m"), BaselineSums(requests=n, cost_usd=Decimal(cost))) for name, n, cost in parts)
    for name in ("a", "b"):
        expected = [(n, cost) for found, n, cost in parts if found == name]
        got = total.get((name, "m"), BaselineSums())
        assert (got.requests, int(got.cost_usd)) == (sum(n for n, _ in expected), sum(cost for _, cost in expected))


_COSTS = st.integers(0, 10**15).map(lambda amount: amount / 1e12)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), _COSTS, _COSTS), max_size=20), st.lists(_COSTS, max_size=9))
def test_a_saving_is_possible(seen: list[tuple[str, float, float]], predicted: list[float]) -> None:
    """Whatever was predicted and paid: the figures are numbers, in their order, and no baseline costs less than 0."""
    sums = {(AS_PREDICTED, name): _sums([(p, a) for at, p, a in seen if at == name]) for name in ("a", "b")}
    best = savings(sums | {("alwaysBest", "b"): _sums([(cost, cost / 3) for cost in predicted])})[1]
    assert all(isfinite(value) for value in best.model_dump().values() if isinstance(value, float))
    assert best.saved_cost_low_usd <= best.saved_cost_usd <= best.saved_cost_high_usd
    assert best.baseline_cost_usd >= 0.0


def test_nothing_known_is_null_everywhere() -> None:
    """What a failed request leaves behind."""
    assert all(getattr(NOTHING_KNOWN, each.name) == NO_ALTERNATIVE for each in fields(NOTHING_KNOWN))
