"""The Overview page: what the platform did in a range, at a glance. What is on it comes from `overview_view`."""

import dash_mantine_components as dmc
from dash import Dash, Output, html

from dashboard import ids
from dashboard.components import chart_panel, panel
from dashboard.elements import Element
from dashboard.frame import Asked, Filled, Frame
from dashboard.links import follow_points
from dashboard.page import Page, PageContext
from dashboard.pages.overview_view import RECENT_LIMIT, overview_filled

FRAME = Frame("overview", "Overview", skeleton=(92, 92, 320, 320))


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    charts = dmc.SimpleGrid(
        [
            chart_panel("Requests over time", ids.OVERVIEW_TIME_CHART, ids.OVERVIEW_TIME_TABLE),
            chart_panel("Requests per model", ids.OVERVIEW_MODEL_CHART, ids.OVERVIEW_MODEL_TABLE),
        ],
        cols={"base": 1, "lg": 2},
        my="md",
    )
    saved = panel("Savings", html.Div(id=ids.OVERVIEW_SAVINGS))
    recent = panel("Most recent requests", html.Div(id=ids.OVERVIEW_RECENT))
    return FRAME.layout(
        context, search, html.Div(id=ids.OVERVIEW_CARDS), charts, saved, html.Div(className="mp-gap"), recent
    )


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    follow_points(app, FRAME, ids.OVERVIEW_TIME_CHART)
    follow_points(app, FRAME, ids.OVERVIEW_MODEL_CHART)

    @FRAME.fills(
        app,
        context,
        Output(ids.OVERVIEW_CARDS, "children"),
        Output(ids.OVERVIEW_TIME_CHART, "figure"),
        Output(ids.OVERVIEW_TIME_TABLE, "children"),
        Output(ids.OVERVIEW_MODEL_CHART, "figure"),
        Output(ids.OVERVIEW_MODEL_TABLE, "children"),
        Output(ids.OVERVIEW_SAVINGS, "children"),
        Output(ids.OVERVIEW_RECENT, "children"),
    )
    def fill(asked: Asked) -> Filled:
        overview = context.readers.overview.overview(asked.scope, asked.window.bucket_s, RECENT_LIMIT)
        return overview_filled(overview, asked, context.config)


PAGE = Page(path="/", title="Overview", layout=layout, register=register)
