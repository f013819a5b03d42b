"""What a fit reads and when it is refused."""

from dataclasses import replace
from typing import Any

import numpy as np

from infra.fitting import fit_rows
from infra.vectors.rows import HistoryRow, new_row
from infra.vectors.training import training_rows
from modelpilot.requests.records import HistoryPoint, HistoryScope
from tests.support import refit


def test_a_fit_worse_than_the_means_is_refused() -> None:
    """Pure noise gives no artifact, and the report says why."""
    noise = [fit_rows(refit.training_rows(120, seed=seed, learnable=False), 1.0, refit.RIVAL) for seed in range(8)]
    refused = [made for made in noise if made.artifact is None]
    assert refused
    assert all(made.report.refused_because for made in refused)


def row(prompt: str, model: str, at: float, **changes: Any) -> HistoryRow:
    """A stored row of history."""
    point = HistoryPoint(
        f"{prompt}/{model}", HistoryScope("alice", "r"), model, f"{prompt}-{model}", np.full(4, at, np.float32), 100.0,
        None, None, None, 10, 20, "math", at,
    )  # fmt: skip
    return replace(new_row(point, 0.0), **changes)


def test_rows_become_columns() -> None:
    """A prompt has its vector once, unknown values are NaN, and models may have slashes in their names."""
    rows = [
        row("p1", "sim/a", 1.0, quality=0.5, quality_count=2.0, request_count=3.0),
        row("p1", "sim/b", 2.0, cost_usd=0.1, cost_count=1.0),
        row("p2", "sim/a", 3.0, ttft_ms=7.0, ttft_count=1.0),
    ]
    made = training_rows(rows, 10)
    assert (len(made), made.models) == (3, ("sim/a", "sim/b"))
    assert made.vectors.tolist() == [[2.0] * 4, [3.0] * 4]
    assert (made.prompt.tolist(), made.model.tolist()) == ([0, 0, 1], [0, 1, 0])
    assert made.count.tolist() == [3.0, 1.0, 1.0]
    np.testing.assert_array_equal(made.quality, [0.5, np.nan, np.nan])
    np.testing.assert_allclose(made.quality_weight, [2.0 / 3.0, 0.0, 0.0])
    np.testing.assert_array_equal(made.cost_usd, [np.nan, 0.1, np.nan])
    np.testing.assert_array_equal(made.ttft_ms, [np.nan, np.nan, 7.0])


def test_only_the_newest_rows_count() -> None:
    """However many a router has, a fit's memory is bounded."""
    made = training_rows([row(f"p{at}", "m", float(at)) for at in range(50)], 20)
    assert (len(made), made.timestamp.min()) == (20, 30.0)
    assert len(training_rows([], 20)) == 0
