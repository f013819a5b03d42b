"""The figures of the Overview page: what each says, also where little is known."""

import json
from decimal import Decimal
from typing import Any

import pytest
from plotly.utils import PlotlyJSONEncoder

from dashboard.frame.formats import format_grams
from dashboard.frame.page_frame import Asked
from dashboard.frame.ranges import window_from_url
from dashboard.frame.zones import UTC_ZONE
from dashboard.pages.overview import stat_cards
from dashboard.pages.overview.money import money_cards, savings_table
from modelpilot.metrics.overview import Overview, RequestSummary
from modelpilot.metrics.savings import BaselineSums, savings
from modelpilot.providers.pricing import carbon_range_g

NOW_S = 1_800_014_400.0
WINDOW = window_from_url("?range=1h", NOW_S)
ASKED = Asked("?range=1h", WINDOW, WINDOW.scope(None), UTC_ZONE, {"range": "1h"}, NOW_S)
CHEAPEST = ("alwaysCheapest", "small")
SUMS = {
    CHEAPEST: BaselineSums(10, 0, Decimal(1), Decimal(2)),
    ("alwaysBest", "large"): BaselineSums(
        10, 6, Decimal(8), Decimal(2), Decimal(5), 5.0, carbon_requests=5, carbon_g=30.0, actual_carbon_g=10.0
    ),
}


def cards(overview: Overview, asked: Asked = ASKED) -> str:
    """The text of all cards."""
    return texts([*money_cards(overview, asked), stat_cards(overview, asked)])


def texts(parts: Any) -> str:
    """Every text in components, as JSON, so that neighbours can be looked for."""
    return json.dumps(_texts(json.loads(json.dumps(parts, cls=PlotlyJSONEncoder))))


def _texts(node: Any) -> list[str]:
    children = node.get("props", {}).get("children") if isinstance(node, dict) else node
    if isinstance(children, list):
        return [text for child in children for text in _texts(child)]
    return [children] if isinstance(children, str) else _texts(children) if children else []


def test_savings_name_their_baseline() -> None:
    """The card compares with the best model where that is known, and says that it is an estimate."""
    text = cards(Overview(savings=tuple(one for one in savings(SUMS) if one.requests)))
    assert '"Saved", "$6.00", "75.0 % less than always the best model (estimate, $1.00 to $12.12)"' in text


def test_paying_more_than_a_baseline_is_said() -> None:
    """A negative saving is no saving."""
    text = cards(Overview(savings=savings({CHEAPEST: SUMS[CHEAPEST]})[2:]))
    assert r'"Saved", "\u2212$1.00", "against always the cheapest model (measured)"' in text


def test_nothing_to_compare_is_no_saving_of_zero() -> None:
    """Before the first comparable request the card has a dash."""
    assert r'"Saved", "\u2013", "no request to compare yet"' in cards(Overview())
    assert "No request to compare yet." in json.dumps(savings_table(()), cls=PlotlyJSONEncoder)


def test_table_has_each_baseline_that_is_known() -> None:
    """Best first; counts say how much of it is an estimate; unknown carbon is a dash."""
    known = tuple(one for one in savings(SUMS) if one.requests)
    text = json.dumps(_texts(json.loads(json.dumps(savings_table(known), cls=PlotlyJSONEncoder))), ensure_ascii=False)
    best = ("Always the best model", "$8.00", "$2.00", "$6.00", "$1.00 and $12.12", "75.0 %", "20.0 g")
    cheapest = ("Always the cheapest model", "$1.00", "$2.00", "−$1.00", "−$1.00 and −$1.00", "−100.0 %", "–")
    for cells in ((*best, "10 (6 estimated)"), (*cheapest, "10 (0 estimated)")):
        assert ", ".join(f'"{cell}"' for cell in cells) in text


@pytest.mark.parametrize(
    ("summary", "hint"),
    [
        (RequestSummary(carbon_g=6.0, carbon_range_g=(4.0, 8.0)), "between 4.00 g and 8.00 g"),
        (RequestSummary(carbon_g=6.0, carbon_range_g=(4.0, 8.0), unknown_carbon=3), "8.00 g, plus 3 of unknown carbon"),
        (RequestSummary(carbon_g=6.0), "as the catalogue has it"),
    ],
)
def test_carbon_comes_with_its_range(summary: RequestSummary, hint: str) -> None:
    """An estimate says how far off it may be, and how many requests it leaves out."""
    assert hint in cards(Overview(summary=summary))


def test_sampled_percentiles_say_so() -> None:
    """A percentile of a sample is no exact figure."""
    assert "of a sample of 20,000" in cards(Overview(summary=RequestSummary(sampled=20_000)))
    assert "sample" not in cards(Overview(summary=RequestSummary()))


def test_freshness_of_the_sums_is_shown() -> None:
    """Whoever wonders about a figure sees how far the aggregation has come."""
    assert '"Hourly sums", "10 min ago"' in cards(Overview(aggregated_through_s=NOW_S - 600.0))
    assert "not yet: requests are counted one by one" in cards(Overview())


def test_carbon_ranges_add_up_by_model() -> None:
    """Models without a range count as they are; without any range there is none to show."""
    ranges = {"a": (0.5, 2.0)}
    assert carbon_range_g({"a": 2.0, "b": 1.0}, ranges) == (2.0, 5.0)
    assert carbon_range_g({"b": 1.0}, ranges) is None
    assert carbon_range_g({"a": 0.0, "b": 1.0}, ranges) is None


@pytest.mark.parametrize(
    ("grams", "text"),
    [
        (None, "–"),
        (0.0, "0 g"),
        (0.000123, "123 µg"),
        (0.0123, "12.3 mg"),
        (5.049, "5.05 g"),
        (123.4, "123 g"),
        (4_567.0, "4.57 kg"),
    ],
)
def test_masses_change_their_unit(grams: float | None, text: str) -> None:
    """From micrograms of one answer to the kilograms of a quarter."""
    assert format_grams(grams) == text
