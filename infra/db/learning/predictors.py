"""Fitted predictors in Postgres: versions per router, of which the newest is served if it was
accepted: a router whose choices a fit does not better any more goes on without one."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import Database
from infra.db.requests.rows import moment
from infra.db.routing.notifications import CHANNEL
from modelpilot.learning.refit import KEPT_VERSIONS, FittedArtifact, PredictorVersion
from modelpilot.requests.records import HistoryScope
from modelpilot.wire.jsonb import finite_json

# An outcome is recorded a while after its request was made: an hour covers the longest request, and the index on
# (owner, router, creation) does the rest.
_DUE = """
SELECT routers.user_id, routers.id AS router_id FROM routers
LEFT JOIN LATERAL (
    SELECT max(fitted_at) AS at FROM predictors
    WHERE predictors.user_id = routers.user_id AND predictors.router_id = routers.id
) AS last ON true
WHERE (%(user_id)s::text IS NULL OR routers.user_id = %(user_id)s)
  AND (%(router_id)s::text IS NULL OR routers.id = %(router_id)s)
  AND (%(after_user)s::text IS NULL OR (routers.user_id, routers.id) > (%(after_user)s, %(after_router)s))
  AND (%(user_id)s::text IS NOT NULL OR EXISTS (
    SELECT 1 FROM requests
    WHERE requests.user_id = routers.user_id AND requests.router_id = routers.id AND requests.status = 'completed'
      AND requests.purpose = 'request'
      AND requests.created_at > coalesce(last.at, '-infinity'::timestamptz) - interval '1 hour'
      AND requests.recorded_at > coalesce(last.at, '-infinity'::timestamptz))
    OR EXISTS (
    SELECT 1 FROM forgotten f
    WHERE f.user_id = routers.user_id AND f.router_id IN ('', routers.id) AND f.fits_at > last.at))
ORDER BY routers.user_id, routers.id LIMIT %(limit)s
"""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

_ADD = """
INSERT INTO predictors (user_id, router_id, version, fitted_at, rows, accepted, report, artifact)
SELECT %(user_id)s::text, %(router_id)s::text, coalesce(max(version), 0) + 1, %(fitted_at)s, %(rows)s, %(accepted)s,
       %(report)s, %(artifact)b
FROM predictors WHERE user_id = %(user_id)s AND router_id = %(router_id)s
HAVING NOT EXISTS (
    SELECT FROM forgotten
    WHERE user_id = %(user_id)s AND router_id IN (%(router_id)s, '') AND fits_at > %(fitted_at)s)
RETURNING version
"""

# The newest fit knows nothing of what was deleted; older ones may.
_FORGET = """
DELETE FROM predictors p USING forgotten f
WHERE p.user_id = %(user_id)s AND p.router_id = %(router_id)s
    AND f.user_id = p.user_id AND f.router_id IN (p.router_id, '') AND p.fitted_at < f.fits_at
"""

_PRUNE = """
DELETE FROM predictors WHERE user_id = %(user_id)s AND router_id = %(router_id)s AND version <= %(version)s - %(kept)s
"""

_NOTIFY = "SELECT pg_notify(%s, %s)"

_NEWEST = """
SELECT * FROM predictors
WHERE user_id = %s AND router_id = %s ORDER BY version DESC LIMIT 1
"""

_NEWEST_VERSION = """
SELECT max(version) AS version FROM predictors WHERE user_id = %s AND router_id = %s
"""

_VERSIONS = """
SELECT version, fitted_at, rows, accepted, report FROM predictors
WHERE user_id = %s AND router_id = %s ORDER BY version DESC
"""


class PostgresPredictors:
    """Implements `modelpilot.learning.refit.PredictorStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(
        self, user_id: str | None, router_id: str | None, after: HistoryScope | None, limit: int
    ) -> tuple[HistoryScope, ...]:
        """Routers to fit behind `after`; without `user_id` only those with new outcomes since their last fit."""
        params = {
            "user_id": user_id,
            "router_id": router_id,
            "after_user": after.user_id if after else None,
            "after_router": after.router_id if after else None,
            "limit": limit,
        }
        rows = await self._database.fetch_all(_DUE, params)
        return tuple(HistoryScope(row["user_id"], row["router_id"]) for row in rows)

    async def add(self, scope: HistoryScope, fitted_at: float, rows: int, fit: FittedArtifact) -> int:
        """Store a fit, forget old ones and announce it, in one transaction, so that the swap is atomic; its version, or
        0 where some of what it was fitted to was deleted meanwhile, so that it is not stored."""
        params: dict[str, Any] = {
            "user_id": scope.user_id,
            "router_id": scope.router_id,
            "fitted_at": moment(fitted_at),
            "rows": rows,
            "accepted": fit.artifact is not None,
            "report": Jsonb(finite_json(asdict(fit.report))),
            "artifact": fit.artifact,
            "kept": KEPT_VERSIONS,
        }
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, (f"predictor:{scope.user_id}:{scope.router_id}",))
            added = await (await connection.execute(_ADD, params)).fetchone()
            if added is None:
                return 0
            if fit.artifact is not None:
                await connection.execute(_FORGET, params)
            await connection.execute(_PRUNE, params | {"version": added["version"]})
            await connection.execute(_NOTIFY, (CHANNEL, f"predictor:{scope.user_id}:{scope.router_id}"))
        return int(added["version"])

    async def newest(self, scope: HistoryScope, than: int = 0) -> tuple[PredictorVersion, bytes | None] | None:
        """The newest version above `than`. The artifact travels only where there is a newer one."""
        key = (scope.user_id, scope.router_id)
        if than:
            found = await self._database.fetch_one(_NEWEST_VERSION, key)
            if found is None or (found["version"] or 0) <= than:
                return None
        row = await self._database.fetch_one(_NEWEST, key)
        if row is None:
            return None
        return _version(row), None if row["artifact"] is None else bytes(row["artifact"])

    async def versions(self, scope: HistoryScope) -> Sequence[PredictorVersion]:
        """All that is kept, newest first."""
        return [_version(row) for row in await self._database.fetch_all(_VERSIONS, (scope.user_id, scope.router_id))]


def _version(row: DictRow) -> PredictorVersion:
    return PredictorVersion(row["version"], row["fitted_at"].timestamp(), row["rows"], row["accepted"], row["report"])
