"""Explore, Requests and Models of the analytics site: pure functions of rows, and the URL."""

import itertools
import json
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.frame.figures import COLORS, DASHES, HATCHES, MARKERS, MOST_SERIES
from dashboard.frame.filters import Control, of_list, of_names, of_whose, shown_name
from dashboard.frame.formats import format_tokens, format_value
from dashboard.frame.grids import definitions
from dashboard.frame.page_frame import Asked
from dashboard.frame.ranges import CUSTOM, Window
from dashboard.frame.urls import query
from dashboard.frame.zones import DAY_S, HOUR_S, UTC_ZONE
from dashboard.pages.explore import (
    MOST_BUCKETS,
    bucket_of,
    bucket_starts,
    csv_table,
    figure,
    grid_rows,
    question_of,
    shown,
    span_of,
    what,
)
from dashboard.pages.models import format_price, price_source
from dashboard.pages.requests import COLUMNS, CSV_ROWS, GRID_ROWS, SHOWN, count_text, grid_row, outcome
from dashboard.pages.requests import csv_table as requests_csv
from modelpilot.metrics.explore import DIRECT, METRICS, MOST_GROUPS, Answer, Cell, Value
from modelpilot.metrics.overview import NO_MODEL
from modelpilot.metrics.requests import LoggedRequest, RequestFilter
from modelpilot.metrics.use import DeploymentUse, Price

START_S = 1_800_010_800.0  # 2027-01-15 11:00:00 UTC, a Friday
WINDOW = Window(CUSTOM, START_S, START_S + 3 * HOUR_S, HOUR_S)
REQUEST = LoggedRequest(
    "u1", "r/1", START_S, None, "", "", "completed", False, 812.0, None, 2.1, None, 12_000, 34, "chat", None, 2, True
)


def asked(search: str = "", window: Window = WINDOW) -> Asked:
    """What a visitor asks for."""
    return Asked(search, window, window.scope("u1"), UTC_ZONE, query(search), window.end_s)


def view_of(cells: list[Cell], metric: str = "requests", by: str = "model", search: str = "") -> Any:
    """The page's view of these cells."""
    question = question_of(asked(search), metric, by, "hour")
    return shown(Answer(tuple(cells), HOUR_S), question, asked(search), "hour")


def cell(group: str, hour: int, requests: int, value: float | None = None) -> Cell:
    """A cell of an hour; its value is the count unless given."""
    return Cell(group, START_S + hour * HOUR_S, requests, (Value(float(requests) if value is None else value),))


CELLS = [cell("a", 0, 3), cell("a", 2, 1), cell("b", 1, 2), cell("", 1, 5)]


def test_filters_of_a_url() -> None:
    """Every filter of the list has its name in the URL, and what has no name has a word for it."""
    values = query("?router=(direct)&model=m&provider=p&status=failed&type=code&fallback=yes&requestId=r1")
    assert of_list(values) == RequestFilter("", "m", "p", "failed", "code", True, "r1")
    assert of_names(values) == RequestFilter("", "m", "p")
    assert of_list(query("?model=(none)&fallback=no")) == RequestFilter(model="", fallback=False)
    assert of_list(query("?fallback=perhaps")) == RequestFilter()
    whose = query("?user=ann&key=k1&session=(none)&purpose=judge&tag=team%3Dred%26x%2520y%3D")
    asked_for = RequestFilter(end_user="ann", key="k1", session="", purpose="judge", tags={"team": "red", "x y": ""})
    assert of_list(whose) == of_whose(whose) == asked_for
    assert (shown_name("router", ""), shown_name("model", ""), shown_name("model", "x")) == (DIRECT, NO_MODEL, "x")


def test_controls_fall_back_to_their_default() -> None:
    """A link may be older than this version: an unknown choice is the default, a text is anything."""
    choice = Control("metric", "Metric", (("requests", "Requests"), ("cost", "Cost")), default="requests")
    assert [choice.value(search) for search in ("", "?metric=cost", "?metric=gone")] == ["requests", "cost", "requests"]
    assert Control("requestId", "Id").value("?requestId=x%2Fy") == "x/y"


