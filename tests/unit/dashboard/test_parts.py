"""Time zones, query strings, CSV and grids of the analytics site: pure functions."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.frame.filters import KEY, MODEL, TAGS, Control, options
from dashboard.frame.grids import Column, RowsAsked, fitting, rows_asked
from dashboard.frame.tables import csv_text, safe_cell
from dashboard.frame.urls import link, query, search_with
from dashboard.frame.zones import UTC_ZONE, time_ticks, zone_named
from dashboard.pages.frontier import OBSERVED, PREDICTED, label_places, plane, points
from modelpilot.learning.replay.estimates import Interval
from modelpilot.learning.replay.frontier import Frontier, ModelPoint, Point
from modelpilot.metrics.overview import Choices

BERLIN = zone_named("Europe/Berlin")
COLUMNS = (Column("time", "Time", sortable=True), Column("model", "Model"))


def seconds(text: str) -> float:
    """ISO 8601 in UTC → Unix seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_unknown_zones_are_utc() -> None:
    """What a browser sends is no path and no promise."""
    for name in (None, "", "Nowhere/City", "../../etc/passwd", "/etc/passwd", 7, "Europe"):
        assert zone_named(name) == UTC_ZONE


def test_the_hour_that_comes_twice_is_told_apart() -> None:
    """When clocks go back, both hours have a place of their own on the axis and in words."""
    start, end = seconds("2027-10-30T22:00:00"), seconds("2027-10-31T23:00:00")  # a local day of 25 hours
    places, texts = time_ticks(start, end, BERLIN)
    assert [(one.hour, text) for one, text in zip(places, texts, strict=True)] == [
        (22, "Oct 31<br>00:00"),
        (5, "Oct 31<br>06:00"),
        (11, "Oct 31<br>12:00"),
        (17, "Oct 31<br>18:00"),
        (23, "Nov 01<br>00:00"),
    ]
    assert BERLIN.span(seconds("2027-10-31T00:00:00"), seconds("2027-10-31T00:30:00")) == "Oct 31 02:00 to 02:30 CEST"
    assert BERLIN.span(seconds("2027-10-31T01:00:00"), seconds("2027-10-31T01:30:00")) == "Oct 31 02:00 to 02:30 CET"


def test_long_axes_have_days() -> None:
    """A quarter has dates at local midnight, a few of them."""
    places, texts = time_ticks(seconds("2027-01-01T00:00:00"), seconds("2027-04-01T00:00:00"), BERLIN)
    assert texts == ["Jan 02", "Feb 01", "Mar 03"]
    assert {one.hour for one in places} == {23}


@given(st.floats(0, 4e9), st.floats(60.0, 400 * 86_400.0))
def test_axes_are_never_crowded(start_s: float, span_s: float) -> None:
    """Whatever the range, its ticks lie inside of it and are at most seven."""
    places, texts = time_ticks(start_s, start_s + span_s, BERLIN)
    assert len(places) == len(texts) <= 7
    assert all(start_s <= place.timestamp() <= start_s + span_s for place in places)


def test_query_strings_are_merged() -> None:
    """Changing one filter leaves the others; empty ones disappear."""
    assert search_with("?a=1&b=2", {"b": None, "c": "x y"}) == "?a=1&c=x+y"
    assert search_with("?a=1", {"a": ""}) == ""
    assert query("?a=1&a=2&b=") == {"a": "2"}
    assert link("/x", "?range=1h&as=u&model=m") == "/x?range=1h&as=u"


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)))
def test_any_value_survives_the_url(values: dict[str, str]) -> None:
    """Names of models and routers may hold whatever they like."""
    assert query(search_with("", dict(values))) == values


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n@x"])
def test_formulas_do_not_leave_the_site(cell: str) -> None:
    """A spreadsheet would run a cell that begins like a formula; names come from clients."""
    assert safe_cell(cell) == f"'{cell}"


def test_csv_keeps_numbers_and_quotes() -> None:
    """Negative numbers stay numbers, and quotes, commas and line ends come back as they were."""
    rows = [(-1.5, 'a "b", c\nd', None), (3, "plain", "")]
    read = list(csv.reader(io.StringIO(csv_text(("x", "y", "z"), rows), newline="")))
    assert read == [["x", "y", "z"], ["-1.5", 'a "b", c\nd', ""], ["3", "plain", ""]]


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        ({"startRow": 100, "endRow": 200, "sortModel": []}, RowsAsked(100, 200)),
        ({"startRow": 0, "endRow": 9, "sortModel": [{"colId": "time", "sort": "desc"}]}, RowsAsked(0, 9, "time", True)),
        ({"startRow": 0, "endRow": 9, "sortModel": [{"colId": "model", "sort": "asc"}]}, RowsAsked(0, 9)),
        ({"startRow": 0, "endRow": 9, "sortModel": [{"colId": "1; DROP", "sort": "asc"}]}, RowsAsked(0, 9)),
        ({"startRow": -5, "endRow": 10**9}, RowsAsked(0, 1_000)),
        ({"startRow": 50, "endRow": 10}, RowsAsked(50, 50)),
        ({}, RowsAsked(0, 0)),
    ],
)
def test_crafted_requests_of_a_grid_stay_in_bounds(request_: dict[str, Any], asked: RowsAsked) -> None:
    """Neither the number of rows nor the column to sort by is the browser's to choose freely."""
    assert rows_asked(request_, COLUMNS) == asked


