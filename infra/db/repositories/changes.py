"""What every management change has in common: one at a time per thing, audited, and announced, in one transaction."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from infra.db.engine import Connection, Database
from infra.db.notifications import CHANNEL

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

_AUDIT = """
WITH entry AS (
    INSERT INTO audit_log (user_id, actor, action, kind, subject, before, after) VALUES (%s, %s, %s, %s, %s, %s, %s)
)
SELECT pg_notify(%s, %s)
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
