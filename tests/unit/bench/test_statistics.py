"""The arithmetic of benchmarks: percentiles, differences and rates."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.statistics import Phase, added, per_call, per_unit, percentile, percentiles, share, slope, summarize

SAMPLES = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60)


@given(SAMPLES, st.floats(0.0, 100.0))
def test_percentile_is_numpy_s(samples: list[float], percent: float) -> None:
    """The definition is the usual one, so that figures can be compared with those of other tools."""
    assert percentile(samples, percent) == pytest.approx(float(np.percentile(samples, percent)), rel=1e-9, abs=1e-6)


@given(SAMPLES, st.floats(0.0, 100.0))
def test_percentile_lies_within_the_samples_and_ignores_their_order(samples: list[float], percent: float) -> None:
    """A percentile invents nothing beyond the extremes, whatever order the calls ended in."""
    found = percentile(samples, percent)
    assert min(samples) <= found <= max(samples)
    assert found == percentile(samples[::-1], percent)


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_percentile_of_nothing_is_an_error(samples: list[float], percent: float) -> None:
    """Nobody reads a 0 ms where nothing was measured."""
    with pytest.raises(ValueError, match="percentile"):
        percentile(samples, percent)


def test_percentiles_of_no_samples_are_absent() -> None:
    """A phase whose calls all failed has no figures."""
    assert percentiles([]) == {}


def test_added_is_the_difference_of_equal_percentiles() -> None:
    """What the gateway adds is compared percentile by percentile, and noise may make it negative."""
    measured, baseline = {"p50": 23.5, "p99": 30.0}, {"p50": 21.0, "p95": 22.0, "p99": 31.0}
    assert added(measured, baseline) == {"p50": 2.5, "p99": -1.0}


def test_summary_pools_rounds() -> None:
    """Percentiles come from all samples; a rate is all calls over all their time, so long rounds weigh more."""
    phases = [
        Phase([10.0, 20.0], answered_s=1.0, durable_s=2.0),
        Phase([30.0], Counter({"reset": 2}), degraded=1, answered_s=3.0, durable_s=4.0),
    ]
    summary = summarize(phases)
    assert (summary.samples, summary.errors, summary.degraded) == (3, {"reset": 2}, 1)
    assert (summary.percentiles_ms["p50"], summary.mean_ms) == (20.0, 20.0)
    assert summary.answered_per_s == pytest.approx(3 / 4)
    assert summary.durable_per_s == pytest.approx(3 / 6)
    assert summary.round_p50_ms == [15.0, 30.0]
    assert summary.round_per_s == [1.0, 0.25]


def test_summary_of_calls_without_workflows_has_no_durable_rate() -> None:
    """A direct call is not durable, and a share of nothing is not shown as a number."""
    summary = summarize([Phase([10.0], answered_s=0.5)])
    assert summary.answered_per_s == 2.0
    assert summary.durable_per_s is None
    assert share(summary.durable_per_s, 80.0) is None


@pytest.mark.parametrize(
    ("measured", "reference", "expected"), [(60.0, 80.0, 0.75), (60.0, None, None), (60.0, 0.0, None)]
)
def test_share_needs_both_rates(measured: float, reference: float | None, expected: float | None) -> None:
    """The share of the no-op rate is unknown, not infinite, where no no-op ran."""
    assert share(measured, reference) == expected


def test_summary_of_nothing_is_empty() -> None:
    """Rounds in which every call failed are reported, not a crash."""
    summary = summarize([Phase(errors=Counter({"status 503": 5}), answered_s=1.0, durable_s=1.0)])
    assert (summary.samples, summary.percentiles_ms, summary.mean_ms) == (0, {}, None)
    assert (summary.answered_per_s, summary.durable_per_s) == (None, None)
    assert (summary.round_p50_ms, summary.round_per_s) == ([], [])


def test_cpu_per_call_counts_all_rounds() -> None:
    """All processor time by all answered calls; a restart in any round makes it unknown, not small."""
    phases = [
        Phase([10.0, 20.0], cpu_ms={"gateway": 60.0, "worker": 4.0, "milvus": 1.0}),
        Phase([30.0], cpu_ms={"gateway": 30.0, "worker": None}),
    ]
    assert summarize(phases).cpu_ms_per_call == {"gateway": 30.0, "worker": None, "milvus": None}
    assert per_call([{"gateway": 5.0}], 0) == {}


def test_cost_of_a_unit_is_a_difference() -> None:
    """What a call costs anyway is no part of it."""
    assert per_unit(100.0, 22.0, 780) == pytest.approx(0.1)
    assert per_unit(None, 22.0, 780) is per_unit(100.0, None, 780) is None


@given(
    st.lists(st.tuples(st.integers(0, 500), st.floats(-1e3, 1e3)), min_size=2, max_size=30, unique_by=lambda at: at[0])
)
def test_slope_is_that_of_the_fitted_line(points: list[tuple[float, float]]) -> None:
    """Memory growth is the usual least-squares slope, so that one odd sample does not decide."""
    expected = np.polyfit([x for x, _ in points], [y for _, y in points], 1)[0]
    assert slope(points) == pytest.approx(float(expected), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 5.0)]])
def test_no_line_through_one_place(points: list[tuple[float, float]]) -> None:
    """Two samples at the same count say nothing about growth."""
    assert slope(points) is None
