"""What the analytics site reads: `modelpilot.metrics.ports.SiteReader` on Postgres, and the bookkeeping of scheduled
work that its page Jobs shows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection, SyncPool
from infra.db.metrics.dimensions import read_key_names
from infra.db.metrics.explore import LIMITS, Limits, ask
from infra.db.metrics.overview import read_choices, read_overview, read_tenants
from infra.db.metrics.requests import count_requests, latest_request_s, read_request, read_requests, read_span
from infra.db.metrics.spend import with_spend
from infra.db.metrics.use import read_models, read_routers, read_versions
from modelpilot.metrics.explore import Answer, Question
from modelpilot.metrics.jobs import (
    AggregationProgress,
    ExportTotals,
    FitRun,
    HourRun,
    JobsRead,
    RescoreRun,
    ScheduleFacts,
)
from modelpilot.metrics.overview import BY_MODEL, Choices, Overview, SpendQuestion
from modelpilot.metrics.requests import AnalyticsScope, DataSpan, LoggedRequest, Order, RequestDetail, RequestFilter
from modelpilot.metrics.use import FindOrigin, ModelsRead, PriceOrigin, RouterUse, RouterVersion

_EPOCH = datetime.fromtimestamp(0, UTC)

_PROGRESS: LiteralString = "SELECT name, through FROM metric_progress"
_NOTES: LiteralString = """
SELECT count(DISTINCT hour) AS pending, min(noted_at) AS oldest,
       count(DISTINCT hour) FILTER (WHERE hour < date_trunc('hour', now(), 'UTC')) AS late
FROM stale_hours"""
_HOURS: LiteralString = "SELECT * FROM aggregated_hours ORDER BY hour DESC LIMIT %(limit)s"
_EXPORT: LiteralString = """
SELECT count(*) AS files, count(*) FILTER (WHERE revision > exported_revision) AS due,
       coalesce(sum(requests), 0)::bigint AS requests, coalesce(sum(bytes), 0)::bigint AS bytes,
       max(exported_at) AS last_written_at
