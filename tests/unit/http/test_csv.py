"""CSV cells and columns."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.responses import cell, columns_of, flattened
from api.routes.analytics_views import HourlyItem, RequestItem


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_text(start: str) -> None:
    """A spreadsheet that opens the file runs nothing that a client has sent."""
    assert cell(f"{start}1+1") == f"'{start}1+1"
    assert cell([f"{start}1", "x"]) == f"'{start}1 x"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (False, "false"), (-0.5, "-0.5"), (1e-7, "1e-07"), (3, "3"), ("a=b", "a=b"), ([], "")],
)
def test_values(value: Any, text: str) -> None:
    """Numbers stay numbers, with all their digits; null is empty."""
    assert cell(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(value: float) -> None:
    """What was written is what is read."""
    assert float(cell(value)) == value


def test_columns_are_those_of_the_json() -> None:
    """In the same order, inner objects with a dot; every column is there, whatever a row has."""
    columns = columns_of(RequestItem)
    assert columns[:2] == ("requestId", "routerId")
    assert "tokens.total" in columns
    assert flattened({"a": 1, "tokens": {"input": 2}}) == {"a": 1, "tokens.input": 2}
    assert columns_of(HourlyItem)[0] == "hour"
