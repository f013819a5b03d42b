"""What every management change has in common: one at a time per thing, audited and announced, in one transaction.

Also the users, whom some changes make, and the audit log itself.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncCursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import Connection, Database
from infra.db.management.paging import decode_cursor, encode_cursor, make_page
from infra.db.routing.notifications import CHANNEL
from modelpilot.errors import Conflict, InvalidRequest
from modelpilot.management.resources import AuditEntry, HealthScope, Page

# User ids appear in workflow ids and notifications, where ":" and "/" separate.
_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ADD_USER = "INSERT INTO users (id, operator) VALUES (%s, false) ON CONFLICT DO NOTHING"
_IS_GOING = "SELECT 1 FROM erasures WHERE tenant = %s AND kind = 'tenant' AND status = 'running' LIMIT 1"

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

_AUDIT = """
WITH entry AS (
    INSERT INTO audit_log (user_id, actor, action, kind, subject, before, after) VALUES (%s, %s, %s, %s, %s, %s, %s)
)
SELECT pg_notify(%s, %s)
"""

_LIST = """
SELECT * FROM audit_log
WHERE user_id = %(user_id)s AND (%(before_id)s::bigint IS NULL OR id < %(before_id)s)
ORDER BY id DESC LIMIT %(limit)s + 1
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A change under way to one thing of one owner."""

    connection: Connection
    kind: str
    user_id: str
    subject: str

    async def done(
        self, action: str, actor: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> None:
        """Write the audit entry and tell the other processes, both when the transaction commits. No secrets here."""
        states = [None if state is None else Jsonb(dict(state)) for state in (before, after)]
        notice = f"{self.kind}:{self.user_id}:{self.subject}"
        params = (self.user_id, actor, action, self.kind, self.subject, *states, CHANNEL, notice)
        await self.connection.execute(_AUDIT, params)


@asynccontextmanager
async def changing(database: Database, kind: str, user_id: str, subject: str) -> AsyncIterator[Change]:
    """A transaction in which nobody else changes this thing. Raises DependencyUnavailable."""
    async with database.transaction() as connection:
        await connection.execute(_LOCK, (f"{kind}:{user_id}:{subject}",))
        yield Change(connection, kind, user_id, subject)


async def returned(cursor: AsyncCursor[DictRow]) -> DictRow:
    """The one row that a statement with RETURNING has written."""
    row = await cursor.fetchone()
    if row is None:
        raise RuntimeError("the statement wrote no row")
    return row


def check_user_id(user_id: str) -> None:
    """Raises InvalidRequest."""
    if _USER_ID.fullmatch(user_id) is None:
        raise InvalidRequest("a user id has 1 to 64 of the characters A-Z a-z 0-9 . _ -", param="userId")


async def ensure_user(connection: Connection, user_id: str) -> None:
    """Make the user (no operator) where absent. Raises InvalidRequest, and Conflict while one of that name goes."""
    check_user_id(user_id)
    if await (await connection.execute(_IS_GOING, (user_id,))).fetchone():
        raise Conflict(f"user {user_id!r} is being deleted; wait for the job's end", param="userId")
    await connection.execute(_ADD_USER, (user_id,))


def _entry(row: DictRow) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        at=row["at"].timestamp(),
        user_id=row["user_id"],
        actor=row["actor"],
        action=row["action"],
        kind=row["kind"],
        subject=row["subject"],
        before=row["before"],
        after=row["after"],
    )


class PostgresAuditRepository:
    """Implements `modelpilot.management.resources.AuditRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[AuditEntry]:
        """Newest first."""
        before_id = decode_cursor(cursor, (int,))[0] if cursor is not None else None
        params = {"user_id": user_id, "limit": limit, "before_id": before_id}
        rows = await self._database.fetch_all(_LIST, params)
        return make_page(rows, limit, _entry, lambda row: encode_cursor(row["id"]))


class PostgresHealthResets:
    """Implements `modelpilot.management.resources.HealthResets`: audited and announced like a change, which it is of
    nothing that is stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, user_id: str, scope: HealthScope, actor: str) -> None:
        """Every gateway that listens hears of it. Raises DependencyUnavailable."""
        async with changing(self._database, "health", user_id, scope.subject) as change:
            await change.done("reset", actor, None, None)
