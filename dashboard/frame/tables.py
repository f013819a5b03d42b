"""Tables made of components, small ones behind charts, and tables that leave the site as CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from dashboard.frame.elements import Element, aria
from dashboard.frame.page import PageContext
from dashboard.frame.page_frame import ZONE, Asked, PageFrame
from modelpilot.errors import DependencyUnavailable

Table: TypeAlias = tuple[Sequence[str], Iterable[Sequence[Any]]]  # columns, rows

# A spreadsheet takes a cell that begins like this for a formula, and a formula can send what is in the table away.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def labelled_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Element:
    """A table that stays readable on a phone: there each row becomes a list of label and value.

    The columns at `numeric` are aligned to the right, where they stand side by side.
    """
    kinds = [{"className": "mp-number"} if index in numeric else {} for index in range(len(columns))]
    head = [dmc.TableTh(column, **kind) for column, kind in zip(columns, kinds, strict=True)]
    body = [dmc.TableTr(_cells(columns, row, kinds)) for row in rows]
    table = [dmc.TableThead(dmc.TableTr(head)), dmc.TableTbody(body)]
    return dmc.Table(table, striped=True, className="mp-requests", fz="xs")


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Element:
    """A small table; the columns at `numeric` are aligned to the right."""

    def align(index: int) -> dict[str, str]:
        return {"ta": "right"} if index in numeric else {}

    head = dmc.TableThead(dmc.TableTr([dmc.TableTh(column, **align(index)) for index, column in enumerate(columns)]))
    body = dmc.TableTbody(
        [dmc.TableTr([dmc.TableTd(cell, **align(index)) for index, cell in enumerate(row)]) for row in rows]
    )
    table = dmc.Table([head, body], striped=True, className="mp-plain-table", fz="xs")
    return html.Div(table, className="mp-scroll", tabIndex="0", role="region", **aria(label="Table"))


def behind_chart(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Element:
    """The numbers of a chart, for those who cannot see it, and its links, for those who do not use a mouse."""
    table = plain_table(columns, rows, numeric=numeric)
    return html.Details([html.Summary("Show as table", className="mp-summary"), table])


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with a header (RFC 4180). Numbers stay numbers; a text that looks like a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return text.getvalue()


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs. None is an empty cell."""
    if isinstance(value, str) and value.lstrip().startswith(_FORMULA_STARTS):
        return f"'{value}"
    return "" if value is None else value


def csv_download(filename: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """The `data` of a dcc.Download."""
    return {"content": csv_text(columns, rows), "filename": filename, "type": "text/csv;charset=utf-8", "base64": False}


def csv_button(frame: PageFrame, name: str = "csv") -> Element:
    """The button that downloads a page's table, and what it downloads through; `name` tells several of a page apart."""
    button = dmc.Button("Download CSV", id=frame.id(name), variant="default", size="xs")
    return html.Div([button, dcc.Download(id=_download_id(frame, name))], className="mp-csv")


def register_csv(
    app: Dash, context: PageContext, frame: PageFrame, filename: str, read: Callable[[Asked], Table], name: str = "csv"
) -> None:
    """Let the page's button download what `read` returns: every row of the table, not only the visible ones."""

    @app.callback(
        Output(_download_id(frame, name), "data"),
        Input(frame.id(name), "n_clicks"),
        State(frame.id("url"), "search"),
        State(ZONE, "data"),
        prevent_initial_call=True,
    )
    def download(_: int | None, search: str, zone: str | None) -> Any:
        """The file. While the database is away there is none; the page's notice says so."""
        try:
            columns, rows = read(frame.asked(context, search, zone))
            return csv_download(filename, columns, rows)
        except DependencyUnavailable:
            return no_update


def _download_id(frame: PageFrame, name: str) -> str:
    return frame.id("download" if name == "csv" else f"{name}-download")


def _cells(columns: Sequence[str], row: Sequence[object], kinds: Sequence[dict[str, str]]) -> list[Element]:
    return [
        dmc.TableTd(cell, **kind, **{"data-label": column})
        for column, cell, kind in zip(columns, row, kinds, strict=True)
    ]
