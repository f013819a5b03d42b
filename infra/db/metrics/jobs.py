"""The Jobs page: the bookkeeping that scheduled work leaves behind."""

from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection
from modelpilot.metrics.jobs import (
    AggregationProgress,
    ExportTotals,
    FitRun,
    HourRun,
    JobsRead,
    RescoreRun,
    ScheduleFacts,
)

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
