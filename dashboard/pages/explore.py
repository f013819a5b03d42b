"""The Explore page: a metric by group and time, as a chart, as a grid and as CSV, which all show the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Output

from dashboard.frame.elements import Element, chart, no_requests_notice, panel
from dashboard.frame.figures import MOST_SERIES, bar_marker, dressed, line_style, on_time_axis
from dashboard.frame.filters import (
    MODEL,
    PROVIDER,
    ROUTER,
    SESSION,
    TAGS,
    WHOSE,
    Control,
    of_whose,
    shown_name,
    tag_of,
    tags_from_url,
    tags_in_url,
)
from dashboard.frame.formats import AXES, format_count, format_value, unit_in_csv, utc
from dashboard.frame.grids import Column, fitting, link_cell, local_grid
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.ranges import CUSTOM, Window
from dashboard.frame.tables import Table, csv_button, register_csv
from dashboard.frame.urls import moment_in_url, query, requests_link
from dashboard.frame.zones import DAY_S, HOUR_S, MINUTE_S
from modelpilot.metrics.dimensions import OTHER
from modelpilot.metrics.explore import (
    METRIC_OF,
    METRICS,
    MOST_GROUPS,
    UNBOUNDED,
    Answer,
    Cell,
    GroupBy,
    Metric,
    Question,
)

WEEK_S = 7 * DAY_S
GROUPS: dict[GroupBy, str] = {
    "none": "all requests",
    "model": "model",
    "provider": "provider",
    "router": "router",
    "type": "request type",
    "purpose": "purpose",
    "user": "end user",
    "key": "API key",
    "session": "session",
}
AUTO = "auto"
WIDTHS = {AUTO: 0, "5min": 5 * MINUTE_S, "hour": HOUR_S, "day": DAY_S, "week": WEEK_S}
# Widths of buckets; all but the week divide a day.
STEPS_S = (*(n * MINUTE_S for n in (1, 5, 15, 30)), *(n * HOUR_S for n in (1, 3, 6, 12)), DAY_S, WEEK_S)
WIDTH_NAMES = {MINUTE_S: "minute", HOUR_S: "hour", DAY_S: "day", WEEK_S: "week"}
_MOST_AUTOMATIC, MOST_BUCKETS = 100, 400
_MONDAY_S = 4 * DAY_S  # 1970-01-05: weeks begin there
METRIC = Control("metric", "Metric", tuple((one.key, one.label) for one in METRICS), default="requests")
GROUP = Control(
    "by",
    "Group by",
    tuple((key, label[0].upper() + label[1:]) for key, label in GROUPS.items()),
    default="model",
    tags=True,
)
BUCKET = Control(
    "bucket",
    "Time step",
    ((AUTO, "Automatic"), ("5min", "5 minutes"), ("hour", "Hour"), ("day", "Day (UTC)"), ("week", "Week (UTC)")),
    default=AUTO,
)
CONTROLS = (METRIC, GROUP, BUCKET, SESSION)
COLUMNS = (
    Column("time", "Time", 250, link=True),
    Column("group", "Group", 160, grow=True),
    Column("requests", "Requests", 110, numeric=True),
    Column("value", "Value", 130, numeric=True),
    Column("unknown", "Not known", 110, numeric=True),
)

FRAME = PageFrame("explore", "Explore", (ROUTER, MODEL, PROVIDER, *WHOSE), CONTROLS, skeleton=(360, 320))
CHART = FRAME.id("chart")
GRID = FRAME.id("grid")
WHAT = FRAME.id("what")


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer as the page shows it: `groups` are its largest ones, the largest first; `left_out` are the others.
    `labels` are the names of groups, where these are not their keys."""

    metric: Metric
    group_by: GroupBy
    tag: str
    window: Window  # with the answer's width of buckets
    cells: Mapping[tuple[str, float], Cell]
    groups: tuple[str, ...]
    left_out: int
    averaged: bool
    sampled: int | None
    widened: bool
    labels: Mapping[str, str]

    @property
    def by(self) -> str:
        """What is grouped by, in words."""
        return f"tag {self.tag}" if self.group_by == "tag" else GROUPS[self.group_by]


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    drawn = panel(
        "Over time",
        dmc.Text(id=WHAT, size="sm", c="dimmed", mb="xs"),
        chart("the numbers of the table below over time", id=CHART),
    )
    table = panel(
        "The same numbers",
        dmc.Group(csv_button(FRAME), mb="xs"),
        local_grid(GRID, COLUMNS, "Numbers of the chart"),
    )
    return FRAME.layout(context, search, dmc.Stack([drawn, table]))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    FRAME.follow_points(app, CHART)

    def table(asked: Asked) -> Table:
        return csv_table(_view(context, asked)[1])

    register_csv(app, context, FRAME, "modelpilot-explore.csv", table)

    @FRAME.fills(
        app,
        context,
        Output(CHART, "figure"),
        Output(WHAT, "children"),
        Output(GRID, "rowData"),
        Output(GRID, "style"),
    )
    def fill(asked: Asked) -> Filled:
        answer, view = _view(context, asked)
        rows = grid_rows(view, asked)
        values = (figure(view, asked), what(view), rows, fitting(len(rows)))
        said = None if answer.cells else no_requests_notice(answer.latest_request_s, asked.zone)
        return Filled(values, said, hidden=not answer.cells)


