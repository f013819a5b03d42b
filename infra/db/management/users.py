"""Tenants."""

import re

from psycopg.rows import DictRow

from infra.db.engine import Connection, Database
from infra.db.management.changes import changing
from modelpilot.errors import Conflict, InvalidRequest, NotFound
from modelpilot.management.resources import StoredUser

# User ids appear in workflow ids and notifications, where ":" and "/" separate.
_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

_INSERT = "INSERT INTO users (id, operator) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING *"
_GET = "SELECT * FROM users WHERE id = %s"


def check_user_id(user_id: str) -> None:
    """Raises InvalidRequest."""
    if _USER_ID.fullmatch(user_id) is None:
        raise InvalidRequest("a user id has 1 to 64 of the characters A-Z a-z 0-9 . _ -", param="userId")


async def ensure_user(connection: Connection, user_id: str) -> None:
    """Make the user (no operator) where absent. Raises InvalidRequest."""
    check_user_id(user_id)
    await connection.execute(_INSERT, (user_id, False))


def _stored(row: DictRow) -> StoredUser:
    return StoredUser(row["id"], row["operator"], row["created_at"].timestamp())


class PostgresUserRepository:
    """Implements `modelpilot.management.resources.UserRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: str, actor: str, *, operator: bool = False) -> StoredUser:
        """Raises Conflict, InvalidRequest for an id outside of [A-Za-z0-9._-]."""
        check_user_id(user_id)
        async with changing(self._database, "user", user_id, user_id) as change:
            row = await (await change.connection.execute(_INSERT, (user_id, operator))).fetchone()
            if row is None:
                raise Conflict(f"user {user_id!r} exists already", param="id")
            await change.done("create", actor, None, {"id": user_id, "operator": operator})
        return _stored(row)

    async def get(self, user_id: str) -> StoredUser:
        """Raises NotFound."""
        row = await self._database.fetch_one(_GET, (user_id,))
        if row is None:
            raise NotFound(f"user {user_id!r} does not exist")
        return _stored(row)
