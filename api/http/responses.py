"""Answers as JSON, and lists as CSV that is streamed page by page."""

import csv
from collections.abc import Awaitable, Callable, Mapping, Sequence
from io import StringIO
from typing import Any

from aiohttp import hdrs, web

from modelpilot.management.resources import Page
from modelpilot.metrics.ports import Row
from modelpilot.wire.json_model import WireModel
from modelpilot.wire.jsonb import dump

# A spreadsheet has a million lines; whoever needs more wants the warehouse sink.
MAX_ROWS = 1_000_000
PAGE_ROWS = 1_000
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Pages = Callable[[str | None, int], Awaitable[Page[Row]]]
View = Callable[[Row], Mapping[str, Any]]


def json_response(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A complete JSON answer."""
    return web.Response(body=dump(data), status=status, headers=headers, content_type="application/json")


async def stream_csv(
    request: web.Request,
    name: str,
    columns: Sequence[str],
    pages: Pages,
    view: View,
    cursor: str | None,
    *,
    page_rows: int = PAGE_ROWS,
    max_rows: int = MAX_ROWS,
) -> web.StreamResponse:
    """All pages from `cursor` on, at most `max_rows` rows. `columns` are the keys of a row of `view`, flattened.

    The first page is read before anything is sent, so that an error can still be one.
    """
    page = await pages(cursor, page_rows)
    response = web.StreamResponse(headers={"content-disposition": f'attachment; filename="{name}.csv"'})
    response.content_type, response.charset = "text/csv", "utf-8"
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    await response.write(_lines([columns]))
    rows = 0
    while True:
        shown = page.items[: max_rows - rows]
        rows += len(shown)
        await response.write(_lines([_cells(view(row), columns) for row in shown]))
        if page.next_cursor is None or rows >= max_rows:
            break
        page = await pages(page.next_cursor, page_rows)
    await response.write_eof()
    return response


def columns_of(model: type[WireModel]) -> tuple[str, ...]:
    """The columns of a list of `model`: its JSON names, those of an inner object with its own name and a dot before."""
    names: list[str] = []
    for name, info in model.model_fields.items():
        alias, inner = info.alias or name, info.annotation
        if isinstance(inner, type) and issubclass(inner, WireModel):
            names += [f"{alias}.{each}" for each in columns_of(inner)]
        else:
            names.append(alias)
    return tuple(names)


def flattened(item: Mapping[str, Any]) -> dict[str, Any]:
    """Objects as dotted columns: `tokens.input`."""
    flat: dict[str, Any] = {}
    for name, value in item.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": deep for inner, deep in value.items()}
        else:
            flat[name] = value
    return flat


def cell(value: Any) -> str:
    """A value as text: null is empty, lists are joined by blanks, an object is JSON (one without names is empty), and
    what looks like a formula gets an apostrophe."""
    if value is None or value == {}:
        return ""
    if isinstance(value, Mapping):
        return dump(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _cells(item: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    flat = {**item, **flattened(item)}
    return [cell(flat.get(name)) for name in columns]


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    # A lone surrogate cannot be in Postgres, but an error half-way through a file would be worse than a mark.
    return buffer.getvalue().encode("utf-8", "replace")