def _view(context: PageContext, asked: Asked) -> tuple[Answer, Shown]:
    metric, group, width = (one.value(asked.search) for one in (METRIC, GROUP, BUCKET))
    question = question_of(asked, metric, group, width)
    answer = context.reader.explore(asked.scope, question)
    return answer, shown(answer, question, asked, width)


PAGE = Page(path="/explore", title="Explore", layout=layout, register=register)


def question_of(asked: Asked, metric: str, group_by: str, width: str) -> Question:
    """What the controls of the page ask for. They hold known values only."""
    tag = tag_of(group_by) or ""
    group: GroupBy = "tag" if tag else next((name for name in GROUPS if name == group_by), "none")
    known = metric if metric in METRIC_OF else METRICS[0].key
    bucket_s = bucket_of(width, asked.window.end_s - asked.window.start_s)
    return Question((known,), group, bucket_s, of_whose(asked.values), tag)


def bucket_of(width: str, span_s: float) -> int:
    """The bucket of this name, or a wider one where it would make too many; the automatic one fits the range."""
    wanted_s = WIDTHS.get(width, 0)
    most = MOST_BUCKETS if wanted_s else _MOST_AUTOMATIC
    return next((one for one in STEPS_S if one >= wanted_s and span_s / one <= most), STEPS_S[-1])


def shown(answer: Answer, question: Question, asked: Asked, width: str) -> Shown:
    """The answer, with the groups that fit on a page."""
    bucket_s = answer.bucket_s or HOUR_S
    sizes: dict[str, int] = {}
    for cell in answer.cells:
        sizes[cell.group] = sizes.get(cell.group, 0) + cell.requests
    groups = sorted(sizes, key=lambda name: (_is_rest(question.group, name), -sizes[name], name))
    return Shown(
        metric=METRIC_OF[question.metrics[0]],
        group_by=question.group,
        tag=question.tag,
        window=replace(asked.window, bucket_s=bucket_s),
        cells={(cell.group, cell.start_s): cell for cell in answer.cells},
        groups=tuple(groups[:MOST_GROUPS]),
        left_out=len(groups[MOST_GROUPS:]),
        averaged=answer.averaged,
        sampled=answer.sampled,
        widened=bucket_s > (WIDTHS.get(width) or bucket_s),
        labels=answer.labels,
    )


def what(view: Shown) -> str:
    """What the numbers are, in a sentence or two."""
    metric, width_s = view.metric, view.window.bucket_s
    by = "" if view.group_by == "none" else f" by {view.by}"
    of = "" if metric.of == "all requests" else f", of {metric.of}"
    sentences = [f"{metric.label}{by}, per {width_name(width_s)}{of}."]
    if view.averaged:
        sentences.append(
            "Too many requests to read one by one: percentiles over several hours, routers or models are means of "
            "hourly percentiles, weighted by completed requests."
        )
    if view.sampled is not None:
        sentences.append(f"Too many requests to sort: percentiles are those of a sample of {view.sampled:,}.")
    if view.widened:
        sentences.append("Narrower steps would be too many for this range.")
    if len(view.groups) > MOST_SERIES:
        sentences.append(f"The chart draws the {MOST_SERIES} groups with most requests.")
    if any(_is_rest(view.group_by, group) for group in view.groups):
        sentences.append(f"{OTHER} are the groups with fewer requests, together; filter to see them.")
    if view.left_out:
        sentences.append(f"{view.left_out} smaller groups are left out; filter to see them.")
    return " ".join(sentences)


def width_name(width_s: int) -> str:
    """`hour`, `15 minutes`, `3 hours`."""
    if width_s in WIDTH_NAMES:
        return WIDTH_NAMES[width_s]
    return f"{width_s // HOUR_S} hours" if width_s >= HOUR_S else f"{width_s // MINUTE_S} minutes"


def figure(view: Shown, asked: Asked) -> go.Figure:
    """Sums as stacked bars, everything else as lines; no bar and a gap where there were no requests."""
    starts = bucket_starts(view.window)
    traces = [_trace(view, asked, index, group, starts) for index, group in enumerate(view.groups[:MOST_SERIES])]
    made = on_time_axis(dressed(go.Figure(traces)), view.window, asked.zone)
    title, form = AXES[view.metric.unit]
    made.update_yaxes(title={"text": title, "standoff": 8}, tickformat=form, rangemode="tozero", nticks=6)
    made.update_xaxes(
        title={"text": f"time ({asked.zone.abbreviation(view.window.end_s)})", "standoff": 8},
        range=[utc(starts[0]), utc(starts[-1] + view.window.bucket_s)],
    )
    made.update_layout(showlegend=len(traces) > 1, legend={"y": -0.28})
    top = max((value.value or 0.0 for cell in view.cells.values() for value in cell.values), default=0.0)
    if view.metric.unit == "requests" and top < 4.0:
        made.update_yaxes(range=[0, 4.4], nticks=5)  # else the axis would show fractions of a request
    return made


