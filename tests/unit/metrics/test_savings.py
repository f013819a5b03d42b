"""Baselines, carbon and savings: what is measured, what is estimated, and what is left out."""

from dataclasses import fields
from typing import Any

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


def test_savings() -> None:
    """Baseline less actual over the same requests; paying more is a negative saving; no data is no percentage."""
    sums = {
        "alwaysBest": BaselineSums(10, 8, 5.0, 2.0, 4, 100.0, 50.0),
        "alwaysCheapest": BaselineSums(10, 2, 1.0, 2.0),
    }
    best, cheapest = savings(sums)[1], savings(sums)[2]
    assert (best.baseline, best.requests, best.estimated_requests) == ("alwaysBest", 10, 8)
    assert (best.saved_cost_usd, best.saved_cost_share, best.saved_carbon_share) == (3.0, 0.6, 0.5)
    assert (cheapest.saved_cost_usd, cheapest.saved_cost_share, cheapest.saved_carbon_share) == (-1.0, -1.0, None)
    assert [saving.saved_cost_share for saving in savings({})] == [None, None, None]


def test_how_far_predictions_are_off() -> None:
    """Actual by predicted, where anything was predicted."""
    assert prediction_ratio({AS_PREDICTED: BaselineSums(2, 2, 1.0, 1.5)}) == 1.5
    assert prediction_ratio({}) is None


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_parts_add_up(parts: list[tuple[str, int, int]]) -> None:
    """Sums of disjoint sets of requests are the sums of all of them, whatever the order."""
    total = added_up((name, BaselineSums(requests=n, cost_usd=float(cost))) for name, n, cost in parts)
    for name in ("a", "b"):
        expected = [(n, cost) for found, n, cost in parts if found == name]
        got = total.get(name, BaselineSums())
        assert (got.requests, got.cost_usd) == (sum(n for n, _ in expected), sum(cost for _, cost in expected))


def test_nothing_known_is_null_everywhere() -> None:
    """What a failed request leaves behind."""
    assert all(getattr(NOTHING_KNOWN, each.name) == NO_ALTERNATIVE for each in fields(NOTHING_KNOWN))
