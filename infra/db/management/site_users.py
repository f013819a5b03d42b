"""The users of the analytics site, their sessions, and the brake on guessed passwords."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import SyncPool
from infra.db.management.changes import check_user_id
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.site import IDLE_S, LIFETIME_S, Credentials, SiteUser, Visitor

_TENANT: LiteralString = "INSERT INTO users (id, operator) VALUES (%s, false) ON CONFLICT DO NOTHING"
_ADD: LiteralString = """
INSERT INTO site_users (username, user_id, role, password_hash, active) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING RETURNING username"""
_SET_PASSWORD: LiteralString = "UPDATE site_users SET password_hash = %s WHERE username = %s"  # noqa: S105 - SQL
_AUDIT: LiteralString = """
INSERT INTO audit_log (user_id, actor, action, kind, subject, before, after)
VALUES (%s, %s, %s, 'site_user', %s, %s, %s)"""

# A page that refreshes itself asks every few seconds: a write per minute is precise enough for an idle time of hours.
_TOUCH_AFTER_S = 60.0

_SESSION: LiteralString = """
SELECT u.username, u.user_id, u.role, s.seen_at < clock_timestamp() - make_interval(secs => %(touch_s)s) AS stale
FROM site_sessions s JOIN site_users u USING (username)
WHERE s.token_hash = %(token)s AND u.active
  AND s.seen_at > clock_timestamp() - make_interval(secs => %(idle_s)s)
  AND s.created_at > clock_timestamp() - make_interval(secs => %(lifetime_s)s)"""
_TOUCH: LiteralString = "UPDATE site_sessions SET seen_at = clock_timestamp() WHERE token_hash = %s"
_FORGET_SESSIONS: LiteralString = """
DELETE FROM site_sessions WHERE seen_at < clock_timestamp() - make_interval(secs => %s)
    OR created_at < clock_timestamp() - make_interval(secs => %s)"""
_BEGIN: LiteralString = "INSERT INTO site_sessions (token_hash, username) VALUES (%s, %s)"
_LOGGED_IN: LiteralString = "UPDATE site_users SET last_login_at = clock_timestamp() WHERE username = %s"

_FORGET_ATTEMPTS: LiteralString = "DELETE FROM site_login_attempts WHERE window_ends_at < clock_timestamp()"
# One statement, so that guesses sent at the same time are counted one after the other. A refused attempt is not
# counted: knocking on a closed door does not keep it closed.
_RESERVE: LiteralString = """
INSERT INTO site_login_attempts AS known (key, attempts, window_ends_at)
VALUES (%(key)s, 1, clock_timestamp() + make_interval(secs => %(window_s)s))
ON CONFLICT (key) DO UPDATE SET attempts = least(known.attempts, %(limit)s) + 1
RETURNING attempts, greatest(extract(epoch FROM window_ends_at - clock_timestamp()), 1)::float AS wait_s"""


class PostgresSiteUserRepository:
    """The users of the site. Changes are audited under `actor`, and a changed user has to log in again."""

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
            return [_stored(row) for row in connection.execute("SELECT * FROM site_users ORDER BY username")]

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
            yield connection, _stored(row)


class PostgresSiteAccess:
    """Implements `modelpilot.management.site.SiteAccess`. May be used from many threads."""

    def __init__(self, pool: SyncPool) -> None:
        """`pool` has to allow writes."""
        self._pool = pool

    def any_user(self) -> bool:
        """Whether the site has users at all, active or not."""
        with self._pool.transaction() as connection:
            row = connection.execute("SELECT EXISTS (SELECT 1 FROM site_users) AS known").fetchone()
        return bool(row and row["known"])

    def credentials(self, username: str) -> Credentials | None:
        """None: no such user."""
        with self._pool.transaction() as connection:
            row = connection.execute("SELECT * FROM site_users WHERE username = %s", (username,)).fetchone()
        return None if row is None else Credentials(_stored(row), row["password_hash"])

    def begin_session(self, token_hash: bytes, username: str) -> None:
        """Remember a new session and the login; forget the sessions that have ended by themselves."""
        with self._pool.transaction() as connection:
            connection.execute(_FORGET_SESSIONS, (IDLE_S, LIFETIME_S))
            connection.execute(_BEGIN, (token_hash, username))
            connection.execute(_LOGGED_IN, (username,))

    def visitor(self, token_hash: bytes) -> Visitor | None:
        """Who has this session; None where it never was, has ended, or its user is disabled."""
        given = {"token": token_hash, "touch_s": _TOUCH_AFTER_S, "idle_s": IDLE_S, "lifetime_s": LIFETIME_S}
        with self._pool.transaction() as connection:
            row = connection.execute(_SESSION, given).fetchone()
            if row is None:
                return None
            if row["stale"]:
                connection.execute(_TOUCH, (token_hash,))
        return Visitor(row["username"], row["user_id"], row["role"])

    def end_session(self, token_hash: bytes) -> None:
        """Log out."""
        with self._pool.transaction() as connection:
            connection.execute("DELETE FROM site_sessions WHERE token_hash = %s", (token_hash,))

    def reserve_attempt(self, key: bytes, limit: int, window_s: float) -> float:
        """0.0, or for how many seconds attempts with this key are refused."""
        with self._pool.transaction() as connection:
            connection.execute(_FORGET_ATTEMPTS)
            row = connection.execute(_RESERVE, {"key": key, "limit": limit, "window_s": window_s}).fetchone()
        return float(row["wait_s"]) if row and row["attempts"] > limit else 0.0

    def forgive_attempt(self, key: bytes, *, all_of_them: bool) -> None:
        """Forget one attempt of this key, or all."""
        forgotten = 2**31 - 1 if all_of_them else 1
        with self._pool.transaction() as connection:
            connection.execute(
                "UPDATE site_login_attempts SET attempts = greatest(attempts - %s, 0) WHERE key = %s", (forgotten, key)
            )


def _stored(row: DictRow) -> SiteUser:
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