FROM exported_files"""
_WAITING: LiteralString = (
    "SELECT count(*) AS waiting FROM outbox WHERE %(user_id)s::text IS NULL OR user_id = %(user_id)s"
)
_FITS: LiteralString = """
SELECT user_id, router_id, version, fitted_at, rows, accepted, report ->> 'refused_because' AS refused_because
FROM predictors WHERE %(user_id)s::text IS NULL OR user_id = %(user_id)s
ORDER BY fitted_at DESC, user_id, router_id, version DESC LIMIT %(limit)s"""
_RESCORES: LiteralString = """
SELECT user_id, id, workflow_id, status, paused, total, done, scored, created_at, finished_at, judge_stopped, error
FROM rescore_jobs WHERE %(user_id)s::text IS NULL OR user_id = %(user_id)s
ORDER BY created_at DESC, id DESC LIMIT %(limit)s"""


def read_jobs(
    connection: SyncConnection, user_id: str | None, limit: int, schedules: tuple[ScheduleFacts, ...]
) -> JobsRead:
    """The newest `limit` runs of each kind; `schedules` is what the maintenance worker keeps in Temporal."""
    given: dict[str, Any] = {"user_id": user_id, "limit": limit}
    through = {row["name"]: row["through"] for row in connection.execute(_PROGRESS).fetchall()}
    notes = connection.execute(_NOTES).fetchone() or {}
    # How many requests an hour has is over all tenants, hence not for everybody.
    hours = connection.execute(_HOURS, given).fetchall() if user_id is None else []
    export = connection.execute(_EXPORT).fetchone() if user_id is None else None
    waiting = connection.execute(_WAITING, given).fetchone() or {"waiting": 0}
    return JobsRead(
        schedules=schedules,
        progress=_progress(through, notes),
        hours=tuple(_hour(row) for row in hours),
        export=None if export is None else ExportTotals(**_in_seconds(export)),
        vectors_waiting=waiting["waiting"],
        fits=tuple(FitRun(**_in_seconds(row)) for row in connection.execute(_FITS, given).fetchall()),
        rescores=tuple(RescoreRun(**_in_seconds(row)) for row in connection.execute(_RESCORES, given).fetchall()),
    )


def _progress(through: dict[str, datetime], notes: DictRow) -> AggregationProgress:
    def reached(name: str) -> float | None:
        moment = through.get(name, _EPOCH)
        return moment.timestamp() if moment > _EPOCH else None

    oldest = notes.get("oldest")
    return AggregationProgress(
        aggregated_through=reached("aggregated"),
        exported_through=reached("exported"),
        pending_hours=notes.get("pending", 0),
        late_hours=notes.get("late", 0),
        oldest_note=oldest.timestamp() if oldest else None,
    )


def _hour(row: DictRow) -> HourRun:
    hour, finished = row["hour"].timestamp(), row["aggregated_at"].timestamp()
    return HourRun(hour, row["requests"], finished, row["duration_ms"])


def _in_seconds(row: DictRow) -> dict[str, Any]:
    return {name: value.timestamp() if isinstance(value, datetime) else value for name, value in row.items()}


# Percentiles of a million requests are sorted; the site has four connections at most.
_SORT_IN_MEMORY: LiteralString = "SET LOCAL work_mem = '64MB'"


def _unknown_origin(*_: object) -> PriceOrigin:
    return PriceOrigin("shared catalogue")


class PostgresSiteReader:
    """Implements `SiteReader`: each method in one transaction of the pool, which is one snapshot."""

    def __init__(
        self,
        pool: SyncPool,
        carbon_ranges: Callable[[], Mapping[str, tuple[float, float]]] = dict,
        schedules: tuple[ScheduleFacts, ...] = (),
        limits: Limits = LIMITS,
        origin_of: FindOrigin = _unknown_origin,
    ) -> None:
        """`carbon_ranges` gives the range of each model's carbon as multiples of its figure; `schedules` is what the
        maintenance worker keeps in Temporal; `origin_of` knows where the shared catalogue's prices come from."""
        self._pool, self._carbon_ranges = pool, carbon_ranges
        self._schedules, self._limits, self._origin_of = schedules, limits, origin_of

    def overview(
        self, scope: AnalyticsScope, bucket_s: int, recent_limit: int, spend: SpendQuestion = BY_MODEL
    ) -> Overview:
        """The Overview page of a scope."""
        with self._pool.transaction() as connection:
            sample = self._limits.overview_sample
            found = read_overview(connection, scope, bucket_s, recent_limit, self._carbon_ranges(), sample)
            return with_spend(connection, scope, spend, found)

    def choices(self, user_id: str | None) -> Choices:
        """What there is to filter by."""
        with self._pool.transaction() as connection:
            return read_choices(connection, user_id)

    def tenants(self) -> tuple[str, ...]:
        """Every tenant, by name; for admins only."""
        with self._pool.transaction() as connection:
            return read_tenants(connection)

    def explore(self, scope: AnalyticsScope, question: Question) -> Answer:
        """The answer to a question about many requests."""
        with self._pool.transaction() as connection:
            connection.execute(_SORT_IN_MEMORY)
            found = ask(connection, scope, question, self._limits)
            groups = {cell.group for cell in found.cells}
            labels = read_key_names(connection, scope.user_id, groups) if question.group == "key" else {}
            return replace(found, latest_request_s=latest_request_s(connection, scope.user_id), labels=labels)

    def requests(
        self, scope: AnalyticsScope, wanted: RequestFilter, order: Order, start: int, end: int
    ) -> tuple[LoggedRequest, ...]:
        """Requests `start` to `end` of the ordered list. Raises ValueError for an unknown order."""
        with self._pool.transaction() as connection:
            return read_requests(connection, scope, wanted, order, start, end)

    def request_count(self, scope: AnalyticsScope, wanted: RequestFilter) -> int:
        """How many there are in that list."""
        with self._pool.transaction() as connection:
            return count_requests(connection, scope, wanted)

    def span(self, user_id: str | None) -> DataSpan | None:
        """From when to when the tenant has requests."""
        with self._pool.transaction() as connection:
            return read_span(connection, user_id)

    def latest_request_s(self, user_id: str | None) -> float | None:
        """When the tenant's newest request began."""
        with self._pool.transaction() as connection:
            return latest_request_s(connection, user_id)

    def request(self, user_id: str | None, request_id: str, owner: str | None) -> RequestDetail | None:
        """One request that this tenant may see."""
        with self._pool.transaction() as connection:
            return read_request(connection, user_id, request_id, owner)

    def models(self, scope: AnalyticsScope, wanted: RequestFilter, bucket_s: int) -> ModelsRead:
        """The page of models and providers."""
        with self._pool.transaction() as connection:
            connection.execute(_SORT_IN_MEMORY)
            return read_models(connection, scope, wanted, bucket_s, self._origin_of)

    def routers(self, scope: AnalyticsScope) -> list[RouterUse]:
        """The routers of a scope, the busiest first."""
        with self._pool.transaction() as connection:
            return read_routers(connection, scope)

    def router_versions(self, user_id: str, router_id: str) -> list[RouterVersion]:
        """The newest versions of a router, newest first."""
        with self._pool.transaction() as connection:
            return read_versions(connection, user_id, router_id)

    def jobs(self, user_id: str | None, limit: int) -> JobsRead:
        """The newest `limit` runs of each kind."""
        with self._pool.transaction() as connection:
            return read_jobs(connection, user_id, limit, self._schedules)
