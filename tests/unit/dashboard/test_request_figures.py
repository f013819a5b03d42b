"""A logged request's page: its decision read back and drawn, and when its calls ran."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.frame.decisions import score_bars
from dashboard.frame.formats import exact_usd
from dashboard.pages.request_detail import BILL_COLUMNS, bill_rows, waterfall
from modelpilot.metrics.requests import LoggedAttempt, LoggedRequest, RequestDetail
from modelpilot.providers.pricing import CHARGED, total_usd
from modelpilot.requests.outcome import BillLine
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


def call(seq: int, cost_usd: float | None, *bill: BillLine, **known: Any) -> LoggedAttempt:
    """A provider call with these lines on its bill."""
    return LoggedAttempt(seq, "m", "p", "p/m", "ok", None, 200, START_S, 1.0, None, cost_usd, 1, 2, bill, **known)


def detail(cost_usd: float | None, *attempts: LoggedAttempt) -> RequestDetail:
    """A request that cost so much, with its calls."""
    request = LoggedRequest(
        "u", "r", START_S, None, "m", "p", "completed", True, 1.0, None, 1.0, cost_usd, 1, 2, "chat", None, 1, False
    )
    return RequestDetail(request, START_S, None, None, False, 1, 1.0, False, 0, 0, None, None, None, None, {}, attempts)


def test_a_bill_adds_up_to_the_last_digit() -> None:
    """Every line with all its digits: what stands there comes to the cost of the row, also over several calls."""
    amounts = (1.4e-05, 0.000123456789, 3e-12, 0.1, 0.2)
    lines = [BillLine("input", 7, usd) for usd in amounts]
    rows = bill_rows(detail(total_usd(amounts), call(0, None, *lines[:2]), call(1, None, *lines[2:])))
    *listed, total = [row[BILL_COLUMNS.index("USD")] for row in rows]
    assert sum(Decimal(text.removeprefix("$")) for text in listed) == Decimal(total.removeprefix("$"))
    assert (listed[2], total) == ("$0.000000000003", "$0.300137456792")
    assert rows[-1][-1] == "The sum of the lines"
    assert [row[0] for row in rows] == ["1", "1", "2", "2", "2", "All"]


@pytest.mark.parametrize(
    ("attempt", "usd", "said"),
    [
        (call(0, 0.5, BillLine("input", 7, 0.5)), "$0.50", "Counted by the provider"),
        (call(0, None, BillLine("output", 7, None)), "unknown", "Counted by the provider; nobody knows the price"),
        (
            call(0, 0.5, BillLine("output", 7, 0.5), estimated="the answer was cut before its last count"),
            "$0.50",
            "Counted by us; an estimate: the answer was cut before its last count",
        ),
        (
            call(0, 0.5, BillLine(CHARGED, 1, 0.5), list_cost_usd=0.75),
            "$0.50",
            "Charged by the provider; $0.75 by the catalogue's prices",
        ),
        (
            call(0, 0.5, BillLine(CHARGED, 1, 0.5)),
            "$0.50",
            "Charged by the provider; unknown by the catalogue's prices",
        ),
    ],
    ids=["counted", "unpriced", "estimated", "charged", "charged without a price"],
)
def test_a_line_says_what_it_stands_on(attempt: LoggedAttempt, usd: str, said: str) -> None:
    """Whose count and whose price, and why something is an estimate; an unknown price is not free."""
    row = bill_rows(detail(attempt.cost_usd, attempt))[0]
    assert (row[4], row[5]) == (usd, said)


def test_a_bill_that_is_not_whole_says_so() -> None:
    """Calls of before the bills have a cost and no lines, and an unknown line leaves the sum unknown."""
    whole = detail(0.75, call(0, 0.25), call(1, 0.5, BillLine("input", 1, 0.5)))
    assert bill_rows(whole)[-1][3:] == ("", "$0.75", "The lines come to $0.50: not every call has kept its own")
    unknown = detail(None, call(0, None, BillLine("input", 1, None)))
    assert bill_rows(unknown)[-1][4:] == ("unknown", "A price is unknown, so the sum is")
    assert bill_rows(detail(0.5, call(0, 0.5))) == []


@given(st.floats(min_value=0.0, max_value=1e9))
def test_exact_amounts_lose_no_digit(usd: float) -> None:
    """Read back, an amount is the very number that was written, without an exponent."""
    text = exact_usd(usd)
    assert float(text.removeprefix("$").replace(",", "")) == usd
    assert "e" not in text.lower()
    assert len(text.partition(".")[2]) >= 2
