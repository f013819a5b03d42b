"""What the Overview page reads: `modelpilot.metrics.overview.OverviewReader` on Postgres.

Sums come from the hourly totals where these are up to date, so that a million requests stay some thousand rows;
percentiles come from the requests themselves, a sample of them where there are many.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from infra.db.metrics.aggregation_sql import (
    BASELINE_COLUMNS,
    BASELINE_ROWS,
    BASELINE_SUMS,
    HAS_BASELINE,
    MEASURES,
    TOTALS_COLUMNS,
)
from infra.db.metrics.analytics import by_baseline
from infra.db.metrics.hour_parts import OF_HOURS, only_raw, read_parts
from infra.db.metrics.reading import OF_USER, SAMPLED, SyncPool, latest_request_s, moments, percent_of_pages
from modelpilot.metrics.overview import (
    NO_MODEL,
    AnalyticsScope,
    Choices,
    ModelShare,
    Overview,
    RecentRequest,
    RequestBucket,
    RequestSummary,
)
from modelpilot.metrics.savings import savings
from modelpilot.providers.pricing import carbon_range_g
from modelpilot.requests.records import RequestKey

HOUR_S = 3_600
# Percentiles of many more requests than this are those of a sample of about as many (`percent_of_pages`).
SAMPLE = 20_000

# An unknown cost is counted where an answer was delivered; a request that failed before any call has none.
_SUMS = ", ".join(f"{MEASURES[name]} AS {name}" for name in TOTALS_COLUMNS)
_HOURLY_SUMS = ", ".join(f"sum({name}) AS {name}" for name in TOTALS_COLUMNS)
_BUCKET: LiteralString = "date_bin(make_interval(secs => %(bucket_s)s), {moment}, 'epoch'::timestamptz)"

# One pass for totals and charts: a row per model and bucket is little to add up here, while GROUPING SETS would sort
# the whole range twice.
_CELLS = f"""
SELECT model, {_BUCKET.format(moment="created_at")} AS bucket, {_SUMS} FROM requests
WHERE {{of_raw}} AND {OF_USER} GROUP BY 1, 2
UNION ALL
SELECT model, {_BUCKET.format(moment="hour")} AS bucket, {_HOURLY_SUMS} FROM hourly_totals
WHERE {OF_HOURS} AND {OF_USER} GROUP BY 1, 2"""  # noqa: S608 - constants

_BASELINES = f"""
SELECT side.* FROM (SELECT {BASELINE_SUMS} FROM requests WHERE {{of_raw}} AND {OF_USER}) AS sums, {BASELINE_ROWS}
WHERE {HAS_BASELINE}
UNION ALL
SELECT baseline, {", ".join(f"sum({name})" for name in BASELINE_COLUMNS)} FROM hourly_baseline_totals
WHERE {OF_HOURS} AND {OF_USER} GROUP BY 1"""  # noqa: S608 - constants

# Of completed requests: one that failed at once would make the models look quick.
_PERCENTILES = """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ttft_ms) AS ttft_p50_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY overhead_ms) AS overhead_p50_ms,
       count(*) AS measured
FROM {table}
WHERE created_at >= %(start)s AND created_at < %(end)s AND status = 'completed' AND {of_user}"""

# The index orders requests within their owner, so the newest of all are found among the newest of each.
_RECENT: LiteralString = """
SELECT newest.* FROM users CROSS JOIN LATERAL (
    SELECT user_id, request_id, created_at, router_id, model, provider, latency_ms, overhead_ms, cost_usd, status,
           fallback_used, error_code
    FROM requests
    WHERE requests.user_id = users.id AND created_at >= %(start)s AND created_at < %(end)s
    ORDER BY created_at DESC, request_id DESC LIMIT %(limit)s
) AS newest
WHERE %(user_id)s::text IS NULL OR users.id = %(user_id)s
ORDER BY created_at DESC, request_id DESC LIMIT %(limit)s"""


class PostgresOverviewReader:
    """Implements `modelpilot.metrics.overview.OverviewReader`. May be called from many threads."""

    def __init__(self, pool: SyncPool, carbon_ranges: Callable[[], Mapping[str, tuple[float, float]]] = dict) -> None:
        """`carbon_ranges` gives the range of each model's carbon as multiples of its figure."""
        self._pool, self._carbon_ranges = pool, carbon_ranges

    def overview(self, scope: AnalyticsScope, bucket_s: int, recent_limit: int) -> Overview:
        """The Overview page of a scope, in one snapshot. Raises DependencyUnavailable."""
        start, end = moments(scope)
        with self._pool.transaction() as connection:
            hours = read_parts(connection, start, end)
            # A bucket that is no multiple of an hour cannot be put together from hours.
            parts = only_raw(start, end) if bucket_s % HOUR_S else hours
            given = {"user_id": scope.user_id, "start": start, "end": end, "bucket_s": bucket_s, "limit": recent_limit}
            given |= parts.parameters
            cells = _rows(connection, _CELLS.format(of_raw=parts.of_raw), given)
            baselines = _rows(connection, _BASELINES.format(of_raw=parts.of_raw), given)
            measured = _percentiles(connection, sum(int(cell["requests"]) for cell in cells), given)
            recent = _rows(connection, _RECENT, given)
            latest_s = latest_request_s(connection, scope.user_id)
        shares = _shares(cells)
        between = carbon_range_g({share.model: share.carbon_g for share in shares}, self._carbon_ranges())
        return Overview(
            summary=replace(_summary(cells, measured), carbon_range_g=between),
            shares=shares,
            buckets=_buckets(cells),
            recent=tuple(_recent(row) for row in recent),
            latest_request_s=latest_s,
            savings=tuple(one for one in savings(by_baseline(baselines)) if one.requests),
            aggregated_through_s=hours.through.timestamp() if hours.through else None,
        )