def test_a_filter_always_offers_what_is_chosen() -> None:
    """A model that has no requests any more can still be seen, and cleared, in its filter."""
    offered = options(MODEL, Choices(models=("a", "b")), "gone")
    assert [one["value"] for one in offered] == ["a", "b", "gone"]


def test_whose_filters_offer_names() -> None:
    """Keys by their names and tags in words, with ids and values in the URL; groups by any tag of a link."""
    known = Choices(keys=(("k1", "One"),), tags=("team",), tag_values=(("team", "a&b"),))
    assert options(KEY, known, "k2") == [{"value": "k1", "label": "One"}, {"value": "k2", "label": "k2"}]
    assert options(TAGS, known, "team=x&run=") == [
        {"value": "team=a%26b", "label": "team: a&b"},
        {"value": "team=x&run=", "label": "team: x, run: (none)"},
    ]
    group = Control("by", "Group by", (("none", "All"),), default="none", tags=True)
    assert [group.value(search) for search in ("?by=tag.run", "?by=tag.", "?by=run")] == ["tag.run", "none", "none"]
    assert [one["value"] for one in group.options(known, "tag.run")] == ["none", "tag.team", "tag.run"]


@pytest.mark.parametrize(("rows", "height"), [(0, "122px"), (5, "224px"), (1_000, "420px")])
def test_a_small_grid_leaves_no_empty_space(rows: int, height: str) -> None:
    """It is as tall as its rows, and scrolls from a height on."""
    assert fitting(rows)["height"] == height


def plane_of(*places: tuple[float, float], measured: float | None = None) -> Frontier:
    """Models m0, m1 … as predicted at these costs and qualities, which might be off by a tenth; the first one also as
    measured."""

    def point(cost: float, quality: float) -> Point:
        return Point(Interval(cost, 0.9 * cost, 1.1 * cost, 20), Interval(quality, quality - 0.1, quality + 0.1, 20))

    observed = [None if measured is None else point(places[0][0], measured), *[None] * len(places)]
    models = [ModelPoint(f"m{n}", point(*at), observed[n], 20, 20) for n, at in enumerate(places)]
    return Frontier(20, 0, tuple(models))


def test_each_name_stands_once_and_over_nothing() -> None:
    """A model's predicted and measured point may be close: one name is enough, and it takes a place that is free."""
    found = plane_of((0.001, 0.5), (0.001, 0.52), (0.002, 0.9), measured=0.48)
    places = label_places(points(found))
    assert [(row.name, row.kind) for row in places] == [("m0", PREDICTED), ("m1", PREDICTED), ("m2", PREDICTED)]
    drawn = [(one.text, one.ax, one.ay) for one in plane(found).layout.annotations]
    assert drawn == [(row.name, *place) for row, place in places.items()]


def test_names_without_room_are_left_to_the_table() -> None:
    """Of fifty models at one place, as many names are drawn as fit around it; no two take the same place."""
    places = label_places(points(plane_of(*[(0.001, 0.5)] * 50)))
    assert 5 <= len(places) == len(set(places.values())) < 50


@pytest.mark.parametrize("place", [(0.0, 0.5), (0.001, 0.0), (0.001, 1.0)], ids=["left", "bottom", "top"])
def test_names_stay_on_the_plane(place: tuple[float, float]) -> None:
    """Also at the axes, whose numbers they would cover."""
    found = plane_of(place, (0.002, 0.5))
    (right_px, down_px), *_ = label_places(points(found)).values()
    assert right_px > 0.0 or place[0] > 0.0
    assert down_px < 0.0 or place[1] > 0.0


def test_intervals_lie_behind_the_points() -> None:
    """Faint lines without caps, drawn before every point, so that long ones bury nothing."""
    drawn = plane(plane_of((0.001, 0.5), (0.002, 0.9))).data
    last_bar = max(place for place, trace in enumerate(drawn) if trace.error_x.array is not None)
    first_point = min(place for place, trace in enumerate(drawn) if trace.name in (PREDICTED, OBSERVED))
    assert last_bar < first_point
    bars = [trace for trace in drawn if trace.error_x.array is not None]
    assert {(one.error_x.width, one.error_y.width, one.hoverinfo) for one in bars} == {(0, 0, "skip")}
    assert all(",0.35)" in one.error_x.color for one in bars)
    assert list(bars[0].error_y.arrayminus) == pytest.approx([0.1, 0.1])
