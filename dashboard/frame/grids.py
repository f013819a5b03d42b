"""Large tables in AG Grid: one that asks the server for the rows it shows, and one that gets all of its rows at once.

Filters stay in the URL (`dashboard.frame.filters`), so a grid has none of its own. Cells are texts, formatted here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update

from dashboard.frame.elements import Element, aria, in_browser
from dashboard.frame.page import PageContext
from dashboard.frame.page_frame import ZONE, Asked, PageFrame
from modelpilot.errors import DependencyUnavailable

PAGE_ROWS = 100
ROW_PX, HEAD_PX, MOST_PX = 34, 54, 420
_LEAST_NUMBER_PX, _LEAST_TEXT_PX, _LEAST_LINK_PX = 62, 58, 86  # five columns on a phone
_MOST_ROWS = 1_000  # a crafted request asks for no more than this at once


@dataclass(frozen=True, slots=True)
class Column:
    """`field` is the key in a row. `sortable` ones have to be known to the reader."""

    field: str
    title: str
    width_px: int = 120
    numeric: bool = False
    sortable: bool = False
    link: bool = False  # cells are `link_cell`s
    grow: bool = False  # takes the space that is left


@dataclass(frozen=True, slots=True)
class RowsAsked:
    """The rows from `start` (inclusive) to `end`, sorted by a known column; None: in the reader's own order."""

    start: int
    end: int
    sort_by: str | None = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as a grid shows them (by `Column.field`), and how many there are in all."""

    rows: Sequence[Mapping[str, Any]]
    total: int


def link_cell(text: str, href: str | None) -> dict[str, str | None]:
    """A cell of a `link` column: an address on this site, or one of http(s) elsewhere, which opens beside it."""
    return {"text": text, "href": href}


def grid(grid_id: str, columns: Sequence[Column], label: str, height: str = "70vh") -> Element:
    """An empty grid that fills itself once it is shown. Put it into the content of a `PageFrame`."""
    return html.Div(
        dag.AgGrid(
            id=grid_id,
            rowModelType="infinite",
            columnDefs=definitions(columns),
            defaultColDef={"resizable": True, "sortable": False, "suppressMovable": True},
            dashGridOptions={
                "cacheBlockSize": PAGE_ROWS,
                "maxBlocksInCache": 20,
                "rowHeight": ROW_PX,
                "headerHeight": 36,
                "enableCellTextSelection": True,
                "ensureDomOrder": True,  # screen readers read the rows in their order
                "suppressColumnVirtualisation": True,  # a row has all its cells, also for screen readers on a phone
                "theme": {"function": "themeQuartz"},
            },
            style={"height": height, "width": "100%"},
            className="",
        ),
        className="mp-grid",
        role="region",
        **aria(label=label),
    )


def column_chooser(chooser_id: str, columns: Sequence[Column], shown: Sequence[str]) -> Element:
    """A list of columns to tick, closed at first; those of `shown` are. The visitor's browser keeps the choice."""
    boxes = [dmc.Checkbox(label=one.title, value=one.field, size="xs") for one in columns]
    group = dmc.CheckboxGroup(
        html.Div(boxes, className="mp-column-list"),
        id=chooser_id,
        value=list(shown),
        persistence=chooser_id,
        persistence_type="local",
        **aria(label="Columns of the table"),
    )
    return html.Details([html.Summary("Columns", className="mp-button"), group], className="mp-columns")


def register_chooser(app: Dash, chooser_id: str, grid_id: str, columns: Sequence[Column]) -> None:
    """Let a chooser show and hide the columns of a grid; their order stays."""

    @app.callback(Output(grid_id, "columnDefs"), Input(chooser_id, "value"))
    def choose(chosen: Sequence[str] | None) -> list[dict[str, Any]]:
        """The columns, those that were not chosen hidden. Without any, a table would have no rows to open."""
        return definitions(columns, chosen or [columns[0].field])


