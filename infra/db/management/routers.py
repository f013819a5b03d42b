"""Routers with their versions."""

from collections.abc import Sequence
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import Connection, Database
from infra.db.learning.stored_texts import delete_texts_of_router
from infra.db.management.changes import changing
from infra.db.management.paging import decode_moment_cursor, make_page, moment_cursor
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.resources import Page, StoredRouter
from modelpilot.routing.router import Router

_GET = "SELECT * FROM routers WHERE user_id = %s AND id = %s"

_LIST = """
SELECT * FROM routers
WHERE user_id = %(user_id)s AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after_id)s))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s + 1
"""

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

_DELETE = "DELETE FROM routers WHERE user_id = %s AND id = %s"


def _stored(row: DictRow) -> StoredRouter:
    times = row["created_at"].timestamp(), row["updated_at"].timestamp()
    return StoredRouter(Router.model_validate(row["body"]), row["version"], *times)


class PostgresRouterRepository:
    """Implements `modelpilot.management.resources.RouterRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: str, router: Router, actor: str) -> StoredRouter:
        """Raises Conflict where the owner has this id already."""
        return await self._write(user_id, router, actor, replace=False)

    async def put(self, user_id: str, router: Router, actor: str) -> StoredRouter:
        """Create or replace. The version grows only where the body changed; otherwise nothing is written."""
        return await self._write(user_id, router, actor, replace=True)

    async def _write(self, user_id: str, router: Router, actor: str, *, replace: bool) -> StoredRouter:
        body = router.to_wire()
        async with changing(self._database, "router", user_id, router.id) as change:
            old = await _row(change.connection, user_id, router.id)
            if old is not None and not replace:
                raise Conflict(f"router {router.id!r} exists already", param="id")
            if old is not None and old["body"] == body:
                return _stored(old)
            params = {"user_id": user_id, "id": router.id, "body": Jsonb(body), "actor": actor}
            cursor = await change.connection.execute(_INSERT if old is None else _UPDATE, params)
            new: Any = await cursor.fetchone()
            kept = {**params, "version": new["version"], "updated_at": new["updated_at"]}
            await change.connection.execute(_KEEP_VERSION, kept)
            await change.done("create" if old is None else "update", actor, old and old["body"], body)
            return _stored(new)

    async def get(self, user_id: str, router_id: str) -> StoredRouter:
        """Raises NotFound."""
        row = await self._database.fetch_one(_GET, (user_id, router_id))
        if row is None:
            raise _unknown(router_id)
        return _stored(row)

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[StoredRouter]:
        """Newest first."""
        params = {"user_id": user_id, "limit": limit, **decode_moment_cursor(cursor)}
        return make_page(await self._database.fetch_all(_LIST, params), limit, _stored, moment_cursor)

    async def delete(self, user_id: str, router_id: str, actor: str) -> None:
        """Its versions stay readable. Raises NotFound."""
        async with changing(self._database, "router", user_id, router_id) as change:
            old = await _row(change.connection, user_id, router_id)
            if old is None:
                raise _unknown(router_id)
            await change.connection.execute(_DELETE, (user_id, router_id))
            await delete_texts_of_router(change.connection, user_id, router_id)
            await change.done("delete", actor, old["body"], None)

    async def versions(self, user_id: str, router_id: str) -> Sequence[StoredRouter]:
        """Every version, newest first, also of a deleted router. Raises NotFound where there never was one."""
        rows = await self._database.fetch_all(_VERSIONS, (user_id, router_id))
        if not rows:
            raise _unknown(router_id)
        return [_stored(row) for row in rows]


async def _row(connection: Connection, user_id: str, router_id: str) -> DictRow | None:
    cursor = await connection.execute(_GET, (user_id, router_id))
    return await cursor.fetchone()


def _unknown(router_id: str) -> NotFound:
    return NotFound(f"router {router_id!r} does not exist")
