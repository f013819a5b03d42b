"""The Requests page: every single request, filtered, sorted and paged by the database."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Output

from dashboard.frame.elements import Element, no_requests_notice
from dashboard.frame.filters import (
    FALLBACK,
    MODEL,
    PROVIDER,
    REQUEST_ID,
    ROUTER,
    SESSION,
    STATUS,
    TYPE,
    WHOSE,
    Control,
    of_list,
    shown_name,
)
from dashboard.frame.formats import UNKNOWN, format_ms, format_tokens, format_usd, utc
from dashboard.frame.grids import (
    Column,
    Rows,
    RowsAsked,
    column_chooser,
    grid,
    link_cell,
    register_chooser,
    register_grid,
)
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.tables import Table, csv_button, register_csv
from dashboard.frame.urls import detail_link
from dashboard.frame.zones import Zone
from modelpilot.metrics.requests import LoggedRequest, Order

GRID_ROWS = 10_000  # nobody scrolls further, and a database would have to sort everything for it
CSV_ROWS = 20_000
COLUMNS = (
    Column("created_at", "Time", 145, sortable=True, link=True),
    Column("model", "Model", 110, sortable=True, grow=True),
    Column("cost_usd", "Cost", 90, numeric=True, sortable=True),
    Column("status", "Status", 100, sortable=True, grow=True),
    Column("latency_ms", "Latency", 80, numeric=True, sortable=True),
    Column("input_tokens", "Tokens in", 85, numeric=True, sortable=True),
    Column("output_tokens", "Tokens out", 90, numeric=True, sortable=True),
    Column("quality", "Quality", 75, numeric=True, sortable=True),
    Column("router_id", "Router", 90, sortable=True, grow=True),
    Column("key_name", "API key", 90, grow=True),
    Column("end_user", "End user", 90, grow=True),
    Column("tags", "Tags", 110, grow=True),
    Column("provider", "Provider", 100, sortable=True, grow=True),
    Column("request_type", "Type", 110, sortable=True),
    Column("ttft_ms", "First token", 100, numeric=True, sortable=True),
    Column("overhead_ms", "Overhead", 95, numeric=True, sortable=True),
    Column("attempts", "Attempts", 90, numeric=True, sortable=True),
    Column("fallback_used", "Fallback", 85),
    Column("degraded", "Degraded", 100),
    Column("session_id", "Session", 110, grow=True),
    Column("purpose", "Purpose", 90),
)
# Those up to the tags fit side by side on a screen of 1440 px, the first three on a phone; the others can be chosen.
SHOWN = tuple(one.field for one in COLUMNS[: 1 + [one.field for one in COLUMNS].index("tags")])
_CSV = (
    "request_id", "user_id", "created_at", "router_id", "model", "provider", "status", "error_code", "success",
    "latency_ms", "ttft_ms", "overhead_ms", "cost_usd", "input_tokens", "output_tokens", "request_type", "quality",
    "attempts", "fallback_used", "purpose", "end_user", "api_key_id", "key_name", "session_id", "tags", "degraded",
)  # fmt: skip
_CELLS = attrgetter(*_CSV)
CONTROLS = (Control(REQUEST_ID, "Request id (at any time)", placeholder="Its beginning is enough"), SESSION)
FILTERS = (ROUTER, MODEL, PROVIDER, STATUS, FALLBACK, TYPE, *WHOSE)

FRAME = PageFrame("requests", "Requests", FILTERS, CONTROLS, skeleton=(480,))
COUNT = FRAME.id("count")
CHOSEN = FRAME.id("columns")
GRID = FRAME.id("grid")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    count = dmc.Text(id=COUNT, size="sm")
    tools = dmc.Group([column_chooser(CHOSEN, COLUMNS, SHOWN), csv_button(FRAME)], gap="sm")
    above = dmc.Group([count, tools], justify="space-between", mb="xs")
    rows = grid(GRID, COLUMNS, "Requests")
    rows.children.eventListeners = {
        "cellKeyDown": ["modelpilotOpen(params)"],
        "rowClicked": ["modelpilotOpen(params)"],
    }
    return FRAME.layout(context, search, above, rows)


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    @FRAME.fills(app, context, Output(COUNT, "children"))
    def fill(asked: Asked) -> Filled:
        total = context.reader.request_count(asked.scope, of_list(asked.values))
        if total:
            return Filled((count_text(total),))
        latest_s = context.reader.latest_request_s(asked.scope.user_id)
        return Filled((count_text(0),), no_requests_notice(latest_s, asked.zone), hidden=latest_s is None)

    def rows(asked: Asked, wanted: RowsAsked) -> Rows:
        start, end = min(wanted.start, GRID_ROWS), min(wanted.end, GRID_ROWS)
        # One more row than asked for tells whether there are any behind: cheaper than to count them for every block.
        found = context.reader.requests(asked.scope, of_list(asked.values), order_of(wanted), start, end + 1)
        shown = [grid_row(row, asked.zone, asked.search) for row in found[: end - start]]
        return Rows(shown, min(start + len(found), GRID_ROWS))

    register_grid(app, context, FRAME, GRID, COLUMNS, rows)
    register_chooser(app, CHOSEN, GRID, COLUMNS)

    def table(asked: Asked) -> Table:
        return csv_table(context.reader.requests(asked.scope, of_list(asked.values), Order(), 0, CSV_ROWS))

    register_csv(app, context, FRAME, "modelpilot-requests.csv", table)


PAGE = Page(path="/requests", title="Requests", layout=layout, register=register)


def order_of(asked: RowsAsked) -> Order:
    """The order that a grid asks for; by default the newest first."""
    return Order(asked.sort_by, asked.descending) if asked.sort_by else Order()


def grid_row(row: LoggedRequest, zone: Zone, search: str) -> Mapping[str, Any]:
    """A request as the grid shows it. Its first cell leads to the whole of it."""
    return {
        "created_at": link_cell(zone.time(row.created_at), detail_link(search, row.request_id, row.user_id)),
        "router_id": shown_name("router", row.router_id or ""),
        "model": shown_name("model", row.model),
        "provider": shown_name("provider", row.provider),
        "status": outcome(row),
        "latency_ms": format_ms(row.latency_ms),
        "ttft_ms": format_ms(row.ttft_ms),
        "overhead_ms": format_ms(row.overhead_ms),
        "cost_usd": format_usd(row.cost_usd),
        "input_tokens": format_tokens(row.input_tokens),
        "output_tokens": format_tokens(row.output_tokens),
        "request_type": row.request_type,
        "quality": UNKNOWN if row.quality is None else f"{row.quality:.3f}",
        "attempts": str(row.attempts),
        "fallback_used": "yes" if row.fallback_used else "",
        "degraded": ", ".join(row.degraded),
        "key_name": key_text(row),
        "end_user": row.end_user or "",
        "session_id": row.session_id or "",
        "purpose": row.purpose,
        "tags": tags_text(row),
    }


def key_text(row: LoggedRequest) -> str:
    """The key's name, or its id where it has none (any more); "" where there was no key."""
    return row.key_name or row.api_key_id or ""