@pytest.mark.parametrize(
    ("width", "span_s", "bucket_s"),
    [
        ("auto", HOUR_S, 60),
        ("auto", DAY_S, 900),
        ("auto", 7 * DAY_S, 3 * HOUR_S),
        ("auto", 90 * DAY_S, DAY_S),
        ("hour", 7 * DAY_S, HOUR_S),
        ("5min", DAY_S, 300),
        ("5min", 7 * DAY_S, 1_800),
        ("week", HOUR_S, 7 * DAY_S),
        ("hour", 3_660 * DAY_S, 7 * DAY_S),
        ("nonsense", DAY_S, 900),
    ],
)
def test_steps_fit_the_range(width: str, span_s: float, bucket_s: int) -> None:
    """A chosen step is kept as long as it makes no thousands of points."""
    assert bucket_of(width, span_s) == bucket_s
    assert bucket_s == 7 * DAY_S or span_s / bucket_s <= MOST_BUCKETS


def test_weeks_begin_on_monday() -> None:
    """Not on Thursday, as those of Unix time would."""
    (start, *_) = bucket_starts(Window(CUSTOM, START_S, START_S + DAY_S, 7 * DAY_S))
    assert UTC_ZONE.local(start).strftime("%A %H:%M") == "Monday 00:00"


@given(st.floats(0, 4e9), st.floats(60.0, 60 * DAY_S), st.sampled_from([300, HOUR_S, 3 * HOUR_S, DAY_S, 7 * DAY_S]))
def test_buckets_cover_the_window(start_s: float, span_s: float, width_s: int) -> None:
    """Every moment of a window is in one of its buckets, and links of two buckets never share a request."""
    window = Window(CUSTOM, start_s, start_s + span_s, width_s)
    starts = bucket_starts(window)
    assert starts[0] <= start_s
    assert starts[-1] < start_s + span_s <= starts[-1] + width_s
    spans = [span_of(window, start) for start in starts]
    assert all(begin < end for begin, end in spans)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))
    assert (spans[0][0], spans[-1][1]) == (start_s, start_s + span_s)


def test_points_lead_to_their_requests() -> None:
    """A click keeps the filters and the viewer, narrows to the group, and has the bucket's times."""
    view = view_of(CELLS, search="?as=u1&router=demo&model=a")
    (data, *_) = (trace.customdata for trace in figure(view, asked("?as=u1&router=demo&model=a")).data)
    link = urlsplit(data[0][-1])
    assert link.path == "/requests"
    assert parse_qs(link.query) == {
        "as": ["u1"],
        "router": ["demo"],
        "model": [NO_MODEL],  # the largest group is that without a name
        "from": ["2027-01-15T11:00:00Z"],
        "to": ["2027-01-15T12:00:00Z"],
    }


@pytest.mark.parametrize(
    ("by", "group", "narrowed"),
    [
        ("user", "ann", {"user": ["ann"], "tag": ["team=red"]}),
        ("key", "key_1", {"key": ["key_1"], "tag": ["team=red"]}),
        ("session", "", {"session": [NO_MODEL], "tag": ["team=red"]}),
        ("purpose", "judge", {"purpose": ["judge"], "tag": ["team=red"]}),
        ("tag.customer", "é & co", {"tag": ["team=red&customer=%C3%A9+%26+co"]}),
        ("tag.customer", "", {"tag": ["team=red&customer="]}),
    ],
)
def test_points_lead_to_whose_requests_they_are(by: str, group: str, narrowed: dict[str, list[str]]) -> None:
    """All filters go along, and the group among them; the list asks for exactly those requests."""
    search = "?tag=team%3Dred&model=a"
    view = shown(
        Answer((cell(group, 0, 1),), HOUR_S), question_of(asked(search), "cost", by, "hour"), asked(search), "hour"
    )
    (row,) = grid_rows(view, asked(search))
    found = parse_qs(urlsplit(row["time"]["href"]).query)
    assert {name: said for name, said in found.items() if name not in ("from", "to")} == {"model": ["a"], **narrowed}
    wanted = of_list(query("?" + urlsplit(row["time"]["href"]).query))
    field = {"user": "end_user", "key": "key", "session": "session", "purpose": "purpose"}.get(by)
    assert group == (getattr(wanted, field) if field else (wanted.tags or {})["customer"])


