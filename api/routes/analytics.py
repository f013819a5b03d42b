"""`/api/analytics/*`: single requests, hourly metrics and totals of one's own routers, as JSON or CSV.

Views first (the fields of an item, and their values from a row), then the routes, then their query parameters.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import AwareDatetime, Field

from api.http.middleware import PRINCIPAL
from api.http.registry import Handler, QueryParam, RouteSpec, add_routes
from api.http.responses import columns_of, stream_csv
from api.routes.resource import PageView, listed, paging, paging_params, shown
from modelpilot.errors import InvalidRequest, PermissionDenied
from modelpilot.management.resources import Page
from modelpilot.metrics.ports import MetricsReader, Row, Totals
from modelpilot.metrics.requests import AnalyticsScope, RequestFilter
from modelpilot.metrics.savings import STATEMENT, Saving, prediction_ratio, savings
from modelpilot.wire.json_model import WireModel


class Tokens(WireModel):
    """Token counts; cached and reasoning tokens are parts of input and output."""

    input: int
    output: int
    total: int
    cached: int
    reasoning: int


class RequestItem(WireModel):
    """One request. `routerId` is null where a model was named directly; `costUsd` null is unknown, never free."""

    request_id: str
    router_id: str | None
    timestamp: AwareDatetime
    model: str
    provider: str
    latency_ms: float
    ttft_ms: float | None
    overhead_ms: float
    cost_usd: float | None
    tokens: Tokens
    success: bool
    request_type: str
    quality: float | None
    attempts: int
    degraded: list[str]
    status: str
    finish_reason: str | None
    error_code: str | None
    fallback_used: bool
    explored: bool
    propensity: float
    config_version: int
    quality_source: str | None
    carbon_g: float | None
    stream: bool
    session_id: str | None
    api_key_id: str | None
    prompt_hash: str


class HourlyItem(WireModel):
    """One hour (UTC) of one router, model and provider. Percentiles and times to first token are of completed requests;
    `routerId` is empty for requests that named a model directly."""

    hour: AwareDatetime
    router_id: str
    model: str
    provider: str
    requests: int
    success_count: int
    success_rate: float
    total_latency_ms: float
    avg_latency_ms: float
    total_cost_usd: float
    avg_cost_usd: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    input_tokens: int
    output_tokens: int
    updated_at: AwareDatetime
    p99_latency_ms: float | None
    p50_ttft_ms: float | None
    p50_overhead_ms: float | None
    cached_tokens: int
    reasoning_tokens: int
    failed_count: int
    canceled_count: int
    fallback_count: int
    degraded_count: int
    explored_count: int
    attempt_count: int
    known_cost_count: int
    unknown_cost_count: int
    total_carbon_g: float
    unknown_carbon_count: int
    quality_count: int
    avg_quality: float | None


class SavingView(Saving):
    """Baseline less actual over the same requests; shares are of the baseline, null where nothing is known."""


class Savings(WireModel):
    """Savings against each baseline. `completed`: what there was to compare. `actualByPredictedCost`: how far the
    predictions were off for the models that answered."""

    completed: int
    baselines: list[SavingView]
    actual_by_predicted_cost: float | None
    statement: str


class Summary(WireModel):
    """Totals of a range. What was recorded after `aggregatedThrough` may be missing from hours that are long over."""

    from_: AwareDatetime | None = Field(alias="from")
    to: AwareDatetime | None
    requests: int
    success_count: int
    success_rate: float | None
    failed_count: int
    canceled_count: int
    fallback_count: int
    degraded_count: int
    explored_count: int
    attempt_count: int
    total_latency_ms: float
    avg_latency_ms: float | None
    total_cost_usd: float
    avg_cost_usd: float | None
    unknown_cost_count: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_carbon_g: float
    unknown_carbon_count: int
    quality_count: int
    avg_quality: float | None
    savings: Savings
    hours_from_metrics: int
    aggregated_through: AwareDatetime | None


class RequestListing(PageView[RequestItem]):
    """Requests, newest first."""


class HourlyListing(PageView[HourlyItem]):
    """Hourly metrics, newest first."""


def request_view(row: Row) -> RequestItem:
    """A request out of its row."""
    same = {name: row[name] for name in RequestItem.model_fields if name in row}
    inp, out, cached, reasoning = (row[f"{kind}_tokens"] for kind in ("input", "output", "cached", "reasoning"))
    tokens = Tokens(input=inp, output=out, total=inp + out, cached=cached, reasoning=reasoning)
    return RequestItem(**same, timestamp=_utc(row["created_at"]), tokens=tokens)


def hourly_view(row: Row) -> HourlyItem:
    """An hourly row."""
    same = {name: row[name] for name in HourlyItem.model_fields}
    return HourlyItem(**{**same, "hour": _utc(row["hour"]), "updated_at": _utc(row["updated_at"])})


def summary_view(start: datetime | None, end: datetime | None, totals: Totals) -> Summary:
    """Totals from `start` to `end` (None: open), with what follows from them."""
    sums = totals.sums
    reals = ("total_latency_ms", "total_cost_usd", "total_carbon_g")
    shown = [name for name in Summary.model_fields if name in sums]
    values: dict[str, Any] = {name: float(sums[name]) if name in reals else int(sums[name]) for name in shown}
    completed = int(sums["requests"] - sums["failed_count"] - sums["canceled_count"])
    return Summary(
        **values,
        from_=start,
        to=end,
        total_tokens=int(sums["input_tokens"] + sums["output_tokens"]),
        success_rate=_ratio(sums["success_count"], sums["requests"]),
        avg_latency_ms=_ratio(sums["total_latency_ms"], sums["requests"]),
        avg_cost_usd=_ratio(sums["total_cost_usd"], sums["known_cost_count"]),
        avg_quality=_ratio(sums["quality_sum"], sums["quality_count"]),
        savings=Savings(
            completed=completed,
            baselines=[SavingView(**dict(saving)) for saving in savings(totals.baselines)],
            actual_by_predicted_cost=prediction_ratio(totals.baselines),
            statement=STATEMENT,
        ),
        hours_from_metrics=totals.hours_from_metrics,
        aggregated_through=None if totals.aggregated_through is None else _utc(totals.aggregated_through),
    )


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


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
    of_lists = (*FILTERS, *PAGING)
    add_routes(
        app,
        [
            _spec("requests", _requests, "Single requests, newest first", RequestListing, of_lists),
            _spec("hourly", _hourly, "Hourly metrics per router, model and provider", HourlyListing, of_lists),
            _spec("summary", _summary, "Totals of a range, and what routing saved", Summary, FILTERS),
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
    return await _list(request, "requests", request.app[METRICS].requests, RequestItem, request_view)


async def _hourly(request: web.Request) -> web.StreamResponse:
    return await _list(request, "hourly", request.app[METRICS].hourly, HourlyItem, hourly_view)


async def _list(
    request: web.Request, name: str, read: ReadPage, item: type[WireModel], view: Callable[[Row], WireModel]
) -> web.StreamResponse:
    """One page as JSON, or all of them as CSV."""
    asked = _asked(request, PAGING)
    cursor, limit = paging(request, MAX_LIMIT)
    pages = partial(read, asked.scope, asked.wanted)
    if _wants_csv(request):
        return await stream_csv(request, name, columns_of(item), pages, lambda row: view(row).to_wire(), cursor)
    return listed(await pages(cursor, limit), view)


async def _summary(request: web.Request) -> web.StreamResponse:
    asked = _asked(request)
    totals = await request.app[METRICS].totals(asked.scope, asked.wanted)
    return shown(summary_view(asked.start, asked.end, totals))


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
    wanted = RequestFilter(router_id, _name(request, "model"), _name(request, "provider"))
    return _Asked(scope, wanted, start, end)


def _wants_csv(request: web.Request) -> bool:
    kind = request.query.get("format", "json")
    if kind not in ("json", "csv"):
        raise InvalidRequest("format: `json` or `csv` was expected", param="format")
    return kind == "csv"


def _refuse_unknown(request: web.Request, known: Collection[str]) -> None:
    for name in request.query:
        if name not in known:
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
