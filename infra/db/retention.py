"""Old raw rows go, with their attempts, feedback, judgements and stored texts; their aggregates stay.

An hour is closed before its first row is deleted: from then on its aggregates are final, and a row that comes later
still is kept and exported, but counted nowhere. Rows go by the age of their recording as well as by their hour, since
they are also the ledger: a fresh one is never deleted, whatever its clock said.
"""

from datetime import timedelta
from typing import Any

from infra.db.engine import Database

_LOCK = "SELECT through FROM metric_progress WHERE name = 'closed' FOR UPDATE"

# least() leaves nulls out: no note, no file that is due.
_CLOSE = """
UPDATE metric_progress SET updated_at = clock_timestamp(), through = greatest(through, least(
    date_trunc('hour', now() - %(kept)s, 'UTC'),
    (SELECT date_trunc('hour', through, 'UTC') FROM metric_progress WHERE name = 'aggregated'),
    (SELECT min(hour) FROM stale_hours),
    CASE WHEN %(sink)s THEN (SELECT through FROM metric_progress WHERE name = 'exported') END,
    CASE WHEN %(sink)s THEN (SELECT min(hour) FROM exported_files WHERE revision > exported_revision) END
)) WHERE name = 'closed'
"""

_PURGE = """
WITH old AS (
    SELECT r.ctid FROM requests r WHERE created_at < (SELECT through FROM metric_progress WHERE name = 'closed')
        AND recorded_at < now() - %(kept)s
        AND NOT (%(sink)s AND (
            recorded_at >= (SELECT through FROM metric_progress WHERE name = 'exported')
            OR EXISTS (SELECT FROM exported_files f
                       WHERE f.revision > f.exported_revision AND f.hour = date_trunc('hour', r.created_at, 'UTC'))))
    LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM requests WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING user_id, request_id
), calls AS (
    DELETE FROM attempts a USING gone g WHERE a.user_id = g.user_id AND a.request_id = g.request_id
), said AS (
    DELETE FROM feedback f USING gone g WHERE f.user_id = g.user_id AND f.request_id = g.request_id
), judged AS (
    DELETE FROM judgements j USING gone g WHERE j.user_id = g.user_id AND j.request_id = g.request_id
), texts AS (
    DELETE FROM stored_texts t USING gone g WHERE t.user_id = g.user_id AND t.request_id = g.request_id
)
SELECT count(*) AS requests FROM gone
"""


class PostgresRetention:
    """Implements `Retention`. `exports`: there is a warehouse sink, which must have the rows."""

    def __init__(self, database: Database, *, days: float, exports: bool) -> None:
        self._database = database
        self._given: dict[str, Any] = {"kept": timedelta(days=days), "sink": exports}

    async def close_hours(self) -> None:
        """Close the hours that are old enough, aggregated and exported."""
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK)
            await connection.execute(_CLOSE, self._given)

    async def purge(self, batch: int) -> int:
        """Delete at most `batch` requests of closed hours, with all that belongs to them; how many."""
        row = await self._database.fetch_one(_PURGE, {**self._given, "batch": batch})
        return int(row["requests"]) if row else 0
