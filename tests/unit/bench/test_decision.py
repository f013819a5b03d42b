"""`modelpilot bench decision`: that it measures a decision as requests make it, and what its figures mean."""

import io
from contextlib import redirect_stdout

import pytest

from activities.requests.decision import NEIGHBOUR_ROWS
from bench.routing.decision import (
    SCOPE,
    Decider,
    DecisionOptions,
    FittedOnce,
    StoredRows,
    bench_decision,
    models,
    past_rows,
    results,
    show_decision,
    snapshot,
)
from infra.vectors.embedders import WordLlamaEmbedder
from infra.vectors.hot_history import HotHistory


async def test_every_step_is_measured_and_explained() -> None:
    """One line per step; a small run is enough to see that all of it works."""
    said: list[str] = []
    found = await bench_decision(DecisionOptions(models=3, history=300, calls=4), said.append)
    assert list(found["results"]) == ["empty", "predict", "score", "embed", "search", "whole", "read"]
    assert found["fitted"]
    assert said
    with redirect_stdout(io.StringIO()) as printed:
        show_decision(found)
    assert all(f"\n  {name} " in printed.getvalue() for name in found["results"])
    counted = {each["text"]: each["sampleErrorPercent"] for each in found["counts"]}
    assert len(counted) == 16
    assert max(map(abs, counted.values())) < 5.0
    assert all(f"\n  {name} " in printed.getvalue() for name in counted)
    assert "3 models, 300 past prompts, a fitted predictor, 4 calls" in printed.getvalue()


async def test_decisions_have_history_and_predictor() -> None:
    """Otherwise the bench would measure an empty decision under another name."""
    embedder, specs = WordLlamaEmbedder(), models(4)
    rows = await past_rows(embedder, specs, 400)
    history = HotHistory(StoredRows(embedder.dimension, rows))
    await history.warm(SCOPE)
    decider = Decider(embedder, history, snapshot(specs), FittedOnce.of(rows))
    asked = await decider.asked(400)
    assert len(asked.neighbours) == NEIGHBOUR_ROWS
    decided = (await decider.whole(asked)).decision
    assert decided.predictor is not None
    assert not decided.degraded
    assert len(decided.candidates) == 4
    assert sum(candidate.evidence for candidate in decided.candidates) > 0
    await history.close()


def test_ratios_are_to_the_empty_decision() -> None:
    """p50 by p50, so that a slow machine shows in both."""
    found = results({"empty": [1.0, 2.0, 3.0], "score": [3.0, 5.0, 90.0]})
    assert found["empty"]["ofEmpty"] == 1.0
    assert found["score"]["ofEmpty"] == 2.5
    assert found["score"]["ms"]["p50"] == pytest.approx(5.0)