def definitions(columns: Sequence[Column], shown: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The columns as the grid wants them; None shows all."""
    return [{**_definition(one), "hide": shown is not None and one.field not in shown} for one in columns]


def rows_asked(request: Mapping[str, Any], columns: Sequence[Column]) -> RowsAsked:
    """What a grid wants, with everything that a crafted request could say brought within bounds."""
    start = max(0, int(request.get("startRow") or 0))
    end = min(max(start, int(request.get("endRow") or 0)), start + _MOST_ROWS)
    sortable = {one.field for one in columns if one.sortable}
    order = next((one for one in request.get("sortModel") or [] if one.get("colId") in sortable), None)
    if order is None:
        return RowsAsked(start, end)
    return RowsAsked(start, end, order["colId"], order.get("sort") == "desc")


def register_grid(
    app: Dash,
    context: PageContext,
    frame: PageFrame,
    grid_id: str,
    columns: Sequence[Column],
    read: Callable[[Asked, RowsAsked], Rows],
) -> None:
    """Let a grid ask `read` for its rows, and ask again whenever the page is refreshed or its filters change.

    While the database is away the rows stay; what the page reads in `PageFrame.fills` says so.
    """

    @app.callback(
        Output(grid_id, "getRowsResponse"),
        Input(grid_id, "getRowsRequest"),
        State(frame.id("url"), "search"),
        State(ZONE, "data"),
        prevent_initial_call=True,
    )
    def rows(request: Mapping[str, Any] | None, search: str, zone: str | None) -> Any:
        """A block of rows."""
        if request is None:
            return no_update
        try:
            found = read(frame.asked(context, search, zone), rows_asked(request, columns))
        except DependencyUnavailable:
            return no_update
        return {"rowData": list(found.rows), "rowCount": found.total}

    in_browser(app, "reloadGrid", Output(grid_id, "id"), *frame.inputs(), State(grid_id, "id"), at_start=False)


def fitting(rows: int) -> dict[str, str]:
    """The `style` of a grid that is as tall as its rows, up to a height at which it scrolls."""
    return {"height": f"{min(max(rows, 2) * ROW_PX + HEAD_PX, MOST_PX)}px", "width": "100%"}


def local_grid(grid_id: str, columns: Sequence[Column], label: str, height: str = "420px") -> Element:
    """An empty grid for all rows at once: put them into `rowData`. Enter on a row opens its link.

    For tables of more than some fifty rows: Dash takes tenths of a second for every hundred components, and a grid is
    one component.
    """
    made = grid(grid_id, columns, label, height)
    options = made.children.dashGridOptions
    for block_option in ("cacheBlockSize", "maxBlocksInCache"):
        del options[block_option]
    made.children.rowModelType = "clientSide"
    # A link is no data type that it could infer.
    made.children.defaultColDef |= {"cellDataType": False, "wrapHeaderText": True, "autoHeaderHeight": True}
    made.children.columnDefs = [_sharing(one) for one in columns]
    made.className = "mp-grid mp-local-grid"
    made.children.eventListeners = {"cellKeyDown": ["modelpilotOpen(params)"]}
    return made


def _sharing(column: Column) -> dict[str, Any]:
    """A column of a table that always is as wide as the page: on a phone texts take several lines, so that the numbers
    behind them are seen as well."""
    least_px = _LEAST_NUMBER_PX if column.numeric else _LEAST_LINK_PX if column.link else _LEAST_TEXT_PX
    made = {**_definition(column), "flex": column.width_px, "minWidth": least_px}
    return made if column.numeric else {**made, "wrapText": True, "autoHeight": True}


def _definition(column: Column) -> dict[str, Any]:
    made: dict[str, Any] = {
        "field": column.field,
        "headerName": column.title,
        "sortable": column.sortable,
        "minWidth": column.width_px,
    }
    made |= {"flex": 1} if column.grow else {"width": column.width_px}
    made |= {"type": "rightAligned"} if column.numeric else {}
    made |= {"cellRenderer": "modelpilotLink"} if column.link else {}
    return made
