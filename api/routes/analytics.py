"""`/api/analytics/*`: single requests, hourly metrics and totals of one's own routers, as JSON or CSV; the routes, and
then their query parameters.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiohttp import web

from api.http.middleware import PRINCIPAL
from api.http.registry import Handler, QueryParam, RouteSpec, add_routes
from api.http.responses import columns_of, json_response, stream_csv
from api.routes.analytics_views import (
    DimensionsBody,
    DimensionsView,
    GroupView,
    HourlyGroupItem,
    HourlyItem,
    HourlyListing,
    RequestItem,
    RequestListing,
    Summary,
    dimensions_view,
    group_view,
    hourly_group_view,
    hourly_view,
    request_view,
    summary_lines,
    summary_view,
)
from api.routes.resource import actor_of, owner_of, paging, paging_params, read_new, shown
from modelpilot.chat.body import MAX_TAG_VALUE
from modelpilot.errors import InvalidRequest, PermissionDenied
from modelpilot.management.resources import Page
from modelpilot.metrics.dimensions import TAG, Dimensions, hourly_for
from modelpilot.metrics.ports import DIMENSIONS, Group, MetricsReader, Row
from modelpilot.metrics.requests import AnalyticsScope, RequestFilter
from modelpilot.wire.json_model import WireModel

CHOSEN: web.AppKey[Dimensions] = web.AppKey("dimensions", Dimensions)
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
# Whose requests; the hourly rows know one of these at once, and no sessions.
WHOSE = (
    QueryParam("userId", "Only requests with this `user`; empty for those without."),
    QueryParam("keyId", "Only requests with this API key."),
    QueryParam("sessionId", "Only this session; empty for requests without."),
    QueryParam("purpose", "Only what was paid for this: `request`, `embedding` or `judge`."),
    QueryParam(
        "tag.NAME", "Only requests with this value of the tag NAME (empty: without it); several must all be there."
    ),
)
GROUP_BY = QueryParam("groupBy", f"`groups` by {', '.join(DIMENSIONS)}, or `tag.NAME`.")
BY_HOUR = QueryParam(
    "groupBy", "By one of routerId, model, provider, userId, keyId, purpose, or the dimension `tag.NAME`."
)
_MOST_GROUPS = 1_000
PAGING = (
    *paging_params(MAX_LIMIT),
    QueryParam("format", "`json` (the default) or `csv`: all pages from the cursor on, as one file."),
)
AS_FILE = QueryParam("format", "`json` (the default) or `csv`: a line of totals and savings, or one for each group.")

_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
# Also the bounds of a range that is left open.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_LONGEST_NAME = 256
# What was read of the dimensions may be written back.
_READ_ONLY = ("builtIn", "pendingHours", "mostValues")


def register(app: web.Application, metrics: MetricsReader, dimensions: Dimensions) -> None:
    """Add the routes over `metrics`, of which owners choose `dimensions`."""
    app[METRICS], app[CHOSEN] = metrics, dimensions
    filters, of_sums = (*FILTERS, *WHOSE), (*FILTERS, *WHOSE, GROUP_BY, AS_FILE)
    title = "Hourly metrics per router, model and provider, or by a dimension"
    add_routes(
        app,
        [
            _spec("requests", _requests, "Single requests, newest first", RequestListing, (*filters, *PAGING)),
            _spec("hourly", _hourly, title, HourlyListing, (*filters, BY_HOUR, *PAGING)),
            _spec("summary", _summary, "Totals of a range, and what routing saved", Summary, of_sums),
            _spec("dimensions", _dimensions, "The dimensions of the hourly metrics", DimensionsView, ()),
            RouteSpec(
                "PUT", "/api/analytics/dimensions", _choose, "admin", "Choose the tags that are dimensions",
                "analytics", DimensionsBody, DimensionsView,
            ),
        ],
    )  # fmt: skip


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
    tags = (await request.app[CHOSEN].chosen(owner_of(request))).tags if _wants_csv(request) else ()

    def view(row: Row) -> dict[str, Any]:
        named = row["tags"]
        return {**request_view(row).to_wire(), **{TAG + name: named.get(name) for name in tags}}

    columns = (*columns_of(RequestItem), *(TAG + name for name in tags))
    listing = _Listing("requests", request.app[METRICS].requests, columns, view)
    return await _list(request, listing, _asked(request, (*PAGING, *WHOSE)))


async def _hourly(request: web.Request) -> web.StreamResponse:
    asked, metrics = _asked(request, (*PAGING, *WHOSE, BY_HOUR)), request.app[METRICS]
    group = _group(request)
    await _check_hours(request, asked, group)
    if group is None:
        listing = _Listing("hourly", metrics.hourly, columns_of(HourlyItem), lambda row: hourly_view(row).to_wire())
        return await _list(request, listing, asked)

    async def read(scope: AnalyticsScope, wanted: RequestFilter, cursor: str | None, limit: int) -> Page[Row]:
        return await metrics.hourly_groups(scope, wanted, group, cursor, limit)

    columns = columns_of(HourlyGroupItem)
    return await _list(request, _Listing("hourly", read, columns, lambda row: hourly_group_view(row).to_wire()), asked)


async def _check_hours(request: web.Request, asked: "_Asked", group: Group | None) -> None:
    """Raises InvalidRequest for what hourly rows do not tell apart: to show none would say that there was none."""
    by = None if group is None else TAG + group.tag if group.dimension == "tag" else group.dimension
    named = [name for name in request.query if name.startswith(TAG)]
    chosen = (await request.app[CHOSEN].chosen(owner_of(request))).tags if named or by else ()
    for name, param in ((by, GROUP_BY.name), *((name, name) for name in named)):
        if name and name.startswith(TAG) and name.removeprefix(TAG) not in chosen:
            raise InvalidRequest.at(param, f"{name} is no dimension; choose it with PUT /api/analytics/dimensions")
    if hourly_for(asked.scope, asked.wanted, by) is None:
        whose = [item.name for item in WHOSE if item.name in request.query]
        param = "sessionId" if "sessionId" in whose else GROUP_BY.name if group else [*whose, *named][-1]
        raise InvalidRequest.at(
            param, "an hourly row knows one of userId, keyId, purpose and tags at once, and no sessions or types"
        )


async def _dimensions(request: web.Request) -> web.StreamResponse:
    return shown(dimensions_view(await request.app[CHOSEN].chosen(owner_of(request))))


async def _choose(request: web.Request) -> web.StreamResponse:
    body = await read_new(request, DimensionsBody, _READ_ONLY)
    chosen = await request.app[CHOSEN].choose(owner_of(request), body.tags, actor_of(request))
    return shown(dimensions_view(chosen))


@dataclass(frozen=True, slots=True)
class _Listing:
    """A list: how its pages are read, the columns of its CSV, and its rows as JSON."""

    name: str
    read: ReadPage
    columns: Sequence[str]
    view: Callable[[Row], Mapping[str, Any]]


async def _list(request: web.Request, listing: _Listing, asked: "_Asked") -> web.StreamResponse:
    """One page as JSON, or all of them as CSV."""
    cursor, limit = paging(request, MAX_LIMIT)
    pages = partial(listing.read, asked.scope, asked.wanted)
    if _wants_csv(request):
        return await stream_csv(request, listing.name, listing.columns, pages, listing.view, cursor)
    page = await pages(cursor, limit)
    return json_response({"items": [listing.view(row) for row in page.items], "nextCursor": page.next_cursor})


async def _summary(request: web.Request) -> web.StreamResponse:
    asked, metrics = _asked(request, (*WHOSE, GROUP_BY, AS_FILE)), request.app[METRICS]
    group, as_file = _group(request), _wants_csv(request)
    summary = summary_view(asked.start, asked.end, await metrics.totals(asked.scope, asked.wanted))
    if group is not None:
        found = await metrics.groups(asked.scope, asked.wanted, group, _MOST_GROUPS)
        groups = [group_view(key, sums) for key, sums in found.groups]
        told = {"groups": groups, "group_hours_from_metrics": found.hours_from_metrics}
        summary = summary.model_copy(update=told)
    if not as_file:
        return shown(summary)
    lines = summary_lines(summary)

    async def all_of_them(_: str | None, __: int) -> Page[Row]:
        return Page(tuple(lines))

    columns = tuple(lines[0]) if group is None else columns_of(GroupView)
    return await stream_csv(request, "summary", columns, all_of_them, lambda line: line, None)


def _group(request: web.Request) -> Group | None:
    wanted = _name(request, GROUP_BY.name)
    if wanted is None:
        return None
    if wanted.startswith(TAG) and len(wanted) > len(TAG):
        return Group("tag", wanted.removeprefix(TAG))
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
    tags = {name.removeprefix(TAG): _said(request, name) or "" for name in request.query if name.startswith(TAG)}
    wanted = RequestFilter(
        router_id,
        _name(request, "model"),
        _name(request, "provider"),
        end_user=_said(request, "userId"),
        key=_name(request, "keyId"),
        session=_said(request, "sessionId"),
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
        is_tag = name.startswith(TAG) and name != TAG and "tag.NAME" in known
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


def _said(request: web.Request, name: str) -> str | None:
    """What clients call their users, sessions and tags: any text that they may send."""
    text = request.query.get(name)
    if text is not None and (len(text) > MAX_TAG_VALUE or "\0" in text):
        raise InvalidRequest.at(name[:100], "it is not a value that anything here has")
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
