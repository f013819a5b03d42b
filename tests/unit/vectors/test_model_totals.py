"""Totals per model of an in-memory copy, kept up with every row."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vectors.hot_copy import HotCopy
from infra.vectors.rows import HistoryRow, new_row
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours

QUERY = np.ones(2, np.float32)


def row(prompt: int, model: str, latency_ms: float, quality: float | None = None, at: float = 0.0) -> HistoryRow:
    """A stored row; the same prompt and model replace each other."""
    scope = HistoryScope("alice", "r")
    point = HistoryPoint(
        f"{prompt}/{model}", scope, model, "q", QUERY, latency_ms, None, quality, None, 1, 7, "chat", at
    )
    return replace(new_row(point, at), request_count=1_000.0)


def found(copy: HotCopy) -> Neighbours:
    """What a search brings."""
    return copy.search(QUERY, 10)


def test_a_search_brings_the_means_of_the_router() -> None:
    """Each prompt counts once, however often it was asked, and quality over those that have one only."""
    copy = HotCopy(2, 100)
    copy.put([row(1, "a", 100.0, 1.0), row(2, "a", 300.0, 0.0), row(3, "a", 200.0), row(1, "b", 50.0)])
    totals = found(copy).totals
    assert totals is not None
    assert (totals["a"].prompts, totals["a"].graded, totals["b"].prompts) == (3, 2, 1)
    assert totals["a"].quality == 0.5
    assert math.isnan(totals["b"].quality)


def test_qualities_count_by_their_weights() -> None:
    """A passed check for a quarter of a person's word, and a prompt for one at most."""
    copy = HotCopy(2, 100)
    copy.put([replace(row(1, "a", 1.0, 1.0), quality_count=0.25), replace(row(2, "a", 1.0, 0.0), quality_count=7.0)])
    totals = found(copy).totals
    assert totals is not None
    assert totals["a"].graded == 1.25
    assert totals["a"].quality == pytest.approx(0.2)


def test_rows_that_make_room_are_forgotten() -> None:
    """A copy at its limit has the means of what it holds."""
    copy = HotCopy(2, 2)
    copy.put([row(1, "a", 100.0, at=1.0), row(2, "b", 200.0, at=2.0), row(3, "b", 400.0, at=3.0)])
    totals = found(copy).totals
    assert totals is not None
    assert list(totals) == ["b"]
    assert totals["b"].prompts == 2


def test_totals_that_were_given_out_stay_as_they_were() -> None:
    """A decision on one thread goes on with what it found while another request's outcome comes in."""
    copy = HotCopy(2, 100)
    copy.put([row(1, "a", 100.0), row(1, "b", 50.0)])
    before = found(copy).totals
    copy.put([row(2, "a", 300.0), row(2, "c", 10.0)])
    after = found(copy).totals
    assert before is not None
    assert after is not None
    assert (set(before), before["a"].prompts) == ({"a", "b"}, 1)
    assert (set(after), after["a"].prompts, after["b"]) == ({"a", "b", "c"}, 2, before["b"])


ROWS = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from("ab"), st.floats(0, 1e6), st.none() | st.floats(0, 1)),
    min_size=1,
    max_size=40,
)


@given(ROWS)
def test_running_totals_are_those_of_the_rows_that_are_there(puts: list[tuple[int, str, float, float | None]]) -> None:
    """After any sequence of inserts and replacements."""
    copy, last = HotCopy(2, 100), {}
    for prompt, model, latency_ms, quality in puts:
        copy.put([row(prompt, model, latency_ms, quality)])
        last[prompt, model] = (latency_ms, quality)
    totals = found(copy).totals
    assert totals is not None
    for model in {model for _, model in last}:
        mine = [values for (_, name), values in last.items() if name == model]
        graded = [quality for _, quality in mine if quality is not None]
        assert (totals[model].prompts, totals[model].graded) == (len(mine), len(graded))
        if graded:
            assert totals[model].quality == pytest.approx(np.mean(graded), abs=1e-6)