def bucket_starts(window: Window) -> list[float]:
    """Where the buckets of a window begin (Unix seconds)."""
    width_s = window.bucket_s
    first = (window.start_s - _MONDAY_S) // width_s * width_s + _MONDAY_S
    count = max(1, int(-(-(window.end_s - first) // width_s)))
    return [first + index * width_s for index in range(count)]


def span_of(window: Window, start_s: float) -> tuple[float, float]:
    """From when to when a bucket's requests began: as far as the window goes."""
    end_s = start_s + window.bucket_s
    # A range that ends now has no requests behind its end, and the URL knows whole seconds only.
    return max(start_s, window.start_s), min(end_s, window.end_s) if window.key == CUSTOM else end_s


def link_of(view: Shown, asked: Asked, group: str, start_s: float) -> str | None:
    """The list of exactly the requests of a cell; None: no list has them, since no filter says "all others"."""
    if _is_rest(view.group_by, group):
        return None
    start, end = (quote(moment_in_url(moment)) for moment in span_of(view.window, start_s))
    return f"{_requests_of(asked.search, view.group_by, view.tag, group)}from={start}&to={end}"


@lru_cache(maxsize=MOST_GROUPS * 8)
def _requests_of(search: str, group_by: GroupBy, tag: str, group: str) -> str:
    """The beginning of the links of a group, which has thousands of them."""
    kept = (ROUTER, MODEL, PROVIDER, SESSION, *WHOSE)
    filters: dict[str, str | None] = {one.name: query(search).get(one.name) for one in kept}
    if group_by == "tag":
        filters[TAGS.name] = tags_in_url({**tags_from_url(filters[TAGS.name]), tag: group})
    elif group_by != "none":
        filters[group_by] = shown_name(group_by, group)
    found = requests_link(search, None, **filters, range=None, from_=None, to=None)
    return f"{found}&" if "?" in found else f"{found}?"


def _is_rest(group_by: GroupBy, group: str) -> bool:
    return group == OTHER and group_by in UNBOUNDED


def grid_rows(view: Shown, asked: Asked) -> list[dict[str, Any]]:
    """The numbers of the chart, the newest first, as texts with a link to the requests behind them."""
    return [
        {
            "time": link_cell(asked.zone.span(*span_of(view.window, start)), link_of(view, asked, group, start)),
            "group": _name(view, group),
            "requests": format_count(cell.requests),
            "value": format_value(cell.values[0].value, view.metric.unit),
            "unknown": format_count(cell.values[0].unknown) if cell.values[0].unknown else "",
        }
        for group, start, cell in _ordered(view)
    ]


def csv_table(view: Shown) -> Table:
    """The rows of the grid in its order, with plain numbers and times in UTC."""
    columns = ("from", "to", view.by, "requests", unit_in_csv(view.metric), "unknown")
    rows = []
    for group, start, cell in _ordered(view):
        begin, end = (moment_in_url(moment) for moment in span_of(view.window, start))
        value = cell.values[0]
        rows.append((begin, end, _name(view, group), cell.requests, value.value, value.unknown))
    return columns, rows


def _ordered(view: Shown) -> list[tuple[str, float, Cell]]:
    found = [(group, start, cell) for (group, start), cell in view.cells.items() if group in view.groups]
    return sorted(found, key=lambda one: (-one[1], view.groups.index(one[0])))


def _name(view: Shown, group: str) -> str:
    return "All requests" if view.group_by == "none" else view.labels.get(group) or shown_name(view.group_by, group)


def _trace(view: Shown, asked: Asked, index: int, group: str, starts: Sequence[float]) -> go.Bar | go.Scatter:
    metric, width_s = view.metric, view.window.bucket_s
    cells = [view.cells.get((group, start)) for start in starts]
    values = [cell.values[0].value if cell else None for cell in cells]
    texts = [format_value(value, metric.unit) for value in values]
    data = [
        (text, asked.zone.span(*span_of(view.window, start)), link_of(view, asked, group, start))
        for text, start in zip(texts, starts, strict=True)
    ]
    shared = {
        "name": _name(view, group),
        "x": [utc(start + width_s / 2.0) for start in starts],
        "y": values,
        "customdata": data,
        "hovertemplate": "%{customdata[0]} %{fullData.name}<br>%{customdata[1]}<extra></extra>",
    }
    if metric.kind == "sum":
        return go.Bar(**shared, marker=bar_marker(index))
    return go.Scatter(**shared, mode="lines+markers", **line_style(index))
