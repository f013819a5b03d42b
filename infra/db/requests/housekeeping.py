"""The rows that nobody needs any more: expired ones, and requests that are older than their retention.

All go in bounded batches, so that no request waits behind a long delete.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from infra.db.engine import Database

# One day after its last heartbeat nobody can mistake an instance for a living one, whatever the clocks did.
_DEAD_INSTANCE_HOURS = 24.0


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows went."""

    payloads: int
    names: int
    claims: int
    instances: int
    texts: int = 0
    erased: int = 0

    @property
    def total(self) -> int:
        """All together; 0 means that nothing is left to sweep."""
        return self.payloads + self.names + self.claims + self.instances + self.texts + self.erased


def _delete(table: str, condition: str) -> str:
    # By ctid and with SKIP LOCKED: several workers may sweep at once, and a row in use is left for the next time.
    return f"""
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {table} WHERE {condition} LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
    """  # noqa: S608  (own constants)


# What belongs to a request whose workflow is not closed stays, however long that takes.
_CLOSED = "NOT EXISTS (SELECT FROM open_requests o WHERE o.user_id = {0}.user_id AND o.request_id = {0}.request_id)"
_PAYLOADS = _delete("payloads", f"expires_at < now() AND {_CLOSED.format('payloads')}")
_NAMES = _delete("request_names", "created_at < now() - make_interval(secs => 3600 * %(hours)s)")
_CLAIMS = _delete("claims", "claimed_at < now() - make_interval(secs => 3600 * %(hours)s)")
# What a judge wrote about a text may quote it, and goes with it.
_TEXTS = f"""
    WITH gone AS ({_delete("stored_texts", "expires_at < now()")} RETURNING user_id, request_id), words AS (
        UPDATE judgements j SET reason_encrypted = NULL FROM gone
        WHERE j.user_id = gone.user_id AND j.request_id = gone.request_id AND j.reason_encrypted IS NOT NULL)
    SELECT 1 FROM gone
"""  # noqa: S608  (own constants)
# Nobody who held an erased request still runs.
_ERASED = _delete("erased_requests", "erased_at < now() - make_interval(secs => 3600 * %(hours)s)")
_INSTANCES = _delete("instances", "heartbeat_at < now() - make_interval(secs => 3600 * %(hours)s)")


class Housekeeping:
    """Sweeps expired rows. Names and claims are kept for `name_retention_hours`: as long as Temporal keeps its
    histories, or an Idempotency-Key would be forgotten before its workflow."""

    def __init__(self, database: Database, *, name_retention_hours: float = 7 * 24.0) -> None:
        self._database = database
        self._name_retention_hours = name_retention_hours

    async def sweep(self, batch: int = 1_000) -> Swept:
        """Delete at most `batch` rows of each kind. Raises DependencyUnavailable."""
        return Swept(
            payloads=await self._run(_PAYLOADS, batch),
            names=await self._run(_NAMES, batch, self._name_retention_hours),
            claims=await self._run(_CLAIMS, batch, self._name_retention_hours),
            instances=await self._run(_INSTANCES, batch, _DEAD_INSTANCE_HOURS),
            texts=await self._run(_TEXTS, batch),
            erased=await self._run(_ERASED, batch, self._name_retention_hours),
        )

    async def _run(self, statement: str, batch: int, hours: float = 0.0) -> int:
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, {"batch": batch, "hours": hours})
            return cursor.rowcount


_LOCK = "SELECT through FROM metric_progress WHERE name = 'closed' FOR UPDATE"
_THROUGH = "SELECT extract(epoch FROM through)::float8 AS through FROM metric_progress WHERE name = 'closed'"
# Their rows are gone by now, or go with this run: what they were fitted to is older than the retention.
_FORGET_FITS = """
DELETE FROM predictors WHERE fitted_at < (SELECT through FROM metric_progress WHERE name = 'closed')
"""

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

_PURGE = f"""
WITH old AS (
    SELECT r.ctid FROM requests r WHERE created_at < (SELECT through FROM metric_progress WHERE name = 'closed')
        AND recorded_at < now() - %(kept)s
        AND {_CLOSED.format("r")}
        AND NOT (%(sink)s AND (
            recorded_at >= (SELECT through FROM metric_progress WHERE name = 'exported')
            OR EXISTS (SELECT FROM exported_files f
                       WHERE f.revision > f.exported_revision AND f.hour = date_trunc('hour', r.created_at, 'UTC'))))
    LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM requests WHERE ctid = ANY (ARRAY(SELECT ctid FROM old))
    RETURNING user_id, request_id, router_id, prompt_hash, model
), points AS (
    INSERT INTO outbox (user_id, point, embedding)
    SELECT user_id, jsonb_build_object('recount', router_id, 'points',
        jsonb_agg(DISTINCT jsonb_build_array(prompt_hash, model))), ''
    FROM gone WHERE router_id IS NOT NULL AND prompt_hash <> '' GROUP BY user_id, router_id
), names AS (
    DELETE FROM request_names n USING gone g WHERE n.user_id = g.user_id AND n.request_id = g.request_id
), answers AS (
    DELETE FROM payloads p USING gone g WHERE p.user_id = g.user_id AND p.request_id = g.request_id
), calls AS (
    DELETE FROM attempts a USING gone g WHERE a.user_id = g.user_id AND a.request_id = g.request_id
), said AS (
    DELETE FROM feedback f USING gone g WHERE f.user_id = g.user_id AND f.request_id = g.request_id
), judged AS (
    DELETE FROM judgements j USING gone g WHERE j.user_id = g.user_id AND j.request_id = g.request_id
), learnt AS (
    DELETE FROM learnt_answers l USING gone g WHERE l.user_id = g.user_id AND l.request_id = g.request_id
), texts AS (
    DELETE FROM stored_texts t USING gone g WHERE t.user_id = g.user_id AND t.request_id = g.request_id
)
SELECT count(*) AS requests FROM gone
"""  # noqa: S608  (own constants)


class PostgresRetention:
    """Implements `modelpilot.metrics.aggregation.Retention`: old raw rows go, with their attempts, names, payloads,
    feedback, judgements, stored texts and what the vector history has of them; their aggregates stay. `exports`: there
    is a warehouse sink, which must have the rows.

    An hour is closed before its first row is deleted: from then on its aggregates are final, and a row that comes later
    still is kept and exported, but counted nowhere. Rows go by the age of their recording as well as by their hour:
    they are also the ledger, so a fresh one is never deleted, whatever its clock said.
    """

    def __init__(self, database: Database, *, days: float, exports: bool) -> None:
        self._database = database
        self._given: dict[str, Any] = {"kept": timedelta(days=days), "sink": exports}

    async def close_hours(self) -> float:
        """Close the hours that are old enough, aggregated and exported, and forget predictors as old as those; the end
        of the last closed one, Unix seconds."""
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK)
            await connection.execute(_CLOSE, self._given)
            await connection.execute(_FORGET_FITS)
            row = await (await connection.execute(_THROUGH)).fetchone()
        return float(row["through"]) if row else 0.0

    async def purge(self, batch: int) -> int:
        """Delete at most `batch` requests of closed hours, with all that belongs to them; how many."""
        row = await self._database.fetch_one(_PURGE, {**self._given, "batch": batch})
        return int(row["requests"]) if row else 0
