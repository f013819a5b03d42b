"""`/api/analytics/*`: single requests, hourly metrics and totals of one's own routers, as JSON or CSV; the routes, and
then their query parameters.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from aiohttp import web

from api.http.middleware import PRINCIPAL
from api.http.registry import Handler, QueryParam, RouteSpec, add_routes
from api.http.responses import columns_of, stream_csv
from api.routes.analytics_views import (
    HourlyItem,
    HourlyListing,
    RequestItem,
    RequestListing,
    Summary,
    group_view,
    hourly_view,
    request_view,
    summary_view,
)
from api.routes.resource import listed, paging, paging_params, shown
from modelpilot.errors import InvalidRequest, PermissionDenied
from modelpilot.management.resources import Page
from modelpilot.metrics.ports import DIMENSIONS, Group, MetricsReader, Row
from modelpilot.metrics.requests import AnalyticsScope, RequestFilter
from modelpilot.wire.json_model import WireModel

METRICS: web.AppKey[MetricsReader] = web.AppKey("metrics", MetricsReader)
ReadPage = Callable[[AnalyticsScope, RequestFilter, str | None, int], Awaitable[Page[Row]]]

MAX_LIMIT = 1_000

FILTERS = (
    QueryParam("routerId", "Only this router; empty for requests that named a model directly."),
    QueryParam("model", "Only this model."),
    QueryParam("provider", "Only this provider."),
    QueryParam("from", "Beginning of the range, inclusive: ISO 8601 (UTC where it names no offset) or Unix seconds."),
    QueryParam("to", "End of the range, exclusive; written like `from`."),
)
# Whose requests; the hourly rows do not have these.
WHOSE = (
    QueryParam("userId", "Only requests with this `user`; empty for those without."),
    QueryParam("keyId", "Only requests with this API key."),
    QueryParam("sessionId", "Only this session; empty for requests without."),
    QueryParam("purpose", "Only what was paid for this: `request`, `embedding` or `judge`."),
    QueryParam("tag.NAME", "Only requests whose tag NAME has this value; several must all be there."),
)
GROUP_BY = QueryParam("groupBy", f"`groups` by {', '.join(DIMENSIONS)}, or `tag.NAME`.")
_TAG = "tag."
_MOST_GROUPS = 1_000
PAGING = (
    *paging_params(MAX_LIMIT),
    QueryParam("format", "`json` (the default) or `csv`: all pages from the cursor on, as one file."),
)

_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
# Also the bounds of a range that is left open.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_LONGEST_NAME = 256


def register(app: web.Application, metrics: MetricsReader) -> None:
    """Add the routes over `metrics`."""
    app[METRICS] = metrics
    of_lists, of_sums = (*FILTERS, *PAGING), (*FILTERS, *WHOSE, GROUP_BY)
    add_routes(
        app,
        [
            _spec("requests", _requests, "Single requests, newest first", RequestListing, (*WHOSE, *of_lists)),
            _spec("hourly", _hourly, "Hourly metrics per router, model and provider", HourlyListing, of_lists),
            _spec("summary", _summary, "Totals of a range, and what routing saved", Summary, of_sums),
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
    return await _list(request, "requests", request.app[METRICS].requests, RequestItem, request_view, WHOSE)


async def _hourly(request: web.Request) -> web.StreamResponse:
    return await _list(request, "hourly", request.app[METRICS].hourly, HourlyItem, hourly_view)


async def _list(
    request: web.Request,
    name: str,
    read: ReadPage,
    item: type[WireModel],
    view: Callable[[Row], WireModel],
    also: Sequence[QueryParam] = (),
) -> web.StreamResponse:
    """One page as JSON, or all of them as CSV."""
    asked = _asked(request, (*PAGING, *also))
    cursor, limit = paging(request, MAX_LIMIT)
    pages = partial(read, asked.scope, asked.wanted)
    if _wants_csv(request):
        return await stream_csv(request, name, columns_of(item), pages, lambda row: view(row).to_wire(), cursor)
    return listed(await pages(cursor, limit), view)


async def _summary(request: web.Request) -> web.StreamResponse:
    asked, metrics = _asked(request, (*WHOSE, GROUP_BY)), request.app[METRICS]
    group = _group(request)
    summary = summary_view(asked.start, asked.end, await metrics.totals(asked.scope, asked.wanted))
    if group is not None:
        found = await metrics.groups(asked.scope, asked.wanted, group, _MOST_GROUPS)
        summary = summary.model_copy(update={"groups": [group_view(key, sums) for key, sums in found]})
    return shown(summary)


def _group(request: web.Request) -> Group | None:
    wanted = _name(request, GROUP_BY.name)
    if wanted is None:
        return None
    if wanted.startswith(_TAG) and len(wanted) > len(_TAG):
        return Group("tag", wanted.removeprefix(_TAG))
    if wanted not in DIMENSIONS:
        raise InvalidRequest.at(GROUP_BY.name, f"{', '.join(DIMENSIONS)} or tag.NAME was expected")
    return Group(wanted)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which rows; `start` and `end` as they were given, None where the range is open."""

    scope: AnalyticsScope
    wanted: RequestFilter
    start: datetime | None
    end: datetime | None