def tags_text(row: LoggedRequest) -> str:
    """`customer: acme, team: b`."""
    return ", ".join(f"{name}: {value}" for name, value in sorted(row.tags.items()))


def outcome(row: LoggedRequest) -> str:
    """How it ended. A completed request may be none that succeeded: its answer was cut off, or refused."""
    if row.error_code:
        return f"{row.status}: {row.error_code}"
    return row.status if row.success or row.status != "completed" else "completed, truncated"


def csv_table(rows: Iterable[LoggedRequest]) -> Table:
    """The columns of the grid (and the ids), times in UTC, numbers as they are."""
    return _CSV, (_csv_row(row) for row in rows)


def count_text(total: int) -> str:
    """How many requests there are, and what of them is reached how."""
    text = f"{total:,} request{'' if total == 1 else 's'}"
    if total > GRID_ROWS:
        text += f"; the table reaches the first {GRID_ROWS:,} of the chosen order"
    if total > CSV_ROWS:
        text += f", the CSV has the newest {CSV_ROWS:,}: narrow the filters for others"
    return text


def _csv_row(row: LoggedRequest) -> Sequence[Any]:
    request_id, user_id, began_s, *figures, _, degraded = _CELLS(row)
    moment = utc(began_s).isoformat(timespec="milliseconds")
    return (request_id, user_id, moment, *figures, tags_text(row), " ".join(degraded))
