"""The Frontier page: what quality costs in one router. What is on it comes from `frontier_view`."""

import dash_mantine_components as dmc
from dash import Dash, Output, dcc, html, no_update

from dashboard import ids
from dashboard.components import panel
from dashboard.elements import Element, aria
from dashboard.filters import ROUTER
from dashboard.frame import Asked, Filled, Frame
from dashboard.labelled import labelled_table
from dashboard.notices import nothing_here_notice
from dashboard.page import Page, PageContext
from dashboard.pages.frontier_view import HEIGHT_PX, csv_rows, plane, summary, table_rows
from dashboard.router_choice import DETAIL_PATH, FRONTIER_PATH, no_router_notice, read_chosen, router_link
from dashboard.tables import Table, csv_button, register_csv
from modelpilot.learning.replay.frontier import Frontier
from modelpilot.metrics.use import RouterUse
from modelpilot.metrics.workbench import MOST_DECISIONS

_INLINE = "mp-link mp-inline"
FRAME = Frame("frontier", "Frontier", filters=(ROUTER,), skeleton=(520, 200))


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    graph = dcc.Graph(
        id=ids.FRONTIER_CHART,
        config={"displayModeBar": False, "scrollZoom": False},
        responsive=True,
        style={"height": HEIGHT_PX},
    )
    chart = html.Div(
        graph, role="img", **aria(label="Chart: quality and cost of each model; the table has the numbers")
    )
    return FRAME.layout(
        context,
        search,
        dmc.Stack(
            [
                panel("Quality and cost", html.Div(id=ids.FRONTIER_ABOUT), chart),
                panel("The same numbers, with 95 % intervals", csv_button(FRAME), html.Div(id=ids.FRONTIER_TABLE)),
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
        Output(ids.FRONTIER_ABOUT, "children"),
        Output(ids.FRONTIER_CHART, "figure"),
        Output(ids.FRONTIER_TABLE, "children"),
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
    return context.readers.workbench.frontier(router.user_id, router.router_id, scope.start_s, scope.end_s)


def _about(router: RouterUse, found: Frontier, asked: Asked) -> Element:
    owner = f" of {router.user_id}" if asked.scope.user_id is None else ""
    name = dcc.Link(router.router_id, href=router_link(DETAIL_PATH, asked.search, router), className=_INLINE)
    cut = found.requests + found.left_out >= MOST_DECISIONS
    newest = f", the newest {MOST_DECISIONS:,} of the range" if cut else ""
    return dmc.Text(["Router ", name, f"{owner}{newest}: {summary(found)}"], size="sm", c="dimmed", mb="sm")


PAGE = Page(path=FRONTIER_PATH, title="Frontier", layout=layout, register=register)