def _asked(request: web.Request, also: Collection[QueryParam] = ()) -> _Asked:
    """The filters of a request, within what its key may see. `also`: parameters that are read elsewhere.

    Raises InvalidRequest (also for a parameter that does not exist: ignored, it would show too much), PermissionDenied.
    """
    _refuse_unknown(request, {item.name for item in (*FILTERS, *also)})
    principal = request[PRINCIPAL]
    router_id = _name(request, "routerId")
    if principal.allowed_routers is not None and router_id is not None and router_id not in principal.allowed_routers:
        raise PermissionDenied("This API key may not see the analytics of that router.", param="routerId")
    start, end = _moment(request, "from"), _moment(request, "to")
    if start is not None and end is not None and start > end:
        raise InvalidRequest("from: it must not be after `to`", param="from")
    begin_s, end_s = (start or _EARLIEST).timestamp(), (end or _LATEST).timestamp()
    scope = AnalyticsScope(principal.user_id, begin_s, end_s, principal.allowed_routers)
    tags = {name.removeprefix(_TAG): _name(request, name) or "" for name in request.query if name.startswith(_TAG)}
    wanted = RequestFilter(
        router_id,
        _name(request, "model"),
        _name(request, "provider"),
        end_user=_name(request, "userId"),
        key=_name(request, "keyId"),
        session=_name(request, "sessionId"),
        purpose=_name(request, "purpose"),
        tags=tags or None,
    )
    return _Asked(scope, wanted, start, end)


def _wants_csv(request: web.Request) -> bool:
    kind = request.query.get("format", "json")
    if kind not in ("json", "csv"):
        raise InvalidRequest("format: `json` or `csv` was expected", param="format")
    return kind == "csv"


def _refuse_unknown(request: web.Request, known: Collection[str]) -> None:
    for name in request.query:
        is_tag = name.startswith(_TAG) and name != _TAG and "tag.NAME" in known
        if name not in known and not is_tag:
            raise InvalidRequest.at(name[:100], "there is no such parameter")
        if len(request.query.getall(name)) > 1:
            raise InvalidRequest.at(name, "it was given more than once")


def _name(request: web.Request, name: str) -> str | None:
    text = request.query.get(name)
    if text is None:
        return None
    if len(text) > _LONGEST_NAME or "\0" in text or not text.isprintable():
        raise InvalidRequest.at(name, "it is not a name that anything here has")
    return text


def _moment(request: web.Request, name: str) -> datetime | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromtimestamp(float(text), UTC) if _SECONDS.fullmatch(text) else _iso(text)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or not _EARLIEST <= moment <= _LATEST:
        raise InvalidRequest.at(name, "a time was expected, as ISO 8601 or as Unix seconds")
    return moment


def _iso(text: str) -> datetime:
    # An unescaped + of a query is a blank by the time it arrives here.
    moment = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
