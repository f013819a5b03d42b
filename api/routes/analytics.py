"""`/api/analytics/*`: single requests, hourly metrics and totals of one's own routers."""

from collections.abc import Sequence
from functools import partial

from aiohttp import web

from api.csv_stream import columns_of, stream_csv
from api.registry import Handler, QueryParam, RouteSpec, add_routes
from api.responses import json_response
from api.routes import analytics_query as query
from api.routes.analytics_views import (
    HourlyItem,
    HourlyListing,
    RequestItem,
    RequestListing,
    Summary,
    hourly_view,
    request_view,
    summary_view,
)
from modelpilot.metrics.analytics import MetricsReader, Row
from modelpilot.wire.json_model import WireModel

METRICS: web.AppKey[MetricsReader] = web.AppKey("metrics", MetricsReader)


def register(app: web.Application, metrics: MetricsReader) -> None:
    """Add the routes over `metrics`."""
    app[METRICS] = metrics
    listed = (*query.FILTERS, *query.PAGING)
    add_routes(
        app,
        [
            _spec("requests", _requests, "Single requests, newest first", RequestListing, listed),
            _spec("hourly", _hourly, "Hourly metrics per router, model and provider", HourlyListing, listed),
            _spec("summary", _summary, "Totals of a range, and what routing saved", Summary, query.FILTERS),
        ],
    )


def _spec(
    name: str, handler: Handler, summary: str, response: type[WireModel], params: Sequence[QueryParam]
) -> RouteSpec:
    return RouteSpec(
        "GET",
        f"/api/analytics/{name}",
        handler,
        "analytics",
        summary,
        "analytics",
        None,
        response,
        query=tuple(params),
        also=frozenset({"admin"}),
    )


async def _requests(request: web.Request) -> web.StreamResponse:
    wanted, page = query.filters(request, query.PAGING), query.page(request)
    pages = partial(request.app[METRICS].requests, wanted)
    if page.csv:
        return await stream_csv(request, "requests", _REQUEST_COLUMNS, pages, _request_row, page.cursor)
    found = await pages(page.cursor, page.limit)
    return json_response({"items": [_request_row(row) for row in found.items], "nextCursor": found.next_cursor})


async def _hourly(request: web.Request) -> web.StreamResponse:
    wanted, page = query.filters(request, query.PAGING), query.page(request)
    pages = partial(request.app[METRICS].hourly, wanted)
    if page.csv:
        return await stream_csv(request, "hourly", _HOURLY_COLUMNS, pages, _hourly_row, page.cursor)
    found = await pages(page.cursor, page.limit)
    return json_response({"items": [_hourly_row(row) for row in found.items], "nextCursor": found.next_cursor})


async def _summary(request: web.Request) -> web.StreamResponse:
    wanted = query.filters(request)
    totals = await request.app[METRICS].totals(wanted)
    return json_response(summary_view(wanted, totals).to_wire())


def _request_row(row: Row) -> dict[str, object]:
    return request_view(row).to_wire()


def _hourly_row(row: Row) -> dict[str, object]:
    return hourly_view(row).to_wire()


_REQUEST_COLUMNS = columns_of(RequestItem)
_HOURLY_COLUMNS = columns_of(HourlyItem)
