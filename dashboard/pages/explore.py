"""The Explore page: a metric by group and time. What is on it comes from `explore_view`."""

import dash_mantine_components as dmc
from dash import Dash, Output, dcc, html

from dashboard import ids
from dashboard.components import panel
from dashboard.controls import Control, control_row, register_controls
from dashboard.elements import Element, aria
from dashboard.figures import CHART_HEIGHT_PX
from dashboard.filters import MODEL, PROVIDER, ROUTER
from dashboard.frame import Asked, Filled, Frame
from dashboard.grids import Column
from dashboard.links import follow_points
from dashboard.local_grid import fitting, local_grid
from dashboard.notices import no_requests_notice, nothing_here_notice
from dashboard.page import Page, PageContext
from dashboard.pages.explore_view import AUTO, GROUPS, Shown, csv_table, figure, grid_rows, question_of, shown, what
from dashboard.tables import Table, csv_button, register_csv
from modelpilot.metrics.explore import METRICS, Answer

FRAME = Frame("explore", "Explore", filters=(ROUTER, MODEL, PROVIDER), skeleton=(360, 320))
METRIC = Control("metric", "Metric", tuple((one.key, one.label) for one in METRICS), default="requests")
GROUP = Control("by", "Group by", tuple((key, label.capitalize()) for key, label in GROUPS.items()), default="model")
BUCKET = Control(
    "bucket",
    "Time step",
    ((AUTO, "Automatic"), ("5min", "5 minutes"), ("hour", "Hour"), ("day", "Day (UTC)"), ("week", "Week (UTC)")),
    default=AUTO,
)
CONTROLS = (METRIC, GROUP, BUCKET)
COLUMNS = (
    Column("time", "Time", 250, link=True),
    Column("group", "Group", 160, grow=True),
    Column("requests", "Requests", 110, numeric=True),
    Column("value", "Value", 130, numeric=True),
    Column("unknown", "Not known", 110, numeric=True),
)


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    graph = dcc.Graph(
        id=ids.EXPLORE_CHART,
        config={"displayModeBar": False, "scrollZoom": False},
        responsive=True,
        style={"height": CHART_HEIGHT_PX},
    )
    chart = panel(
        "Over time",
        dmc.Text(id=ids.EXPLORE_WHAT, size="sm", c="dimmed", mb="xs"),
        html.Div(graph, role="img", **aria(label="Chart: the numbers of the table below over time")),
    )
    table = panel(
        "The same numbers",
        dmc.Group(csv_button(FRAME), mb="xs"),
        local_grid(ids.EXPLORE_GRID, COLUMNS, "Numbers of the chart"),
    )
    return FRAME.layout(context, search, control_row(FRAME, CONTROLS, search), dmc.Stack([chart, table]))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    register_controls(app, FRAME, CONTROLS)
    follow_points(app, FRAME, ids.EXPLORE_CHART)

    def table(asked: Asked) -> Table:
        return csv_table(_view(context, asked)[1])

    register_csv(app, context, FRAME, "modelpilot-explore.csv", table)

    @FRAME.fills(
        app,
        context,
        Output(ids.EXPLORE_CHART, "figure"),
        Output(ids.EXPLORE_WHAT, "children"),
        Output(ids.EXPLORE_GRID, "rowData"),
        Output(ids.EXPLORE_GRID, "style"),
    )
    def fill(asked: Asked) -> Filled:
        answer, view = _view(context, asked)
        rows = grid_rows(view, asked)
        values = (figure(view, asked), what(view), rows, fitting(len(rows)))
        return Filled(values, _notice(answer, asked), hidden=not answer.cells)


def _view(context: PageContext, asked: Asked) -> tuple[Answer, Shown]:
    metric, group, width = (one.value(asked.search) for one in CONTROLS)
    question = question_of(asked, metric, group, width)
    answer = context.readers.explore.explore(asked.scope, question)
    return answer, shown(answer, question, asked, width)


def _notice(answer: Answer, asked: Asked) -> Element | None:
    latest_s, zone = answer.latest_request_s, asked.zone
    if latest_s is None:
        return no_requests_notice()
    if not answer.cells:
        return nothing_here_notice("requests", f"{zone.time(latest_s)} {zone.abbreviation(latest_s)}")
    return None


PAGE = Page(path="/explore", title="Explore", layout=layout, register=register)
