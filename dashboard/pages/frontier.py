"""The Frontier page: what quality costs in one router, as a plane of points and as a table."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Output, html, no_update

from dashboard.frame.elements import Element, chart, dimmed, nothing_here_notice, page_link, panel
from dashboard.frame.figures import COLORS, dressed
from dashboard.frame.filters import ROUTER
from dashboard.frame.formats import UNKNOWN, format_count, format_usd
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.tables import Table, csv_button, labelled_table, register_csv
from dashboard.frame.urls import FRONTIER_PATH, ROUTER_PATH, router_link
from dashboard.pages.routers import no_router_notice, read_chosen
from modelpilot.learning.replay.estimates import Interval
from modelpilot.learning.replay.frontier import MINIMUM_GRADED, Frontier, Point
from modelpilot.metrics.ports import MOST_DECISIONS
from modelpilot.metrics.use import RouterUse

HEIGHT_PX = 520
_PER = 1_000
GREY = "#868e96"
PREDICTED, OBSERVED = "Model, as predicted", "Model, as measured on its own requests"
ROUTER_OBSERVED, ROUTER_PREDICTED = "This router, as measured", "This router, as predicted"
RANDOM, BEST = "Random choice, as predicted", "Best model per request, as predicted"
HULL = "Best mix of single models, as predicted"
# How each kind of point looks: colour and shape, so that neither speaks alone.
_STYLES = {
    PREDICTED: (COLORS[0], "circle", 10),
    OBSERVED: (COLORS[0], "circle-open", 12),
    ROUTER_OBSERVED: (COLORS[1], "star", 16),
    ROUTER_PREDICTED: (COLORS[1], "star-open", 14),
    RANDOM: (GREY, "diamond", 12),
    BEST: (COLORS[2], "triangle-up", 14),
}
# What is reckoned with to see where a name has room, all for a phone: the plane, a point, a letter and a line; and how
# far from its point it may stand, in which directions (right and down), the best first.
_PLANE_PX, _POINT_PX, _LETTER_PX, _LINE_PX = (240.0, 250.0), 8.0, 6.6, 16.0
_FAR_PX = (0.0, 16.0, 32.0, 48.0)
_SIDES = ((1, -1), (1, 1), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (-1, 0))

FRAME = PageFrame("frontier", "Frontier", filters=(ROUTER,), skeleton=(520, 200))
ABOUT = FRAME.id("about")
CHART = FRAME.id("chart")
TABLE = FRAME.id("table")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    drawn = chart("quality and cost of each model; the table has the numbers", HEIGHT_PX, id=CHART)
    return FRAME.layout(
        context,
        search,
        dmc.Stack(
            [
                panel("Quality and cost", html.Div(id=ABOUT), drawn),
                panel("The same numbers, with 95 % intervals", csv_button(FRAME), html.Div(id=TABLE)),
            ]
        ),
    )


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    def table(asked: Asked) -> Table:
        router = read_chosen(context, asked)
        return csv_rows(_read(context, asked, router)) if router else ((), ())

    register_csv(app, context, FRAME, "modelpilot-frontier.csv", table)

    @FRAME.fills(
        app,
        context,
        Output(ABOUT, "children"),
        Output(CHART, "figure"),
        Output(TABLE, "children"),
    )
    def fill(asked: Asked) -> Filled:
        router = read_chosen(context, asked)
        if router is None:
            return Filled((no_update,) * 3, no_router_notice(asked.values), hidden=True)
        found = _read(context, asked, router)
        if not found.requests:
            return Filled((no_update,) * 3, nothing_here_notice("decisions"), hidden=True)
        columns, rows = table_rows(found)
        values = (_about(router, found, asked), plane(found), labelled_table(columns, rows, numeric=(2, 3, 4, 5)))
        return Filled(values)


def _read(context: PageContext, asked: Asked, router: RouterUse) -> Frontier:
    scope = asked.scope
    return context.workbench.frontier(router.user_id, router.router_id, scope.start_s, scope.end_s)


def _about(router: RouterUse, found: Frontier, asked: Asked) -> Element:
    owner = f" of {router.user_id}" if asked.scope.user_id is None else ""
    name = page_link(router.router_id, router_link(ROUTER_PATH, asked.search, router))
    cut = found.requests + found.left_out >= MOST_DECISIONS
    newest = f", the newest {MOST_DECISIONS:,} of the range" if cut else ""
    return dimmed(["Router ", name, f"{owner}{newest}: {summary(found)}"], mb="sm")


PAGE = Page(path=FRONTIER_PATH, title="Frontier", layout=layout, register=register)


@dataclass(frozen=True, slots=True)
class Row:
    """One point of the plane: what kind, which model (or ""), where, and what it stands on."""

    kind: str
    name: str
    point: Point
    graded: int | None = None


def points(found: Frontier) -> list[Row]:
    """Every known point; single models first."""
    return [row for row in _rows(found) if row is not None]


def _rows(found: Frontier) -> Iterator[Row | None]:
    for one in found.models:
        yield _row(PREDICTED, one.model, one.predicted)
    for one in found.models:
        yield _row(OBSERVED, one.model, one.observed, one.graded)
    yield _row(ROUTER_PREDICTED, "", found.predicted)
    yield _row(ROUTER_OBSERVED, "", found.observed, found.observed.quality.requests if found.observed else None)
    yield _row(RANDOM, "", found.random)
    yield _row(BEST, "", found.per_request)


def _row(kind: str, name: str, point: Point | None, graded: int | None = None) -> Row | None:
    return None if point is None else Row(kind, name, point, graded)


def plane(found: Frontier) -> go.Figure:
    """Cost to the right, quality upwards; behind the points faint lines for their 95 % intervals, and the hull."""
    rows = points(found)
    intervals = [_intervals(kind, rows) for kind in _STYLES]
    figure = dressed(go.Figure([*intervals, _hull(found), *(_trace(kind, rows) for kind in _STYLES)]))
    for row, (right_px, down_px) in label_places(rows).items():
        figure.add_annotation(
            x=row.point.cost_usd.mean * _PER,
            y=row.point.quality.mean,
            text=row.name,
            ax=right_px,
            ay=down_px,
            xanchor="center",
            yanchor="middle",
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=GREY,
            standoff=_POINT_PX,
        )
    figure.update_traces(selector={"type": "scatter"}, cliponaxis=False)
    figure.update_xaxes(title={"text": "USD per 1,000 requests"}, rangemode="tozero", tickformat="$,.6~f")
    figure.update_yaxes(title={"text": "quality, 0 to 1"}, tickformat=".2f")
    legend = {"orientation": "h", "y": -0.18, "traceorder": "normal"}
    return figure.update_layout(height=HEIGHT_PX, legend=legend, margin={"l": 8, "r": 24, "t": 24, "b": 8})


def _hull(found: Frontier) -> go.Scatter:
    x, y = [cost * _PER for cost, _ in found.hull], [quality for _, quality in found.hull]
    line = {"color": GREY, "dash": "dash", "width": 1.5}
    return go.Scatter(name=HULL, x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=len(x) > 1)


def _intervals(kind: str, rows: Sequence[Row]) -> go.Scatter:
    """The intervals of points of one kind without the points, which are drawn later and hence lie on top."""
    of_kind, color = [row for row in rows if row.kind == kind], _STYLES[kind][0]
    return go.Scatter(
        name=f"{kind}: 95 % intervals",
        x=[row.point.cost_usd.mean * _PER for row in of_kind],
        y=[row.point.quality.mean for row in of_kind],
        error_x=_bars([row.point.cost_usd for row in of_kind], _PER, color),
        error_y=_bars([row.point.quality for row in of_kind], 1.0, color, highest=1.0),
        mode="markers",
        marker={"size": 1, "opacity": 0.0},
        hoverinfo="skip",
        showlegend=False,
    )


def _trace(kind: str, rows: Sequence[Row]) -> go.Scatter:
    of_kind = [row for row in rows if row.kind == kind]
    color, symbol, size = _STYLES[kind]
    return go.Scatter(
        name=kind,
        x=[row.point.cost_usd.mean * _PER for row in of_kind],
        y=[row.point.quality.mean for row in of_kind],
        mode="markers",
        marker={"color": color, "symbol": symbol, "size": size, "line": {"color": color, "width": 2}},
        customdata=[(row.name or kind, kind, stands_on(row)) for row in of_kind],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>quality %{y:.3f} at $%{x:.4~f} per 1,000"
        "<br>%{customdata[2]}<extra></extra>",
        showlegend=bool(of_kind),
    )


def label_places(rows: Sequence[Row]) -> dict[Row, tuple[float, float]]:
    """How far to the right of its point and below it (pixels) the middle of each model's name stands: where there is
    room for it on a phone, neither over a point nor over another name nor outside of the plane. A model without any is
    named by the hover and by the table."""
    at = {row: _place(row, rows) for row in rows}
    taken = [_Box(x - _POINT_PX, y - _POINT_PX, x + _POINT_PX, y + _POINT_PX) for x, y in at.values()]
    places: dict[Row, tuple[float, float]] = {}
    named: set[str] = set()
    for row in rows:
        if not row.name or row.name in named:
            continue
        boxes = ((place, _box_of(row.name, place, at[row])) for place in _offsets(row.name))
        found = next((one for one in boxes if _is_free(one[1], taken)), None)
        if found is not None:
            places[row] = found[0]
            taken.append(found[1])
            named.add(row.name)
    return places


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def _place(row: Row, rows: Sequence[Row]) -> tuple[float, float]:
    """About where a point is drawn on a phone, in pixels from the upper left: the axes end where the intervals do."""
    right = max((one.point.cost_usd.high for one in rows), default=0.0) or 1.0
    low = min(max(one.point.quality.low, 0.0) for one in rows)
    high = max(min(one.point.quality.high, 1.0) for one in rows)
    cost, quality = row.point.cost_usd.mean / right, (row.point.quality.mean - low) / ((high - low) or 1.0)
    return cost * _PLANE_PX[0], (1.0 - quality) * _PLANE_PX[1]


def _offsets(name: str) -> Iterator[tuple[float, float]]:
    """Places for a name around its point, the nearest first."""
    half = _LETTER_PX * len(name) / 2.0
    for far in _FAR_PX:
        for right, down in _SIDES:
            yield right * (_POINT_PX + far + half), down * (_POINT_PX + far + _LINE_PX / 2.0)


def _box_of(name: str, place: tuple[float, float], at: tuple[float, float]) -> _Box:
    x, y, half = at[0] + place[0], at[1] + place[1], _LETTER_PX * len(name) / 2.0
    return _Box(x - half, y - _LINE_PX / 2.0, x + half, y + _LINE_PX / 2.0)


def _is_free(box: _Box, taken: Sequence[_Box]) -> bool:
    inside = box.left >= 0.0 and box.right <= _PLANE_PX[0] and box.top >= -_LINE_PX and box.bottom <= _PLANE_PX[1]
    return inside and not any(_overlap(box, other) for other in taken)


def _overlap(one: _Box, other: _Box) -> bool:
    return one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom


def _bars(intervals: Sequence[Interval], scale: float, color: str, highest: float = math.inf) -> dict[str, Any]:
    # Cut to what can be: a cost is never negative, a quality never above 1.
    return {
        "type": "data",
        "symmetric": False,
        "array": [(min(one.high, highest) - one.mean) * scale for one in intervals],
        "arrayminus": [(one.mean - max(one.low, 0.0)) * scale for one in intervals],
        "color": _faint(color),
        "thickness": 1,
        "width": 0,
    }


def _faint(color: str) -> str:
    """`#rrggbb` as a colour that lets through most of what is behind it."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def stands_on(row: Row) -> str:
    """How many requests and graded answers a point is made from."""
    requests = f"{row.point.cost_usd.requests:,} requests"
    return requests if row.graded is None else f"{requests}, {row.graded:,} graded answers"


