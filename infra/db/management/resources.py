"""Resources in Postgres: a table for each kind, rows by owner and id, every change audited and announced."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import Connection, Database
from infra.db.management.changes import Change, changing, returned
from infra.db.management.paging import newest_first
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.resources import Page
from modelpilot.wire.json_model import ResourceBody

Body = TypeVar("Body", bound=ResourceBody)
Read = TypeVar("Read")


def times(row: DictRow) -> tuple[float, float]:
    """When the row was made and last changed, Unix seconds."""
    return row["created_at"].timestamp(), row["updated_at"].timestamp()


class PostgresRepository(Generic[Body, Read]):
    """Implements `modelpilot.management.resources.Repository` over one table.

    As it is, it serves tables whose column `body` holds all that their owner has written; subclasses say what is
    different in theirs. `read` makes of a row what callers get.
    """

    def __init__(
        self, database: Database, kind: str, table: str, read: Callable[[DictRow], Read], columns: str = "*"
    ) -> None:
        self._database = database
        self._kind = kind
        self._read = read
        # The names in these are our own constants.
        self._select = f"SELECT {columns} FROM {table}"  # noqa: S608
        self._get_sql = f"{self._select} WHERE user_id = %s AND id = %s"
        self._delete_sql = f"DELETE FROM {table} WHERE user_id = %s AND id = %s"  # noqa: S608
        self._upsert_sql = f"""
            INSERT INTO {table} (user_id, id, body) VALUES (%s, %s, %s)
            ON CONFLICT (user_id, id) DO UPDATE SET body = excluded.body, updated_at = clock_timestamp()
            RETURNING {columns}"""  # noqa: S608

    async def create(self, user_id: str, body: Body, actor: str) -> Read:
        """Raises Conflict where the owner has this id already."""
        return await self._write(user_id, body, actor, replace=False)

    async def put(self, user_id: str, body: Body, actor: str) -> Read:
        """Create or replace. Where nothing has changed, nothing is written."""
        return await self._write(user_id, body, actor, replace=True)

    async def get(self, user_id: str, subject: str) -> Read:
        """Raises NotFound."""
        row = await self._database.fetch_one(self._get_sql, (user_id, subject))
        if row is None:
            raise self._unknown(subject)
        return self._read(row)

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[Read]:
        """Newest first."""
        return await newest_first(self._database, self._select, user_id, cursor, limit, self._read)

    async def delete(self, user_id: str, subject: str, actor: str) -> None:
        """Raises NotFound."""
        async with changing(self._database, self._kind, user_id, subject) as change:
            old = await self._row(change.connection, user_id, subject)
            if old is None:
                raise self._unknown(subject)
            await self._remove(change, old)
            await change.done("delete", actor, self._audited(old), None)

    async def _write(self, user_id: str, body: Body, actor: str, *, replace: bool) -> Read:
        async with changing(self._database, self._kind, user_id, body.id) as change:
            old = await self._row(change.connection, user_id, body.id)
            replaced = old if old is not None and self._owns(user_id, old) else None
            if replaced is not None and not replace:
                raise Conflict(f"{self._kind} {body.id!r} exists already", param="id")
            if replaced is not None and self._is_same(replaced, body):
                return self._read(replaced)
            new = await self._save(change, body, replaced, actor)
            before, after = old and self._audited(old), self._audited(new, body)
            await change.done("create" if replaced is None else "update", actor, before, after)
            return self._read(new)

    async def _row(self, connection: Connection, user_id: str, subject: str) -> DictRow | None:
        return await (await connection.execute(self._get_sql, (user_id, subject))).fetchone()

    def _unknown(self, subject: str) -> NotFound:
        return NotFound(f"{self._kind} {subject!r} does not exist")

    def _owns(self, user_id: str, row: DictRow) -> bool:
        """Whether a row that `get` shows to this user is its own."""
        return True

    def _is_same(self, row: DictRow, body: Body) -> bool:
        return bool(row["body"] == body.to_wire())

    async def _save(self, change: Change, body: Body, old: DictRow | None, actor: str) -> DictRow:
        """Write the row of `body` in the place of `old`, and return it."""
        cursor = await change.connection.execute(self._upsert_sql, (change.user_id, body.id, Jsonb(body.to_wire())))
        return await returned(cursor)

    async def _remove(self, change: Change, old: DictRow) -> None:
        await change.connection.execute(self._delete_sql, (change.user_id, change.subject))

    def _audited(self, row: DictRow, written: Body | None = None) -> dict[str, Any]:
        """The row in the audit log, without secrets; `written` is what it was made of just now."""
        return dict(row["body"])
