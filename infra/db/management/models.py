"""The owner's models over the shared catalogue."""

from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import Database
from infra.db.management.changes import changing
from infra.db.management.paging import decode_cursor, encode_cursor, make_page
from modelpilot.errors import Conflict, NotFound, PermissionDenied
from modelpilot.management.resources import SHARED_OWNER, Page, StoredModel
from modelpilot.providers.catalogue import ModelSpec

# The empty owner (shared) sorts before every other, so "descending" puts the owner's own model first.
_GET = "SELECT * FROM models WHERE user_id IN (%s, '') AND id = %s ORDER BY user_id DESC LIMIT 1"

_LIST = """
SELECT DISTINCT ON (id) * FROM models
WHERE user_id IN (%(user_id)s, '') AND (%(after_id)s::text IS NULL OR id > %(after_id)s)
ORDER BY id, user_id DESC LIMIT %(limit)s + 1
"""

_UPSERT = """
INSERT INTO models (user_id, id, body) VALUES (%s, %s, %s)
ON CONFLICT (user_id, id) DO UPDATE SET body = excluded.body, updated_at = clock_timestamp()
RETURNING *
"""

_DELETE = "DELETE FROM models WHERE user_id = %s AND id = %s"


def _stored(row: DictRow) -> StoredModel:
    times = row["created_at"].timestamp(), row["updated_at"].timestamp()
    return StoredModel(ModelSpec.model_validate(row["body"]), row["user_id"] == SHARED_OWNER, *times)


class PostgresModelRepository:
    """Implements `modelpilot.management.resources.ModelRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: str, spec: ModelSpec, actor: str) -> StoredModel:
        """Raises Conflict where the owner has this id already (a shared one is overridden instead)."""
        return await self._write(user_id, spec, actor, replace=False)

    async def put(self, user_id: str, spec: ModelSpec, actor: str) -> StoredModel:
        """Create or replace the owner's model."""
        return await self._write(user_id, spec, actor, replace=True)

    async def _write(self, user_id: str, spec: ModelSpec, actor: str, *, replace: bool) -> StoredModel:
        _refuse_shared_owner(user_id)
        body = spec.to_wire()
        async with changing(self._database, "model", user_id, spec.id) as change:
            old = await (await change.connection.execute(_GET, (user_id, spec.id))).fetchone()
            own = old if old is not None and old["user_id"] == user_id else None
            if own is not None and not replace:
                raise Conflict(f"model {spec.id!r} exists already", param="id")
            if own is not None and own["body"] == body:
                return _stored(own)
            cursor = await change.connection.execute(_UPSERT, (user_id, spec.id, Jsonb(body)))
            new: Any = await cursor.fetchone()
            await change.done("create" if own is None else "update", actor, old and old["body"], body)
            return _stored(new)

    async def get(self, user_id: str, model_id: str) -> StoredModel:
        """Own, else shared. Raises NotFound."""
        row = await self._database.fetch_one(_GET, (user_id, model_id))
        if row is None:
            raise NotFound(f"model {model_id!r} does not exist")
        return _stored(row)

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[StoredModel]:
        """Own and shared, by id."""
        after_id = decode_cursor(cursor, (str,))[0] if cursor is not None else None
        params = {"user_id": user_id, "limit": limit, "after_id": after_id}
        rows = await self._database.fetch_all(_LIST, params)
        return make_page(rows, limit, _stored, lambda row: encode_cursor(row["id"]))

    async def delete(self, user_id: str, model_id: str, actor: str) -> None:
        """Remove the owner's model; a shared one shows again. Raises NotFound, PermissionDenied (shared only)."""
        _refuse_shared_owner(user_id)
        async with changing(self._database, "model", user_id, model_id) as change:
            old = await (await change.connection.execute(_GET, (user_id, model_id))).fetchone()
            if old is None:
                raise NotFound(f"model {model_id!r} does not exist")
            if old["user_id"] != user_id:
                raise PermissionDenied(f"model {model_id!r} belongs to the shared catalogue, which is read-only")
            await change.connection.execute(_DELETE, (user_id, model_id))
            await change.done("delete", actor, old["body"], None)


def _refuse_shared_owner(user_id: str) -> None:
    if user_id == SHARED_OWNER:
        raise PermissionDenied("the shared catalogue is read-only")
