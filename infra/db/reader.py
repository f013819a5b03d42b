"""What the analytics site reads, from Postgres: `modelpilot.analytics.DashboardReader` over a small synchronous pool.

Synchronous since Dash is; the gateway's asynchronous pool (`engine.py`) lives in another process.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from infra.db.engine import RETRY_AFTER_S, plain_url
from modelpilot.analytics import (
    NO_MODEL,
    AnalyticsScope,
    ModelShare,
    Overview,
    RecentRequest,
    RequestBucket,
    RequestSummary,
)
from modelpilot.errors import DependencyUnavailable
from modelpilot.records import RequestKey

# Percentiles are of completed requests: one that failed at once would make the models look quick. An unknown cost is
# counted where an answer was delivered; a request that failed before any call has none.
_SUMMARY: LiteralString = """
SELECT count(*) AS requests,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'canceled') AS canceled,
       count(*) FILTER (WHERE fallback_used) AS fallbacks,
       coalesce(sum(cost_usd), 0) AS cost_usd,
       count(*) FILTER (WHERE cost_usd IS NULL AND status = 'completed') AS unknown_cost,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY latency_ms)
           FILTER (WHERE status = 'completed') AS latency_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY overhead_ms) FILTER (WHERE status = 'completed') AS overhead_p50_ms
FROM requests"""

# One pass over the rows for both charts: a row per model and bucket is little to add up here, while GROUPING SETS would
# sort the whole range twice (1.3 s instead of 0.7 s for a million rows).
_CELLS: LiteralString = """
SELECT model, date_bin(make_interval(secs => %(bucket_s)s), created_at, 'epoch'::timestamptz) AS bucket,
       count(*) AS requests, count(*) FILTER (WHERE status = 'failed') AS failed,
       coalesce(sum(cost_usd), 0) AS cost_usd
FROM requests"""
_PER_CELL: LiteralString = " GROUP BY 1, 2"

_IN_RANGE: LiteralString = " WHERE created_at >= %(start)s AND created_at < %(end)s"
_OF_USER: LiteralString = " AND user_id = %(user_id)s"

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

_LATEST: LiteralString = """
SELECT max(newest.created_at) AS latest FROM users CROSS JOIN LATERAL (
    SELECT created_at FROM requests WHERE requests.user_id = users.id ORDER BY created_at DESC LIMIT 1
) AS newest
WHERE %(user_id)s::text IS NULL OR users.id = %(user_id)s"""


class PostgresDashboardReader:
    """Reads for the analytics site. Every method raises DependencyUnavailable and may be called from many threads."""

    def __init__(self, url: str, *, max_connections: int = 4, wait_s: float = 2.0, statement_s: float = 10.0) -> None:
        """Starts to connect in the background. `wait_s` bounds the wait for a connection, `statement_s` a query."""
        self._pool: ConnectionPool[Connection[DictRow]] = ConnectionPool(
            plain_url(url),
            connection_class=Connection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "connect_timeout": 3,
                "application_name": "modelpilot-dashboard",
                "options": f"-c statement_timeout={int(statement_s * 1_000)}",
            },
            min_size=0,
            max_size=max_connections,
            timeout=wait_s,
            reconnect_timeout=wait_s,
            configure=_configure,
            check=ConnectionPool.check_connection,
            open=True,
            name="modelpilot-dashboard",
        )

    def close(self) -> None:
        """Close every connection; waits at most a second for those in use."""
        self._pool.close(timeout=1.0)

    def overview(self, scope: AnalyticsScope, bucket_s: int, recent_limit: int) -> Overview:
        """The Overview page of a scope, in one snapshot."""
        given = _parameters(scope) | {"bucket_s": bucket_s, "limit": recent_limit}
        narrowed = _IN_RANGE if scope.user_id is None else _IN_RANGE + _OF_USER
        with self._snapshot() as connection:
            totals = connection.execute(_SUMMARY + narrowed, given).fetchone() or {}
            cells = connection.execute(_CELLS + narrowed + _PER_CELL, given).fetchall()
            recent = connection.execute(_RECENT, given).fetchall()
            newest = connection.execute(_LATEST, given).fetchone() or {}
        latest: datetime | None = newest.get("latest")
        return Overview(
            summary=_summary(totals),
            shares=_shares(cells),
            buckets=_buckets(cells),
            recent=tuple(_recent(row) for row in recent),
            latest_request_s=latest.timestamp() if latest else None,
        )

    @contextmanager
    def _snapshot(self) -> Iterator[Connection[DictRow]]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.UndefinedTable as error:
            message = "Postgres has no ModelPilot tables yet: run `modelpilot migrate`."
            raise DependencyUnavailable(message, retry_after_s=RETRY_AFTER_S) from error
        except psycopg.errors.QueryCanceled as error:
            raise DependencyUnavailable("Postgres did not answer in time.", retry_after_s=RETRY_AFTER_S) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise DependencyUnavailable("Postgres is not reachable.", retry_after_s=RETRY_AFTER_S) from error


def _configure(connection: Connection[DictRow]) -> None:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def _parameters(scope: AnalyticsScope) -> dict[str, Any]:
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (scope.start_s, scope.end_s))
    return {"user_id": scope.user_id, "start": start, "end": end}


def _summary(row: Mapping[str, Any]) -> RequestSummary:
    p50_ms, p95_ms = row["latency_ms"] or (None, None)
    return RequestSummary(
        requests=row["requests"],
        failed=row["failed"],
        canceled=row["canceled"],
        fallbacks=row["fallbacks"],
        cost_usd=row["cost_usd"],
        unknown_cost=row["unknown_cost"],
        latency_p50_ms=p50_ms,
        latency_p95_ms=p95_ms,
        overhead_p50_ms=row["overhead_p50_ms"],
    )


def _shares(cells: list[DictRow]) -> tuple[ModelShare, ...]:
    shares = [
        ModelShare(model or NO_MODEL, requests, failed, cost_usd)
        for model, (requests, failed, cost_usd) in _added_up(cells, "model").items()
    ]
    return tuple(sorted(shares, key=lambda share: (-share.requests, share.model)))


def _buckets(cells: list[DictRow]) -> tuple[RequestBucket, ...]:
    buckets = [
        RequestBucket(start.timestamp(), requests, failed)
        for start, (requests, failed, _) in _added_up(cells, "bucket").items()
    ]
    return tuple(sorted(buckets, key=lambda bucket: bucket.start_s))


def _added_up(cells: list[DictRow], by: str) -> dict[Any, tuple[int, int, float]]:
    sums: dict[Any, tuple[int, int, float]] = defaultdict(lambda: (0, 0, 0.0))
    for cell in cells:
        requests, failed, cost_usd = sums[cell[by]]
        sums[cell[by]] = requests + cell["requests"], failed + cell["failed"], cost_usd + cell["cost_usd"]
    return sums


def _recent(row: DictRow) -> RecentRequest:
    key = RequestKey(row["user_id"], row["request_id"])
    values = {**row, "created_at": row["created_at"].timestamp(), "workflow_id": key.workflow_id}
    return RecentRequest(**values)
