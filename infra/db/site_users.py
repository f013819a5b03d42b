"""The users of the analytics site: `modelpilot.management.site.SiteUserRepository` on Postgres."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.repositories.users import check_user_id
from infra.db.sync_pool import SyncPool
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.site import SiteUser

_TENANT: LiteralString = "INSERT INTO users (id, operator) VALUES (%s, false) ON CONFLICT DO NOTHING"
_ADD: LiteralString = """
INSERT INTO site_users (username, user_id, role, password_hash, active) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING RETURNING username"""
_SET_PASSWORD: LiteralString = "UPDATE site_users SET password_hash = %s WHERE username = %s"  # noqa: S105 - SQL
_AUDIT: LiteralString = """
INSERT INTO audit_log (user_id, actor, action, kind, subject, before, after)
VALUES (%s, %s, %s, 'site_user', %s, %s, %s)"""


class PostgresSiteUserRepository:
    """Implements `modelpilot.management.site.SiteUserRepository`. A changed user has to log in again."""

    def __init__(self, pool: SyncPool) -> None:
        """`pool` has to allow writes."""
        self._pool = pool

    def add(self, user: SiteUser, password_hash: str, actor: str) -> None:
        """Make a user, and its tenant where absent. Raises Conflict, InvalidRequest."""
        check_user_id(user.user_id)
        values = (user.username, user.user_id, user.role, password_hash, user.active)
        with self._pool.transaction() as connection:
            connection.execute(_TENANT, (user.user_id,))
            if connection.execute(_ADD, values).fetchone() is None:
                raise Conflict(f"user {user.username!r} exists already", param="username")
            _audit(connection, user.user_id, actor, "create", user.username, None, _state(user))

    def list(self) -> Sequence[SiteUser]:
        """All, by name."""
        with self._pool.transaction() as connection:
            return [stored_user(row) for row in connection.execute("SELECT * FROM site_users ORDER BY username")]

    def set_password(self, username: str, password_hash: str, actor: str) -> None:
        """Raises NotFound."""
        with self._changing(username) as (connection, known):
            connection.execute(_SET_PASSWORD, (password_hash, username))
            _audit(connection, known.user_id, actor, "password", username, None, None)

    def set_active(self, username: str, active: bool, actor: str) -> None:
        """Raises NotFound."""
        with self._changing(username) as (connection, known):
            connection.execute("UPDATE site_users SET active = %s WHERE username = %s", (active, username))
            after = {**_state(known), "active": active}
            _audit(connection, known.user_id, actor, "update", username, _state(known), after)

    def delete(self, username: str, actor: str) -> None:
        """Raises NotFound."""
        with self._changing(username) as (connection, known):
            connection.execute("DELETE FROM site_users WHERE username = %s", (username,))
            _audit(connection, known.user_id, actor, "delete", username, _state(known), None)

    @contextmanager
    def _changing(self, username: str) -> Iterator[tuple[Connection[DictRow], SiteUser]]:
        with self._pool.transaction() as connection:
            row = connection.execute("SELECT * FROM site_users WHERE username = %s FOR UPDATE", (username,)).fetchone()
            if row is None:
                raise NotFound(f"user {username!r} does not exist")
            connection.execute("DELETE FROM site_sessions WHERE username = %s", (username,))
            yield connection, stored_user(row)


def stored_user(row: DictRow) -> SiteUser:
    """A row of `site_users` without its hash."""
    last = row["last_login_at"]
    return SiteUser(
        username=row["username"],
        user_id=row["user_id"],
        role=row["role"],
        active=row["active"],
        created_at=row["created_at"].timestamp(),
        last_login_at=last.timestamp() if last else None,
    )


def _state(user: SiteUser) -> dict[str, Any]:
    return {"username": user.username, "userId": user.user_id, "role": user.role, "active": user.active}


def _audit(
    connection: Connection[DictRow],
    user_id: str,
    actor: str,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    states = [None if state is None else Jsonb(dict(state)) for state in (before, after)]
    connection.execute(_AUDIT, (user_id, actor, action, subject, *states))
