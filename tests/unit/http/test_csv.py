"""CSV: cells, columns, and a list that is read page by page."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st

from api.http.responses import cell, columns_of, flattened, stream_csv
from api.routes.analytics_views import HourlyItem, RequestItem
from modelpilot.management.resources import Page


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_text(start: str) -> None:
    """A spreadsheet that opens the file runs nothing that a client has sent."""
    assert cell(f"{start}1+1") == f"'{start}1+1"
    assert cell([f"{start}1", "x"]) == f"'{start}1 x"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (False, "false"), (-0.5, "-0.5"), (1e-7, "1e-07"), (3, "3"), ("a=b", "a=b"), ([], "")],
)
def test_values(value: Any, text: str) -> None:
    """Numbers stay numbers, with all their digits; null is empty."""
    assert cell(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(value: float) -> None:
    """What was written is what is read."""
    assert float(cell(value)) == value


def test_columns_are_those_of_the_json() -> None:
    """In the same order, inner objects with a dot; every column is there, whatever a row has."""
    columns = columns_of(RequestItem)
    assert columns[:2] == ("requestId", "routerId")
    assert "tokens.total" in columns
    assert flattened({"a": 1, "tokens": {"input": 2}}) == {"a": 1, "tokens.input": 2}
    assert columns_of(HourlyItem)[0] == "hour"


Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


@pytest.mark.parametrize(("max_rows", "shown", "asked"), [(9, 5, ["None", "2", "4"]), (3, 3, ["None", "2"])])
async def test_a_list_is_read_page_by_page_up_to_its_cap(
    aiohttp_client: Client, max_rows: int, shown: int, asked: list[str]
) -> None:
    """Every page follows the cursor of the one before, and no export is endless."""
    cursors: list[str] = []

    async def pages(cursor: str | None, limit: int) -> Page[Mapping[str, Any]]:
        cursors.append(str(cursor))
        first = int(cursor or 0)
        rows = tuple({"number": number} for number in range(first, min(first + limit, 5)))
        return Page(rows, str(first + limit) if first + limit < 5 else None)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await stream_csv(request, "n", ["number"], pages, dict, None, page_rows=2, max_rows=max_rows)

    app = web.Application()
    app.router.add_get("/", handle)
    text = await (await (await aiohttp_client(app)).get("/")).text()
    assert text.split() == ["number", *map(str, range(shown))]
    assert cursors == asked


async def test_head_of_a_list_sends_no_rows(aiohttp_client: Client) -> None:
    """A body behind the answer to HEAD would be taken for the next answer on the connection."""

    async def pages(cursor: str | None, limit: int) -> Page[Mapping[str, Any]]:
        return Page(({"n": 1},), None)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await stream_csv(request, "x", ["n"], pages, lambda row: row, None)

    app = web.Application()
    app.router.add_route("*", "/", handle)
    client = await aiohttp_client(app)
    assert (await client.head("/")).status == 200
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
