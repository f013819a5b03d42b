"""The audit log. Entries are written by the repositories, in the transaction of the change itself."""

from psycopg.rows import DictRow

from infra.db.engine import Database
from infra.db.repositories.paging import decode_cursor, encode_cursor, make_page
from modelpilot.management.resources import AuditEntry, Page

_LIST = """
SELECT * FROM audit_log
WHERE user_id = %(user_id)s AND (%(before_id)s::bigint IS NULL OR id < %(before_id)s)
ORDER BY id DESC LIMIT %(limit)s + 1
"""


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
