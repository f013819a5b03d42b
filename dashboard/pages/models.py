"""The Models & providers page. What is on it comes from `models_view`."""

from collections.abc import Iterator

import dash_mantine_components as dmc
from dash import Dash, Output, html

from dashboard import ids
from dashboard.components import chart_panel, panel
from dashboard.elements import Element
from dashboard.filters import MODEL, PROVIDER
from dashboard.frame import Asked, Filled, Frame
from dashboard.grids import Column
from dashboard.links import follow_points
from dashboard.local_grid import fitting, local_grid
from dashboard.narrowing import of_names
from dashboard.notices import no_requests_notice, nothing_here_notice
from dashboard.page import Page, PageContext
from dashboard.pages.models_view import MOST_ROWS, health_table, heat_bucket_s, heat_rows, heatmap, model_table
from modelpilot.metrics.explore import RequestFilter
from modelpilot.metrics.use import ModelsRead

FRAME = Frame("models", "Models & providers", filters=(MODEL, PROVIDER), skeleton=(240, 160, 360))
HEAT_COLUMNS = (
    Column("time", "Time", 250, link=True),
    Column("model", "Model", 160, grow=True),
    Column("requests", "Requests", 110, numeric=True),
    Column("latency", "95 % within", 130, numeric=True),
)
_PRICES = "Prices in USD per million tokens."
_AVERAGED = "Percentiles are means of hourly ones, weighted by completed requests: too many to read one by one."
_HEALTH = (
    "Judged by the calls of the last hour that belong to finished requests. The circuit breakers themselves live in "
    "the gateways: GET /api/health/deployments shows them."
)


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    sections = [
        panel("Models", html.Div(id=ids.MODELS_TABLE)),
        panel("Health", dmc.Text(_HEALTH, size="sm", c="dimmed", mb="xs"), html.Div(id=ids.MODELS_HEALTH)),
        chart_panel("Time within which 95 % were answered, by time and model", ids.MODELS_HEATMAP),
        panel("The same numbers", local_grid(ids.MODELS_HEATMAP_GRID, HEAT_COLUMNS, "Numbers of the chart")),
    ]
    return FRAME.layout(context, search, dmc.Stack(sections))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    follow_points(app, FRAME, ids.MODELS_HEATMAP)

    @FRAME.fills(
        app,
        context,
        Output(ids.MODELS_TABLE, "children"),
        Output(ids.MODELS_HEALTH, "children"),
        Output(ids.MODELS_HEATMAP, "figure"),
        Output(ids.MODELS_HEATMAP_GRID, "rowData"),
        Output(ids.MODELS_HEATMAP_GRID, "style"),
    )
    def fill(asked: Asked) -> Filled:
        names = of_names(asked.values)
        wanted = RequestFilter(model=names.model, provider=names.provider)
        read = context.readers.models.models(asked.scope, wanted, heat_bucket_s(asked.window))
        said, rows = " ".join(_remarks(read)), heat_rows(read, asked)
        values = (
            [dmc.Text(said, size="sm", c="dimmed", mb="xs"), model_table(read, asked)],
            health_table(read, asked),
            heatmap(read, asked),
            rows,
            fitting(len(rows)),
        )
        return Filled(values, _notice(read, asked), hidden=not read.by_model.cells)


def _remarks(read: ModelsRead) -> Iterator[str]:
    yield _PRICES
    if read.by_model.averaged:
        yield _AVERAGED
    if max(len(read.by_model.cells), len(read.deployments)) > MOST_ROWS:
        yield f"At most {MOST_ROWS} models and deployments are listed, the busiest and the most troubled."


def _notice(read: ModelsRead, asked: Asked) -> Element | None:
    latest_s, zone = read.by_model.latest_request_s, asked.zone
    if latest_s is None:
        return no_requests_notice()
    if not read.by_model.cells:
        return nothing_here_notice("requests", f"{zone.time(latest_s)} {zone.abbreviation(latest_s)}")
    return None


PAGE = Page(path="/models", title="Models & providers", layout=layout, register=register)
