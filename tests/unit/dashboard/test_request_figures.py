"""A logged request's page: its decision read back and drawn, and when its calls ran."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.frame.decisions import score_bars
from dashboard.pages.request_detail import waterfall
from modelpilot.metrics.requests import LoggedAttempt
from modelpilot.routing.decision import predictor_of, scored_models, similar_prompts

START_S = 1_800_010_800.0  # 2027-01-15 11:00:00 UTC, a Friday
DECISION: dict[str, Any] = {
    "selectedModel": "b",
    "candidates": [
        {
            "model": model,
            "provider": "p",
            **{
                name: {"raw": 0.5, "unit": "share", "score": 0.5, "weight": weight}
                for name, weight in (("quality", 0.75), ("cost", 0.25), ("latency", 0.0), ("carbon", 0.0))
            },
            "total": total,
            "excludedBecause": None if total else "breaker open",
        }
        for model, total in (("a", 0.4), ("x", None), ("b", 0.5))
    ],
    "neighbours": [{"requestId": "r0", "model": "a", "similarity": 0.5, "quality": None}],
    "predictor": {"version": 3, "fittedAt": "2027-01-15T00:00:00+00:00"},
}


def test_a_logged_decision_is_read_back() -> None:
    """Best first, excluded last, the bars of a candidate add up to its total, and weightless parts are not drawn."""
    models = scored_models(DECISION)
    assert [(one.model, one.total, one.excluded_because) for one in models] == [
        ("b", 0.5, None),
        ("a", 0.4, None),
        ("x", None, "breaker open"),
    ]
    bars = score_bars(models, "b")
    assert [trace.name for trace in bars.data] == ["Quality", "Cost"]
    assert sum(trace.x[0] for trace in bars.data) == pytest.approx(0.5)
    assert "b · 0.500 · chosen" in [one.text for one in bars.layout.annotations]
    assert predictor_of(DECISION) == (3, "2027-01-15T00:00:00+00:00")
    assert similar_prompts(DECISION)[0].similarity == 0.5


@settings(deadline=None)  # plotly is imported by the first figure
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["candidates", "neighbours", "predictor", "model", "cost", "score", "total"]), inner
            )
        ),
        max_leaves=20,
    )
)
def test_any_logged_decision_can_be_read(logged: Any) -> None:
    """Rows outlive versions: whatever JSON is there, the page opens."""
    decision = logged if isinstance(logged, dict) else {"candidates": logged, "neighbours": logged}
    assert isinstance(score_bars(scored_models(decision), "").to_dict(), dict)
    assert isinstance(similar_prompts(decision), list)
    assert predictor_of(decision) is None or decision["predictor"]


def test_waterfall_shows_when_calls_ran() -> None:
    """A failed call is one hatched bar, a good one is its wait and its writing, each where it began."""
    failed = LoggedAttempt(0, "a", "p", "p/a", "error", "rate_limited", 429, START_S + 0.1, 50.0, None, None, 0, 0)
    good = LoggedAttempt(1, "b", "p", "p/b", "ok", None, 200, START_S + 1.0, 500.0, 100.0, 0.1, 1, 2)
    made = waterfall((failed, good), START_S)
    bars = {trace.name: trace for trace in made.data}
    assert list(bars["To the first token"].x) == [0.0, 100.0]
    assert list(bars["Writing the answer"].x) == [0.0, 400.0]
    assert list(bars["Failed or canceled"].x) == [50.0, 0.0]
    assert bars["Writing the answer"].base[1] == pytest.approx(1_100.0)
    assert made.layout.annotations[0].text == "1. p/a: rate_limited 429, 50.0 ms"