def _rows(connection: Connection[DictRow], query: str, given: Mapping[str, Any]) -> list[DictRow]:
    return connection.execute(query, given).fetchall()


def _percentiles(connection: Connection[DictRow], requests: int, given: Mapping[str, Any]) -> DictRow:
    percent = percent_of_pages(connection, requests, SAMPLE)
    query = _PERCENTILES.format(table="requests" if percent is None else SAMPLED, of_user=OF_USER)
    (row,) = _rows(connection, query, {**given, "percent": percent})
    return {**row, "sampled": percent is not None}


def _summary(cells: Iterable[Mapping[str, Any]], measured: Mapping[str, Any]) -> RequestSummary:
    sums = _added_up(cells, lambda _: None)[None]
    p50_ms, p95_ms = measured["latency_ms"] or (None, None)
    return RequestSummary(
        requests=int(sums["requests"]),
        failed=int(sums["failed_count"]),
        canceled=int(sums["canceled_count"]),
        fallbacks=int(sums["fallback_count"]),
        cost_usd=sums["total_cost_usd"],
        unknown_cost=int(sums["unknown_cost_count"]),
        latency_p50_ms=p50_ms,
        latency_p95_ms=p95_ms,
        overhead_p50_ms=measured["overhead_p50_ms"],
        ttft_p50_ms=measured["ttft_p50_ms"],
        carbon_g=sums["total_carbon_g"],
        unknown_carbon=int(sums["unknown_carbon_count"]),
        sampled=measured["measured"] if measured["sampled"] else None,
    )


def _shares(cells: Iterable[Mapping[str, Any]]) -> tuple[ModelShare, ...]:
    shares = [
        ModelShare(
            model or NO_MODEL,
            int(sums["requests"]),
            int(sums["failed_count"]),
            sums["total_cost_usd"],
            sums["total_carbon_g"],
        )
        for model, sums in _added_up(cells, lambda cell: cell["model"]).items()
    ]
    return tuple(sorted(shares, key=lambda share: (-share.requests, share.model)))


def _buckets(cells: Iterable[Mapping[str, Any]]) -> tuple[RequestBucket, ...]:
    buckets = [
        RequestBucket(start.timestamp(), int(sums["requests"]), int(sums["failed_count"]))
        for start, sums in _added_up(cells, lambda cell: cell["bucket"]).items()
    ]
    return tuple(sorted(buckets, key=lambda bucket: bucket.start_s))


def _added_up(
    cells: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], Any]
) -> dict[Any, dict[str, float]]:
    """Sums of every figure by what `key` says of a cell. Postgres gives numeric for sums of bigint."""
    sums: dict[Any, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for cell in cells:
        for name, value in cell.items():
            if name not in ("model", "bucket"):
                sums[key(cell)][name] += float(value)
    return sums


def _recent(row: DictRow) -> RecentRequest:
    key = RequestKey(row["user_id"], row["request_id"])
    values = {**row, "created_at": row["created_at"].timestamp(), "workflow_id": key.workflow_id}
    return RecentRequest(**values)


# What there is to filter by on the analytics site: `modelpilot.metrics.overview.ChoiceReader` on Postgres.

_DAYS = 90
_MOST = 1_000  # a filter with more is no longer one to choose from

# The hourly sums are few rows; the hours that are not summed up yet are read from the requests themselves. DISTINCT in
# each part: of both together, Postgres would not know how few names there are, and sort.
_CHOICES: LiteralString = """
WITH named AS (
    SELECT DISTINCT router_id, model, provider FROM hourly_metrics
    WHERE hour > now() - make_interval(days => %(days)s) AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
    UNION
    SELECT DISTINCT router_id, model, provider FROM requests
    WHERE created_at > now() - interval '2 hours' AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
)
SELECT array(SELECT DISTINCT router_id FROM named WHERE router_id > '' ORDER BY 1 LIMIT %(most)s) AS routers,
       array(SELECT DISTINCT model FROM named WHERE model > '' ORDER BY 1 LIMIT %(most)s) AS models,
       array(SELECT DISTINCT provider FROM named WHERE provider > '' ORDER BY 1 LIMIT %(most)s) AS providers"""


class PostgresChoiceReader:
    """Implements `modelpilot.metrics.overview.ChoiceReader`."""

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool

    def choices(self, user_id: str | None) -> Choices:
        """Names in a tenant's requests of the last 90 days, of every tenant for None. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            row = connection.execute(_CHOICES, {"user_id": user_id, "days": _DAYS, "most": _MOST}).fetchone() or {}
        return Choices(*(tuple(row.get(name) or ()) for name in ("routers", "models", "providers")))

    def tenants(self) -> tuple[str, ...]:
        """Every tenant, by name; for admins only. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            rows = connection.execute("SELECT id FROM users ORDER BY id LIMIT %s", (_MOST,)).fetchall()
        return tuple(row["id"] for row in rows)