def test_all_other_groups_come_last_and_lead_nowhere() -> None:
    """No list has exactly them; keys go by their names."""
    cells = (cell("(other)", 0, 9), cell("k1", 0, 2), cell("k2", 0, 3))
    question = question_of(asked(), "requests", "key", "hour")
    view = shown(Answer(cells, HOUR_S, labels={"k1": "One"}), question, asked(), "hour")
    rows = grid_rows(view, asked())
    assert [(row["group"], bool(row["time"]["href"])) for row in rows] == [
        ("k2", True),
        ("One", True),
        ("(other)", False),
    ]
    assert "(other) are the groups with fewer requests" in what(view)


def test_nothing_is_drawn_where_nothing_was() -> None:
    """No bar and a gap in the line: no requests are not a latency of nothing."""
    bars = {trace.name: list(trace.y) for trace in figure(view_of(CELLS), asked()).data}
    assert bars == {NO_MODEL: [None, 5, None], "a": [3, None, 1], "b": [None, 2, None]}
    lines = {trace.name: list(trace.y) for trace in figure(view_of(CELLS, "p95"), asked()).data}
    assert lines["a"] == [3, None, 1]


@pytest.mark.parametrize("metric", [metric.key for metric in METRICS])
def test_chart_grid_and_csv_have_the_same_numbers(metric: str) -> None:
    """All three are made of the same cells, in the same order."""
    view = view_of([replace(one, values=(Value(0.1234),)) for one in CELLS], metric)
    grid, (columns, rows) = grid_rows(view, asked()), csv_table(view)
    listed = list(rows)
    assert len(columns) == len(listed[0])
    assert [(one["group"], one["requests"], one["value"]) for one in grid] == [
        (row[2], str(row[3]), format_value(row[4], view.metric.unit)) for row in listed
    ]
    drawn = sum(1 for trace in figure(view, asked()).data for value in trace.y if value)
    assert drawn == len(grid) == len(CELLS)


def test_axes_have_a_unit() -> None:
    """Every metric says on its axis what it counts."""
    for metric in METRICS:
        made = figure(view_of(CELLS, metric.key), asked())
        assert made.layout.yaxis.title.text
        assert made.layout.xaxis.title.text == "time (UTC)"


def test_what_is_left_out_is_said() -> None:
    """Small groups, averaged and sampled percentiles and widened steps are named in words."""
    many = [cell(f"m{index:02}", 0, 100 - index) for index in range(MOST_GROUPS + 3)]
    question = question_of(asked(), "p95", "model", "5min")
    view = shown(Answer(tuple(many), HOUR_S, averaged=True, sampled=1_234), question, asked(), "5min")
    said = what(view)
    assert "a sample of 1,234" in said
    assert "3 smaller groups are left out" in said
    assert "weighted by completed requests" in said
    assert "Narrower steps" in said
    assert len(figure(view, asked()).data) == MOST_SERIES
    assert len(grid_rows(view, asked())) == MOST_GROUPS


