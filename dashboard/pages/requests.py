"""The Requests page: every single request, filtered, sorted and paged by the database."""

import dash_mantine_components as dmc
from dash import Dash, Output

from dashboard import ids
from dashboard.controls import Control, control_row, register_controls
from dashboard.elements import Element
from dashboard.filters import MODEL, PROVIDER, ROUTER, STATUS
from dashboard.frame import Asked, Filled, Frame
from dashboard.grids import Rows, RowsAsked, grid, register_grid
from dashboard.narrowing import FALLBACK, REQUEST_ID, TYPE, of_list
from dashboard.notices import no_requests_notice, nothing_here_notice
from dashboard.page import Page, PageContext
from dashboard.pages.requests_view import COLUMNS, CSV_ROWS, GRID_ROWS, count_text, csv_table, grid_row, order_of
from dashboard.tables import Table, csv_button, register_csv
from modelpilot.metrics.requests import Order

FRAME = Frame("requests", "Requests", filters=(ROUTER, MODEL, PROVIDER, STATUS, FALLBACK, TYPE), skeleton=(480,))
CONTROLS = (Control(REQUEST_ID, "Request id (at any time)", placeholder="Its beginning is enough"),)


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    above = dmc.Group([dmc.Text(id=ids.REQUESTS_COUNT, size="sm"), csv_button(FRAME)], justify="space-between", mb="xs")
    rows = grid(ids.REQUESTS_GRID, COLUMNS, "Requests")
    rows.children.dashGridOptions["suppressColumnVirtualisation"] = True  # screen readers count the columns
    rows.children.eventListeners = {
        "cellKeyDown": ["modelpilotOpen(params)"],
        "rowClicked": ["modelpilotOpen(params)"],
    }
    return FRAME.layout(context, search, control_row(FRAME, CONTROLS, search), above, rows)


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    register_controls(app, FRAME, CONTROLS)

    @FRAME.fills(app, context, Output(ids.REQUESTS_COUNT, "children"))
    def fill(asked: Asked) -> Filled:
        total = context.readers.requests.count(asked.scope, of_list(asked.values))
        return Filled((count_text(total),), *_notice(context, asked) if not total else ())

    def rows(asked: Asked, wanted: RowsAsked) -> Rows:
        start, end = min(wanted.start, GRID_ROWS), min(wanted.end, GRID_ROWS)
        # One more row than asked for tells whether there are any behind: cheaper than to count them for every block.
        found = context.readers.requests.page(asked.scope, of_list(asked.values), order_of(wanted), start, end + 1)
        shown = [grid_row(row, asked.zone, asked.search) for row in found[: end - start]]
        return Rows(shown, min(start + len(found), GRID_ROWS))

    register_grid(app, context, FRAME, ids.REQUESTS_GRID, COLUMNS, rows)

    def table(asked: Asked) -> Table:
        return csv_table(context.readers.requests.page(asked.scope, of_list(asked.values), Order(), 0, CSV_ROWS))

    register_csv(app, context, FRAME, "modelpilot-requests.csv", table)


def _notice(context: PageContext, asked: Asked) -> tuple[Element, bool]:
    """What to say about an empty list, and whether to hide it: where there was never any request."""
    latest_s = context.readers.requests.latest(asked.scope.user_id)
    if latest_s is None:
        return no_requests_notice(), True
    newest = f"{asked.zone.time(latest_s)} {asked.zone.abbreviation(latest_s)}"
    return nothing_here_notice("requests", newest), False


PAGE = Page(path="/requests", title="Requests", layout=layout, register=register)
