"""The Models & providers page: use, health and latency of every model in the range."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Input, Output, State, html, no_update

from dashboard.frame.elements import Element, badge, chart_panel, dimmed, no_requests_notice, notice, page_link, panel
from dashboard.frame.figures import dressed
from dashboard.frame.filters import MODEL, PROVIDER, of_names, shown_name
from dashboard.frame.formats import (
    UNKNOWN,
    format_age,
    format_count,
    format_known,
    format_ms,
    format_share,
    format_usd,
    utc,
)
from dashboard.frame.grids import Column, fitting, link_cell, local_grid
from dashboard.frame.page import Page, PageContext, actor_of
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.ranges import Window
from dashboard.frame.tables import labelled_table
from dashboard.frame.urls import requests_link
from dashboard.frame.zones import DAY_S, HOUR_S, time_ticks
from dashboard.pages.explore import bucket_starts
from modelpilot.errors import ModelPilotError
from modelpilot.metrics.explore import METRIC_OF, Cell
from modelpilot.metrics.requests import RequestFilter
from modelpilot.metrics.use import MODEL_METRICS, DeploymentState, DeploymentUse, Health, ModelsRead, Price

MODEL_COLUMNS = (
    "Model", "Requests", "Completed", "Median latency", "95 % within", "Cost", "Quality", "Rate limited", "Last used",
    "Price in / out", "Price from",
)  # fmt: skip
HEALTH_COLUMNS = (
    "Deployment",
    "Model",
    "State",
    "Calls, last hour",
    "Failed",
    "Rate limited",
    "Last call",
    "Last failure",
)
HEALTH_COLORS: dict[Health, str] = {
    "idle": "gray",
    "healthy": "green",
    "troubled": "yellow",
    "rate limited": "orange",
    "failing": "red",
    "key refused": "red",
}
_WIDTHS_S = (HOUR_S, 3 * HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S)
_MOST_COLUMNS, _MOST_MODELS = 48, 20
MOST_ROWS = 40  # of a table that is made of components
# One hue from little to much, readable on light and dark ground alike.
_SCALE = [[0.0, "#d0ebff"], [0.5, "#339af0"], [1.0, "#0b3d66"]]
HEAT_COLUMNS = (
    Column("time", "Time", 250, link=True),
    Column("model", "Model", 160, grow=True),
    Column("requests", "Requests", 110, numeric=True),
    Column("latency", "95 % within", 130, numeric=True),
)
_PRICES = (
    "Prices in USD per million tokens. Price from: the day from which on its source lists a price; of an owner's own "
    "model, the day on which that was last changed (UTC)."
)
_AVERAGED = "Percentiles are means of hourly ones, weighted by completed requests: too many to read one by one."
_HEALTH = "Judged by the calls of the last hour that belong to finished requests."
STATE_COLUMNS = ("Deployment", "Model", "Gateways", "State", "Since", "Called again")
STATES: dict[str, tuple[str, str]] = {
    "open": ("breaker open", "red"),
    "half_open": ("probing", "yellow"),
    "closed": ("resting", "orange"),
}

FRAME = PageFrame("models", "Models & providers", filters=(MODEL, PROVIDER), skeleton=(240, 160, 360))
TABLE = FRAME.id("table")
HEALTH = FRAME.id("health")
SKIPPED = FRAME.id("skipped")
RESET = FRAME.id("reset")
RESET_RESULT = FRAME.id("reset-result")
HEATMAP = FRAME.id("heatmap")
HEATMAP_GRID = FRAME.id("heatmap-grid")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    sections = [
        panel("Models", html.Div(id=TABLE)),
        panel("Skipped by gateways", html.Div(id=SKIPPED), *reset_controls()),
        panel("Health", dimmed(_HEALTH, mb="xs"), html.Div(id=HEALTH)),
        chart_panel("Time within which 95 % were answered, by time and model", HEATMAP),
        panel("The same numbers", local_grid(HEATMAP_GRID, HEAT_COLUMNS, "Numbers of the chart")),
    ]
    return FRAME.layout(context, search, dmc.Stack(sections))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    FRAME.follow_points(app, HEATMAP)

    @FRAME.fills(
        app,
        context,
        Output(TABLE, "children"),
        Output(SKIPPED, "children"),
        Output(RESET, "display"),
        Output(HEALTH, "children"),
        Output(HEATMAP, "figure"),
        Output(HEATMAP_GRID, "rowData"),
        Output(HEATMAP_GRID, "style"),
    )
    def fill(asked: Asked) -> Filled:
        names = of_names(asked.values)
        wanted = RequestFilter(model=names.model, provider=names.provider)
        read = context.reader.models(asked.scope, wanted, heat_bucket_s(asked.window))
        rows = heat_rows(read, asked)
        values = (
            [dimmed(" ".join(_remarks(read)), mb="xs"), model_table(read, asked)],
            skipped_table(read, asked),
            "inline-block" if read.states and _may_reset(context, asked) else "none",
            health_table(read, asked),
            heatmap(read, asked),
            rows,
            fitting(len(rows)),
        )
        found = read.by_model
        said = None if found.cells else no_requests_notice(found.latest_request_s, asked.zone)
        return Filled(values, said, hidden=not found.cells)

    @app.callback(
        Output(RESET_RESULT, "children"),
        Output(FRAME.id("refresh"), "n_clicks"),
        Input(RESET, "n_clicks"),
        State(FRAME.id("url"), "search"),
        State(FRAME.id("refresh"), "n_clicks"),
        prevent_initial_call=True,
    )
    def reset(clicks: int | None, search: str, refreshed: int | None) -> tuple[Any, Any]:
        """For admins only, whatever a browser sends."""
        asked = FRAME.asked(context, search)
        if not clicks or not _may_reset(context, asked):
            return no_update, no_update
        try:
            context.workbench.reset_health(str(asked.scope.user_id), actor_of(context))
        except ModelPilotError as error:
            return notice("Nothing was changed", error.message, color="red"), no_update
        said = "Every gateway calls these deployments again, as if nothing had happened."
        return notice("Begun again", said, color="green"), (refreshed or 0) + 1


def reset_controls() -> list[Element]:
    """The button and what came of it."""
    button = dmc.Button("Begin again as healthy", id=RESET, variant="default", size="xs", mt="sm", display="none")
    return [button, html.Div(id=RESET_RESULT, role="status")]


def _may_reset(context: PageContext, asked: Asked) -> bool:
    """An admin, of one tenant."""
    return context.visitor.role == "admin" and asked.scope.user_id is not None


def skipped_table(read: ModelsRead, asked: Asked) -> Element:
    """The deployments that gateways do not call, or only try, with when they will be called again."""
    if not read.states:
        return dimmed("No gateway skips any deployment.")
    rows = [_state_row(one, asked) for one in read.states[:MOST_ROWS]]
    return labelled_table(STATE_COLUMNS, rows, numeric=(2,))


def _state_row(one: DeploymentState, asked: Asked) -> Sequence[object]:
    state, color = STATES[one.state]
    left_s = one.next_probe_s - asked.now_s
    return (
        one.deployment or one.provider,
        one.model,
        format_count(one.gateways),
        html.Span([badge(state, color), f" {one.because}" if one.because else ""]),
        UNKNOWN if one.open_since_s is None else format_age(asked.now_s - one.open_since_s),
        f"in {math.ceil(left_s)} s" if left_s > 0.0 else "now",
    )


def _remarks(read: ModelsRead) -> Iterator[str]:
    yield _PRICES
    if read.by_model.averaged:
        yield _AVERAGED
    if max(len(read.by_model.cells), len(read.deployments)) > MOST_ROWS:
        yield f"At most {MOST_ROWS} models and deployments are listed, the busiest and the most troubled."


PAGE = Page(path="/models", title="Models & providers", layout=layout, register=register)


def heat_bucket_s(window: Window) -> int:
    """Hours where they fit side by side, wider steps for longer ranges."""
    span_s = window.end_s - window.start_s
    return next((width for width in _WIDTHS_S if span_s / width <= _MOST_COLUMNS), _WIDTHS_S[-1])


def model_table(read: ModelsRead, asked: Asked) -> Element:
    """A row per model that was asked for in the range, the busiest first."""
    prices = {price.model: price for price in read.prices}
    limited: dict[str, int] = defaultdict(int)
    for deployment in read.deployments:
        limited[deployment.model] += deployment.rate_limited
    cells = sorted(read.by_model.cells, key=lambda cell: (-cell.requests, cell.group))[:MOST_ROWS]
    rows = [_model_row(cell, prices.get(cell.group), limited[cell.group], asked) for cell in cells]
    return labelled_table(MODEL_COLUMNS, rows, numeric=(1, 2, 3, 4, 5, 6, 7, 9))


def _model_row(cell: Cell, price: Price | None, limited: int, asked: Asked) -> Sequence[object]:
    name = shown_name("model", cell.group)
    figures = [format_known(value, METRIC_OF[key]) for key, value in zip(MODEL_METRICS, cell.values, strict=True)]
    return (
        page_link(name, _link(asked, model=name)),
        format_count(cell.requests),
        *figures,
        format_count(limited),
        format_age(asked.now_s - cell.newest_s),
        format_price(price),
        price_source(price),
    )


def format_price(price: Price | None) -> str:
    """USD per million tokens, in and out; an unknown price is not free."""
    if price is None or (price.input_usd is None and price.output_usd is None):
        return "unknown"
    return " / ".join(_per_million(one) for one in (price.input_usd, price.output_usd))


def _per_million(usd: float | None) -> str:
    return "unknown" if usd is None else format_usd(usd * 1e6)


def price_source(price: Price | None) -> str:
    """From which day on it counts, and whose price it is."""
    if price is None:
        return "not in the catalogue"
    whose = f"{price.owner}'s own" if price.owner else price.source
    return f"{price.since.isoformat() if price.since else 'date unknown'}, {whose}"


def health_table(read: ModelsRead, asked: Asked) -> Element:
    """A row per deployment, the troubled ones first."""
    worst = list(HEALTH_COLORS)
    found = sorted(read.deployments, key=lambda one: (-worst.index(one.health), -one.recent_calls, one.deployment))
    rows = [_health_row(one, asked.now_s) for one in found[:MOST_ROWS]]
    return labelled_table(HEALTH_COLUMNS, rows, numeric=(3, 4, 5))


def _health_row(one: DeploymentUse, now_s: float) -> Sequence[object]:
    share = one.recent_errors / one.recent_calls if one.recent_calls else None
    return (
        one.deployment or one.provider,
        one.model,
        badge(one.health, HEALTH_COLORS[one.health]),
        format_count(one.recent_calls),
        f"{one.recent_errors:,} ({format_share(share)})" if share is not None else "0",
        format_count(one.recent_rate_limited),
        UNKNOWN if one.last_call_s is None else format_age(now_s - one.last_call_s),
        one.last_error or UNKNOWN,
    )


def heatmap(read: ModelsRead, asked: Asked) -> go.Figure:
    """p95 of latency by model and time. A cell leads to its requests; empty ones had no completed request."""
    window, models = _heat_window(read, asked), _heat_models(read)
    starts = bucket_starts(window)
    cells = {(cell.group, cell.start_s): cell for cell in read.over_time.cells}
    found = [[cells.get((model, start)) for start in starts] for model in models]
    told = [
        [(_latency(cell), asked.zone.span(start, start + window.bucket_s), _heat_link(asked, window, model, start))
         for start, cell in zip(starts, row, strict=True)]
        for model, row in zip(models, found, strict=True)
    ]  # fmt: skip
    trace = go.Heatmap(
        x=[utc(start + window.bucket_s / 2.0) for start in starts],
        y=[shown_name("model", model) for model in models],
        z=[[cell.values[0].value if cell else None for cell in row] for row in found],
        customdata=told,
        hovertemplate="%{y}: %{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        colorscale=_SCALE,
        xgap=1,
        ygap=1,
        zmin=0,
        zmax=max((cell.values[0].value or 0.0 for cell in cells.values()), default=0.0) or 1.0,
        colorbar={"title": {"text": "ms", "side": "top"}, "thickness": 12, "outlinewidth": 0, "tickformat": ",.0f"},
    )
    made = dressed(go.Figure(trace))
    places, texts = time_ticks(window.start_s, window.end_s, asked.zone)
    made.update_xaxes(title={"text": f"time ({asked.zone.abbreviation(window.end_s)})"}, showgrid=False)
    made.update_xaxes(range=[utc(starts[0]), utc(starts[-1] + window.bucket_s)], tickvals=places, ticktext=texts)
    made.update_yaxes(autorange="reversed", showgrid=False)
    return made


def heat_rows(read: ModelsRead, asked: Asked) -> list[dict[str, Any]]:
    """The numbers of the heatmap with their links, the newest first."""
    window = _heat_window(read, asked)
    cells = sorted(read.over_time.cells, key=lambda cell: (-cell.start_s, cell.group))
    return [
        {
            "time": link_cell(
                asked.zone.span(cell.start_s, cell.start_s + window.bucket_s),
                _heat_link(asked, window, cell.group, cell.start_s),
            ),
            "model": shown_name("model", cell.group),
            "requests": format_count(cell.requests),
            "latency": _latency(cell),
        }
        for cell in cells
    ]


def _heat_models(read: ModelsRead) -> list[str]:
    sizes = {cell.group: cell.requests for cell in read.by_model.cells}
    return sorted(sizes, key=lambda name: (-sizes[name], name))[:_MOST_MODELS]


def _heat_window(read: ModelsRead, asked: Asked) -> Window:
    return replace(asked.window, bucket_s=read.over_time.bucket_s or HOUR_S)


def _heat_link(asked: Asked, window: Window, model: str, start_s: float) -> str:
    span = max(start_s, window.start_s), start_s + window.bucket_s
    return _link(asked, span, model=shown_name("model", model))


def _link(asked: Asked, span: tuple[float, float] | None = None, **filters: str | None) -> str:
    return requests_link(asked.search, span, **{"provider": asked.values.get("provider"), **filters})


def _latency(cell: Cell | None) -> str:
    return UNKNOWN if cell is None else format_ms(cell.values[0].value)
