"""The Routers page: every router with its settings and use. What is on it comes from `routers_view`."""

from dash import Dash, Output, html

from dashboard import ids
from dashboard.components import panel
from dashboard.elements import Element
from dashboard.frame import Asked, Filled, Frame
from dashboard.page import Page, PageContext
from dashboard.pages.routers_view import routers_csv, routers_table
from dashboard.router_choice import no_router_notice
from dashboard.tables import Table, csv_button, register_csv

FRAME = Frame("routers", "Routers", skeleton=(320,))


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(context, search, panel("All routers", csv_button(FRAME), html.Div(id=ids.ROUTERS_TABLE)))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    def table(asked: Asked) -> Table:
        return routers_csv(context.readers.routers.routers(asked.scope), asked)

    register_csv(app, context, FRAME, "modelpilot-routers.csv", table)

    @FRAME.fills(app, context, Output(ids.ROUTERS_TABLE, "children"))
    def fill(asked: Asked) -> Filled:
        routers = context.readers.routers.routers(asked.scope)
        notice = None if routers else no_router_notice({})
        return Filled((routers_table(routers, asked, context.clock()),), notice, hidden=not routers)


PAGE = Page(path="/routers", title="Routers", layout=layout, register=register)