def test_unknown_questions_are_the_default() -> None:
    """Whatever a crafted URL says, only known metrics and groups reach the database."""
    question = question_of(asked(), "1; DROP TABLE", "password", "never")
    assert (question.metrics, question.group, question.bucket_s) == (("requests",), "none", 300)


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2)."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["#ffffff", "#242424", "#2e2e2e"])
def test_series_are_seen_on_both_grounds(ground: str) -> None:
    """Each colour has 3:1 against the light and the dark surface, and none is told apart by colour alone."""
    for color in COLORS:
        bright, dark = sorted((luminance(color), luminance(ground)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= (3.0 if ground != "#2e2e2e" else 2.7)
    assert len(COLORS) == len(set(HATCHES)) == len(set(MARKERS)) == len(DASHES) == MOST_SERIES


@pytest.mark.parametrize(
    ("tokens", "text"),
    [(0, "0"), (9_999, "9,999"), (12_345, "12.3 k"), (999_999, "1 M"), (1_234_567, "1.23 M"), (10**10, "10,000 M")],
)
def test_tokens_are_short(tokens: int, text: str) -> None:
    """Large counts have k and M."""
    assert format_tokens(tokens) == text


def test_prices() -> None:
    """What nobody knows is not free."""
    assert format_price(Price("m", "", 2.5e-6, None, "s")) == "$2.50 / unknown"
    assert format_price(Price("m", "", None, None, "s")) == format_price(None) == "unknown"
    day = date(2027, 1, 14)
    assert price_source(Price("m", "", 1.0, 1.0, "genai-prices 1", day)) == "2027-01-14, genai-prices 1"
    assert price_source(Price("m", "", 1.0, 1.0, "genai-prices 1")) == "date unknown, genai-prices 1"
    assert price_source(Price("m", "u1", 1.0, 1.0, "", day)) == "2027-01-14, u1's own"
    assert price_source(None) == "not in the catalogue"


def test_rows_of_the_list() -> None:
    """Unknown is a dash, a row without names says so, and the first cell leads to the request with its owner."""
    row = grid_row(REQUEST, UTC_ZONE, "?range=7d&model=x")
    assert row["created_at"]["href"] == "/requests/detail?range=7d&id=r%2F1&owner=u1"
    assert (row["router_id"], row["model"], row["cost_usd"], row["ttft_ms"]) == (DIRECT, NO_MODEL, "–", "–")
    assert (row["input_tokens"], row["fallback_used"]) == ("12 k", "yes")
    assert outcome(REQUEST) == "completed, truncated"
    assert str(GRID_ROWS) not in count_text(12)
    assert f"{CSV_ROWS:,}" in count_text(CSV_ROWS + 1)


def test_the_list_shows_for_whom_and_what_fits() -> None:
    """Key, end user, session, tags and purpose can be shown; by default no more than a screen of 1440 px is wide."""
    tags = {"team": "b", "customer": "acme"}
    known = replace(REQUEST, end_user="ann", api_key_id="key_1", session_id="s1", tags=tags)
    row = grid_row(known, UTC_ZONE, "")
    told = ("end_user", "key_name", "session_id", "purpose", "tags")
    assert [row[name] for name in told] == ["ann", "key_1", "s1", "request", "customer: acme, team: b"]
    assert grid_row(replace(REQUEST, key_name="batch", api_key_id="key_1"), UTC_ZONE, "")["key_name"] == "batch"
    assert {one.field for one in COLUMNS} == set(row)
    hidden = {one["field"] for one in definitions(COLUMNS, SHOWN) if one["hide"]}
    assert hidden == {one.field for one in COLUMNS} - set(SHOWN)
    # The window less the navigation, the margins and a scroll bar.
    assert sum(one.width_px for one in COLUMNS if one.field in SHOWN) <= 1_440 - 200 - 48 - 20


def test_the_csv_has_every_column_of_the_list() -> None:
    """Also those that are not shown, under their own names."""
    columns, rows = requests_csv([replace(REQUEST, tags={"team": "b"}, degraded=("vector", "temporal"))])
    (row,) = rows
    found = dict(zip(columns, row, strict=True))
    assert {one.field for one in COLUMNS} <= set(columns)
    assert (found["tags"], found["degraded"], found["purpose"]) == ("team: b", "vector temporal", "request")


@pytest.mark.parametrize(
    ("use", "health"),
    [
        ({}, "idle"),
        ({"recent_calls": 100}, "healthy"),
        ({"recent_calls": 100, "recent_errors": 5}, "troubled"),
        ({"recent_calls": 100, "recent_errors": 1, "recent_rate_limited": 1}, "rate limited"),
        ({"recent_calls": 4, "recent_errors": 2}, "failing"),
        ({"recent_calls": 4, "recent_errors": 4, "recent_rate_limited": 4}, "rate limited"),
        ({"recent_calls": 1, "recent_errors": 1}, "troubled"),
        ({"recent_calls": 9, "recent_errors": 9, "recent_refused": 9, "last_error": "authentication"}, "key refused"),
        ({"recent_calls": 9, "recent_errors": 1, "recent_refused": 1}, "troubled"),
    ],
)
def test_health_of_a_deployment(use: dict[str, Any], health: str) -> None:
    """The worst that the last hour shows; a refused key is forgiven with the next good call."""
    assert DeploymentUse("m", "p", "p/m", **use).health == health


def test_rows_are_json() -> None:
    """What goes into a grid is what a browser can be sent."""
    assert json.dumps([grid_row(REQUEST, UTC_ZONE, ""), *grid_rows(view_of(CELLS), asked())])
