"""The calendar of a page: days of the visitor's zone, kept in the URL as moments."""

from collections.abc import Mapping
from typing import Any

import pytest

from dashboard.frame.page_frame import ZONE
from dashboard.frame.ranges import days_in_url, search_for_days, window_from_url
from dashboard.frame.zones import UTC_ZONE, zone_named
from dashboard.pages.overview import FRAME
from modelpilot.metrics.overview import Overview
from tests.support.site import NOW_S, call, site

RANGE, DAYS, URL = FRAME.id("range"), FRAME.id("days-target"), FRAME.id("url")
KOLKATA = zone_named("Asia/Kolkata")
JANUARY_14 = "?from=2027-01-14T00%3A00%3A00Z&to=2027-01-15T00%3A00%3A00Z"


@pytest.mark.parametrize(
    ("zone", "days", "search"),
    [
        ("UTC", ["2027-01-14", "2027-01-14"], JANUARY_14),
        ("Asia/Kolkata", ["2027-01-14", "2027-01-14"], "?from=2027-01-13T18%3A30%3A00Z&to=2027-01-14T18%3A30%3A00Z"),
        ("UTC", ["2026-12-31", "2027-01-02"], "?from=2026-12-31T00%3A00%3A00Z&to=2027-01-03T00%3A00%3A00Z"),
        # The last Sunday of October has 25 hours.
        ("Europe/Berlin", ["2026-10-25", "2026-10-25"], "?from=2026-10-24T22%3A00%3A00Z&to=2026-10-25T23%3A00%3A00Z"),
    ],
)
def test_days_are_whole_in_the_visitors_zone(zone: str, days: list[str], search: str) -> None:
    """Both days count, from midnight to midnight as clocks there show it, and the URL shows the same days again."""
    assert search_for_days("", days, zone_named(zone)) == search
    assert days_in_url(search, zone_named(zone)) == days


def test_days_replace_the_range_and_nothing_else() -> None:
    """Filters and viewer stay."""
    found = search_for_days("?range=7d&model=m&as=u1", ["2027-01-14", "2027-01-14"], UTC_ZONE)
    assert found == "?model=m&as=u1&" + JANUARY_14.removeprefix("?")


@pytest.mark.parametrize(
    "days", [None, [], [None, None], ["2027-01-14", None], ["x", "y"], ["2027-01-14"], ["9999-12-31"] * 2]
)
def test_half_a_choice_changes_nothing(days: Any) -> None:
    """The first of two clicks is no range yet, and neither is what no calendar says."""
    assert search_for_days("?range=7d", days, UTC_ZONE) is None


def test_a_bar_shows_the_day_that_it_is_in() -> None:
    """A window of minutes touches a day, or two in another zone; a range that ends now shows no days."""
    search = "?from=2027-01-14T18:00:00Z&to=2027-01-14T19:00:00Z"
    assert days_in_url(search, UTC_ZONE) == ["2027-01-14", "2027-01-14"]
    assert days_in_url(search, KOLKATA) == ["2027-01-14", "2027-01-15"]
    assert days_in_url("?range=7d", UTC_ZONE) == []


def test_today_ends_now() -> None:
    """The hours to come are no part of it; a window in the future stays as it was asked for."""
    today = search_for_days("", ["2027-01-15", "2027-01-15"], UTC_ZONE)
    assert window_from_url(today, NOW_S).end_s == NOW_S
    tomorrow = search_for_days("", ["2027-01-16", "2027-01-16"], UTC_ZONE)
    assert window_from_url(tomorrow, NOW_S).end_s == NOW_S + 36 * 3_600.0


def _changed(control: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return call(site(Overview())[0], RANGE, {URL: "", RANGE: "24h", DAYS: [], ZONE: "UTC", **values}, control)


def test_the_calendar_writes_the_url_and_the_url_sets_it() -> None:
    """A choice is in the URL, the ranges say that none of them counts, and a range takes the days away again."""
    days = ["2027-01-14", "2027-01-14"]
    chosen = _changed(DAYS, {DAYS: days})
    assert chosen[URL] == {"search": JANUARY_14}
    assert (chosen[RANGE]["value"], chosen[DAYS]["value"]) == ("custom", days)
    assert _changed(DAYS, {DAYS: days, RANGE: "custom", URL: JANUARY_14}) == {"sideUpdate": None}
    ranged = _changed(RANGE, {DAYS: days, RANGE: "7d", URL: JANUARY_14})
    assert (ranged[URL], ranged[DAYS]["value"]) == ({"search": "?range=7d"}, [])


def test_the_first_click_does_not_end_the_choice() -> None:
    """The page waits for the last day instead of taking the first one away."""
    assert _changed(DAYS, {DAYS: ["2027-01-14", None]}) == {"sideUpdate": None}


def test_a_choice_that_is_given_up_shows_what_counts() -> None:
    """A calendar closed after one click is empty: it gets the days of the URL again, and the URL stays."""
    closed = _changed(DAYS, {DAYS: [None, None], RANGE: "custom", URL: JANUARY_14})
    assert (closed[DAYS]["value"], URL in closed) == (["2027-01-14", "2027-01-14"], False)


def test_another_zone_shows_other_days_of_the_same_time() -> None:
    """The switch between UTC and local time changes no figure, so the URL stays."""
    switched = _changed(ZONE, {ZONE: "Asia/Kolkata", URL: JANUARY_14, RANGE: "custom", DAYS: ["2027-01-14"] * 2})
    assert switched[DAYS]["value"] == ["2027-01-14", "2027-01-15"]
    assert URL not in switched
