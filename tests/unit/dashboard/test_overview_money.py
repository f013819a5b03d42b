"""The money of the Overview page: change, forecast, spend over time and by a dimension."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from plotly.utils import PlotlyJSONEncoder

from dashboard.frame.formats import UNKNOWN
from dashboard.frame.page_frame import Asked
from dashboard.frame.ranges import AUTO, CUSTOM, Window, window_from_url
from dashboard.frame.urls import query
from dashboard.frame.zones import DAY_S, HOUR_S, UTC_ZONE, Zone, zone_named
from dashboard.pages.overview.money import (
    DIMENSIONS,
    change,
    change_text,
    duration,
    forecast_card,
    money_cards,
    month_bounds,
    share_name,
    spend_by_csv,
    spend_by_table,
    spend_over_time,
    spend_question,
    spend_time_csv,
    spend_time_table,
)
from modelpilot.metrics.overview import (
    MonthSpend,
    Overview,
    RequestBucket,
    RequestSummary,
    Spend,
    SpendShare,
    forecast_usd,
)
from modelpilot.metrics.savings import BaselineSums, savings

NOON_S = 1_800_014_400.0  # 2027-01-15 12:00:00 UTC
WINDOW = Window(CUSTOM, NOON_S - 3 * HOUR_S, NOON_S, HOUR_S)
SAVED = {"alwaysBest": 1.5, "alwaysCheapest": -0.25}
BUCKETS = (
    RequestBucket(NOON_S - 3 * HOUR_S, 7, 0, 0.5, 2, SAVED),
    RequestBucket(NOON_S - HOUR_S, 3, 0, 0.25, 0, {"alwaysBest": -0.5}),
)
BEST = BaselineSums(10, 6, Decimal("1.75"), Decimal("0.75"), Decimal(1), 1.0)
KNOWN = tuple(one for one in savings({("alwaysBest", "m"): BEST}) if one.requests)
SHARES = (
    SpendShare("a", Spend(0.5, 1, 6), Spend(0.4, 0, 2)),
    SpendShare("", Spend(0.2, 0, 3)),
    SpendShare(None, Spend(0.05, 0, 1), Spend(0.1, 0, 9), members=3),
)
OVERVIEW = Overview(
    summary=RequestSummary(10, cost_usd=0.75, unknown_cost=2),
    buckets=BUCKETS,
    savings=KNOWN,
    before=Spend(0.5, 0, 11),
    spend_by=SHARES,
)
SHORT, LEFT_OUT = "mean of the last 1.5, all there are", "3 unpriced left out"


def asked(search: str = "", window: Window = WINDOW, zone: Zone = UTC_ZONE) -> Asked:
    """What a visitor asks for."""
    return Asked(search, window, window.scope(None), zone, query(search), NOON_S)


def texts(part: Any) -> list[str]:
    """Every text in components, in its order."""
    return _texts(json.loads(json.dumps(part, cls=PlotlyJSONEncoder)))


def _texts(node: Any) -> list[str]:
    children = node.get("props", {}).get("children") if isinstance(node, dict) else node
    if isinstance(children, list):
        return [text for child in children for text in _texts(child)]
    return [children] if isinstance(children, str) else _texts(children) if children else []


def test_spend_and_savings_have_bars_of_their_own() -> None:
    """One bar per bucket on each of two axes, none where nothing was; hatching tells them apart without colour."""
    spent, saved = spend_over_time(BUCKETS, "alwaysBest", WINDOW, UTC_ZONE, "?as=u").data
    assert (spent.y, saved.y) == ((0.5, None, 0.25), (1.5, None, -0.5))
    assert saved.name == "Saved against always the best model (estimate)"
    assert (spent.yaxis, saved.yaxis) == (None, "y2")
    assert (spent.marker.pattern.shape, saved.marker.pattern.shape) == (None, "/")
    assert tuple(spent.customdata[0]) == (
        "$0.500",
        "Jan 15 09:00 to 10:00 UTC",
        "/requests?as=u&from=2027-01-15T09%3A00%3A00Z&to=2027-01-15T10%3A00%3A00Z",
    )


def test_without_a_baseline_nothing_is_drawn_as_saved() -> None:
    """Unknown is not zero."""
    spent, saved = spend_over_time(BUCKETS, None, WINDOW, UTC_ZONE).data
    assert (any(spent.y), any(saved.y)) == (True, False)


def test_table_and_csv_of_the_time_have_the_numbers_of_the_figure() -> None:
    """The table writes them for people, the CSV as they are."""
    shown = texts(spend_time_table(OVERVIEW, asked()))
    assert shown[shown.index("Jan 15 09:00 to 10:00 UTC") :][:4] == [
        "Jan 15 09:00 to 10:00 UTC", "$0.500 + 2 unknown", "$1.50", "7"
    ]  # fmt: skip
    _, rows = spend_time_csv(OVERVIEW, asked())
    assert list(rows) == [
        ("2027-01-15T09:00:00Z", "2027-01-15T10:00:00Z", 0.5, 2, "alwaysBest", 1.5, 7),
        ("2027-01-15T11:00:00Z", "2027-01-15T12:00:00Z", 0.25, 0, "alwaysBest", -0.5, 3),
    ]


def test_the_dearest_come_with_share_and_change() -> None:
    """Shares are of the whole spend, the rest is one row, and the sum is that of the card."""
    shown = texts(spend_by_table(OVERVIEW, "model", asked()))
    rows = [tuple(shown[at : at + 6]) for at in range(0, len(shown), 6)]
    assert rows == [
        ("Model", "Spend", "Share", "Before", "Change", "Requests"),
        ("a", "$0.500 + 1 unknown", "66.7 %", "$0.400", "+25 %", "6"),
        ("(none)", "$0.200", "26.7 %", UNKNOWN, UNKNOWN, "3"),
        ("(other), 3 more", "$0.0500", "6.7 %", "$0.100", "−50 %", "1"),
        ("All", "$0.750 + 2 unknown", "100.0 %", "$0.500", "+50 %", "10"),
    ]
    columns, listed = spend_by_csv(OVERVIEW, "model")
    plain = list(listed)
    assert columns[0] == "model"
    assert [(row[0], row[1], row[-1]) for row in plain] == [
        ("a", 0.5, 6), ("(none)", 0.2, 3), ("(other), 3 more", 0.05, 1)
    ]  # fmt: skip
    assert "Nothing was spent in this range." in texts(spend_by_table(Overview(), "model", asked()))


def test_every_value_leads_to_its_requests() -> None:
    """By the filter of its dimension, a key by its id and not by its name; the rest has no list."""
    shares = (SpendShare("a b", Spend(1.0), name="named"), SpendShare(None, Spend(1.0), members=3))
    links = {}
    for by in (*DIMENSIONS, "tag.team"):
        table = json.dumps(spend_by_table(Overview(spend_by=shares), by, asked()), cls=PlotlyJSONEncoder)
        (links[by],) = re.findall(r'"href": "([^"]*)"', table)
    assert {by: link.partition("?")[2].split("&")[-1] for by, link in links.items()} == {
        "model": "model=a+b", "router": "router=a+b", "provider": "provider=a+b", "key": "key=a+b", "user": "user=a+b",
        "purpose": "purpose=a+b", "tag.team": "tag=team%3Da%2Bb",
    }  # fmt: skip


def test_values_are_named() -> None:
    """A key by its name, and those without a value by what that means."""
    assert share_name(SpendShare("key_1", Spend(), name="batch"), "key") == "batch (key_1)"
    assert share_name(SpendShare("key_1", Spend()), "key") == "key_1"
    assert (share_name(SpendShare("", Spend()), "router"), share_name(SpendShare("", Spend()), "user")) == (
        "(direct)",
        "(none)",
    )


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [(1.12, 1.0, "+12 %"), (0.5, 1.0, "−50 %"), (1.0, 1.0, "+0 %"), (30.0, 1.0, "+2,900 %"), (0.0, 1.0, "−100 %")],
)
def test_changes_have_a_sign(now: float, before: float, text: str) -> None:
    """Whole percent, with a real minus."""
    assert change(now, before) == text


def test_the_card_compares_with_the_time_before() -> None:
    """With its length in words; it says where there was nothing, or only a part of it."""
    shown = texts(money_cards(OVERVIEW, asked()))
    assert shown[:3] == ["Spend", "$0.750", "plus 2 of unknown price; +50 % against the 3 hours before"]
    assert shown[shown.index("Requests") + 2] == "−9 % against the 3 hours before"
    partly = replace(OVERVIEW, first_request_s=WINDOW.start_s - HOUR_S)
    assert change_text(0.75, 0.5, partly, asked()).endswith("before, which have data in a part only")
    whole = replace(OVERVIEW, first_request_s=WINDOW.start_s - 4 * HOUR_S)
    assert change_text(0.75, 0.5, whole, asked()) == "+50 % against the 3 hours before"
    assert change_text(0.75, 0.0, Overview(), asked()) == "no data in the 3 hours before"
    assert change_text(0.75, 0.0, replace(OVERVIEW, before=Spend(0.0, 0, 5)), asked()) == "0 in the 3 hours before"


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (window_from_url("?range=1h", NOON_S + 17.0), "1 hour"),
        (window_from_url("?range=30d", NOON_S + 17.0), "30 days"),
        (Window(AUTO, NOON_S - 30.0, NOON_S, 5), "30 seconds"),
        (Window(CUSTOM, NOON_S - 90 * 60.0, NOON_S, 60), "90 minutes"),
        (Window(CUSTOM, NOON_S - 9 * DAY_S, NOON_S, DAY_S), "9 days"),
    ],
    ids=["an hour", "a month", "seconds", "minutes", "days"],
)
def test_ranges_have_a_length_in_words(window: Window, text: str) -> None:
    """The name of a range, or about how long a window is."""
    assert duration(window) == text


@pytest.mark.parametrize(
    ("zone", "at", "start", "end"),
    [
        ("UTC", "2027-01-15T12:00:00", "2027-01-01T00:00:00", "2027-02-01T00:00:00"),
        ("UTC", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("Asia/Kolkata", "2027-01-31T20:00:00", "2027-01-31T18:30:00", "2027-02-28T18:30:00"),
        ("Europe/Berlin", "2027-03-30T12:00:00", "2027-02-28T23:00:00", "2027-03-31T22:00:00"),
    ],
)
def test_months_are_those_of_the_viewers_calendar(zone: str, at: str, start: str, end: str) -> None:
    """From midnight to midnight on the clocks there, also where these are changed within."""
    bounds = month_bounds(datetime.fromisoformat(f"{at}+00:00").timestamp(), zone_named(zone))
    assert [datetime.fromtimestamp(one, UTC).isoformat() for one in bounds] == [f"{start}+00:00", f"{end}+00:00"]


def test_the_forecast_adds_the_mean_of_recent_days() -> None:
    """What was spent, and for the days that are left as much as on a recent day; too few days make none."""
    assert forecast_usd(MonthSpend(Spend(10.0), Spend(7.0), 7.0), 16.5) == 26.5
    assert forecast_usd(MonthSpend(Spend(10.0), Spend(3.0), 1.5), 2.0) == 14.0
    assert forecast_usd(MonthSpend(Spend(10.0), Spend(7.0), 0.9), 16.5) is None


@pytest.mark.parametrize(
    ("month", "shown"),
    [
        (
            MonthSpend(Spend(10.0), Spend(7.0), 7.0),
            ["Forecast for January", "$26.50", "$10.00 so far, then $1.00 a day (mean of the last 7) for 16.5 days"],
        ),
        (
            MonthSpend(Spend(8.0, 3), Spend(3.0), 1.5),
            ["Forecast for January", "$41.00", f"$8.00 so far, then $2.00 a day ({SHORT}) for 16.5 days; {LEFT_OUT}"],
        ),
        (
            MonthSpend(Spend(10.0), Spend(7.0), 0.5),
            [
                "Forecast for January",
                UNKNOWN,
                "$10.00 so far: too little for a forecast, which needs a day of use",
            ],
        ),
        (None, ["Forecast for January", UNKNOWN, "no request yet"]),
    ],
    ids=["a week", "a day and a half", "half a day", "nothing"],
)
def test_the_forecast_says_how_it_is_reckoned(month: MonthSpend | None, shown: list[str]) -> None:
    """Or why there is none."""
    assert texts(forecast_card(month, NOON_S, UTC_ZONE)) == shown


def test_only_known_dimensions_are_asked_for() -> None:
    """Whatever a crafted URL says; the month begins in the viewer's zone."""
    assert spend_question(asked("?by=password")).by == "model"
    question = spend_question(asked("?by=key", zone=zone_named("Asia/Kolkata")))
    assert question.by == "key"
    assert question.month == (month_bounds(NOON_S, zone_named("Asia/Kolkata"))[0], NOON_S)
