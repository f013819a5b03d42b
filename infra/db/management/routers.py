"""Routers with their versions."""

from collections.abc import Sequence

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import Database
from infra.db.learning.stored_texts import delete_texts_of_router
from infra.db.management.changes import Change, returned
from infra.db.management.resources import PostgresRepository, times
from infra.db.requests.forgetting import forget_history
from modelpilot.management.resources import StoredRouter
from modelpilot.requests.erasure import Forgotten
from modelpilot.routing.router import Router

# A router that was deleted and made anew goes on counting, so that a version names one body for ever.
_INSERT = """
INSERT INTO routers (user_id, id, body, version)
SELECT %(user_id)s::text, %(id)s::text, %(body)s, coalesce(max(version), 0) + 1
FROM router_versions WHERE user_id = %(user_id)s AND router_id = %(id)s
RETURNING *
"""

_UPDATE = """
UPDATE routers SET body = %(body)s, version = version + 1, updated_at = clock_timestamp()
WHERE user_id = %(user_id)s AND id = %(id)s
RETURNING *
"""

_KEEP_VERSION = """
INSERT INTO router_versions (user_id, router_id, version, body, created_at, created_by)
VALUES (%(user_id)s, %(id)s, %(version)s, %(body)s, %(updated_at)s, %(actor)s)
"""

_VERSIONS = """
SELECT body, version, created_at, created_at AS updated_at FROM router_versions
WHERE user_id = %s AND router_id = %s ORDER BY version DESC
"""


def _stored(row: DictRow) -> StoredRouter:
    return StoredRouter(Router.model_validate(row["body"]), *times(row), version=row["version"])


class PostgresRouterRepository(PostgresRepository[Router, StoredRouter]):
    """Implements `modelpilot.management.resources.RouterRepository`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "router", "routers", _stored)

    async def versions(self, user_id: str, router_id: str) -> Sequence[StoredRouter]:
        """Every version, newest first, also of a deleted router. Raises NotFound where there never was one."""
        rows = await self._database.fetch_all(_VERSIONS, (user_id, router_id))
        if not rows:
            raise self._unknown(router_id)
        return [_stored(row) for row in rows]

    async def _save(self, change: Change, body: Router, old: DictRow | None, actor: str) -> DictRow:
        params = {"user_id": change.user_id, "id": body.id, "body": Jsonb(body.to_wire()), "actor": actor}
        new = await returned(await change.connection.execute(_INSERT if old is None else _UPDATE, params))
        kept = {**params, "version": new["version"], "updated_at": new["updated_at"]}
        await change.connection.execute(_KEEP_VERSION, kept)
        return new

    async def _remove(self, change: Change, old: DictRow) -> None:
        await super()._remove(change, old)
        await delete_texts_of_router(change.connection, change.user_id, change.subject)
        # What was learnt goes with the router: another one of its name begins anew.
        await forget_history(change.connection, Forgotten(change.user_id, change.subject))