def table_rows(found: Frontier) -> tuple[Sequence[str], list[Sequence[object]]]:
    """The points as a table; models with too few graded answers say so."""
    rows: list[Sequence[object]] = [
        (
            row.name or UNKNOWN,
            row.kind + (" (best single)" if row.kind == PREDICTED and row.name == found.best_single else ""),
            _said(row.point.cost_usd, _PER),
            _said_quality(row.point.quality),
            format_count(row.point.cost_usd.requests),
            UNKNOWN if row.graded is None else format_count(row.graded),
        )
        for row in points(found)
    ]
    rows += [
        (
            one.model,
            f"Not measured: fewer than {MINIMUM_GRADED} graded answers",
            UNKNOWN,
            UNKNOWN,
            format_count(one.chosen),
            format_count(one.graded),
        )
        for one in found.models
        if one.observed is None
    ]
    return ("Model", "Point", "Cost per 1,000", "Quality", "Requests", "Graded answers"), rows


def csv_rows(found: Frontier) -> Table:
    """Every point in USD per request, with its interval."""
    rows = [
        (
            row.name,
            row.kind,
            *(part for one in (row.point.cost_usd, row.point.quality) for part in (one.mean, one.low, one.high)),
            row.point.cost_usd.requests,
            row.graded,
        )
        for row in points(found)
    ]
    columns = (
        "model", "point", "costUsd", "costUsdLow", "costUsdHigh", "quality", "qualityLow", "qualityHigh", "requests",
        "gradedAnswers",
    )  # fmt: skip
    return columns, rows


def summary(found: Frontier) -> str:
    """What the plane stands on, and what it cannot say."""
    said = f"{found.requests:,} requests"
    if found.left_out:
        said += f" ({found.left_out:,} more had no decision that could be used)"
    return (
        f"{said}. Predicted points are about the same requests and can be compared with each other. A measured point "
        "is about the requests that the router gave to that model, hence about other prompts than the other points."
    )


def _said(interval: Interval, scale: float) -> str:
    mean, low, high = (format_usd(max(value, 0.0) * scale) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low} to {high})"


def _said_quality(interval: Interval) -> str:
    return f"{interval.mean:.3f} ({max(interval.low, 0.0):.3f} to {min(interval.high, 1.0):.3f})"
