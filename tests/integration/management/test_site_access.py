"""Users and sessions of the analytics site, on a real Postgres."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from infra.db.engine import SyncPool
from infra.db.management.site_users import PostgresSiteAccess, PostgresSiteUserRepository
from modelpilot.errors import Conflict, InvalidRequest, NotFound
from modelpilot.management.site import IDLE_S, LIFETIME_S, SiteUser, Visitor
from tests.support.samples import table_text

ALICE = SiteUser("alice", "team-a", "viewer", active=True, created_at=0.0)
TOKEN = b"t" * 32
# In an order in which each finds what it needs.
CHANGES: tuple[Callable[[PostgresSiteUserRepository, str], None], ...] = (
    lambda users, name: users.set_password(name, "hash-2", "tester"),
    lambda users, name: users.set_active(name, False, "tester"),
    lambda users, name: users.delete(name, "tester"),
)


@pytest.fixture
def pool(migrated_url: str) -> Iterator[SyncPool]:
    """A pool that may write."""
    opened = SyncPool(migrated_url, read_only=False, max_connections=8)
    yield opened
    opened.close()


@pytest.fixture
def users(pool: SyncPool) -> PostgresSiteUserRepository:
    """The repository, with alice."""
    repository = PostgresSiteUserRepository(pool)
    repository.add(ALICE, "hash-1", "tester")
    return repository


@pytest.fixture
def access(pool: SyncPool, users: PostgresSiteUserRepository) -> PostgresSiteAccess:
    """What the site asks, with alice among its users."""
    return PostgresSiteAccess(pool)


def test_a_user_comes_with_its_tenant_and_is_audited(users: PostgresSiteUserRepository, migrated_url: str) -> None:
    """The first user of a tenant makes it, and the audit log knows who did what, without the hash."""
    assert [(one.username, one.user_id, one.role, one.active) for one in users.list()] == [
        ("alice", "team-a", "viewer", True)
    ]
    users.set_password("alice", "hash-2", "tester")
    users.set_active("alice", False, "tester")
    users.delete("alice", "tester")
    with psycopg.connect(migrated_url) as connection:
        rows = connection.execute("SELECT user_id, actor, action FROM audit_log ORDER BY id").fetchall()
    assert rows == [("team-a", "tester", action) for action in ("create", "password", "update", "delete")]
    assert "hash-" not in table_text(migrated_url, "audit_log")
    assert users.list() == []


def test_names_are_unique_and_unknown_ones_are_reported(users: PostgresSiteUserRepository) -> None:
    """A second alice is a conflict that changes nothing; nobody is changed by a wrong name."""
    with pytest.raises(Conflict):
        users.add(ALICE, "hash-2", "tester")
    with pytest.raises(InvalidRequest):
        users.add(SiteUser("bob", "no/slash", "viewer", active=True, created_at=0.0), "hash", "tester")
    for change in CHANGES:
        with pytest.raises(NotFound):
            change(users, "bob")


def test_a_session_lasts_until_it_is_ended(access: PostgresSiteAccess, migrated_url: str) -> None:
    """A token opens the site from login to logout; the database holds neither it nor anything that leads to it."""
    access.begin_session(TOKEN, "alice")
    assert access.visitor(TOKEN) == Visitor("alice", "team-a", "viewer")
    assert access.visitor(b"x" * 32) is None
    access.end_session(TOKEN)
    assert access.visitor(TOKEN) is None


@pytest.mark.parametrize(("column", "age_s"), [("seen_at", IDLE_S), ("created_at", LIFETIME_S)])
def test_old_sessions_end_by_themselves(
    access: PostgresSiteAccess, migrated_url: str, column: str, age_s: float
) -> None:
    """Twelve idle hours end a session, and so do seven busy days; the next login sweeps it away."""
    access.begin_session(TOKEN, "alice")
    _age(migrated_url, column, age_s - 60.0)
    assert access.visitor(TOKEN) is not None
    _age(migrated_url, column, age_s + 1.0)
    assert access.visitor(TOKEN) is None
    access.begin_session(b"u" * 32, "alice")
    assert table_text(migrated_url, "site_sessions").count("alice") == 1


def test_use_keeps_a_session_alive(access: PostgresSiteAccess, migrated_url: str) -> None:
    """The idle time counts from the last use, not from the login."""
    access.begin_session(TOKEN, "alice")
    _age(migrated_url, "seen_at", IDLE_S - 60.0)
    assert access.visitor(TOKEN) is not None
    with psycopg.connect(migrated_url) as connection:
        row = connection.execute("SELECT clock_timestamp() - seen_at < interval '1 minute' FROM site_sessions")
        assert row.fetchone() == (True,)


def test_a_changed_user_has_to_log_in_again(access: PostgresSiteAccess, users: PostgresSiteUserRepository) -> None:
    """A new password, disabling and deleting each end the sessions that were open."""
    for change in CHANGES:
        access.begin_session(TOKEN, "alice")
        change(users, "alice")
        assert access.visitor(TOKEN) is None
    assert access.any_user() is False
    assert access.credentials("alice") is None


def test_guesses_at_the_same_time_are_counted_one_by_one(access: PostgresSiteAccess) -> None:
    """Forty guesses sent at once get no further than ten sent in a row."""
    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(lambda _: access.reserve_attempt(b"key", 10, 900.0), range(40)))
    assert sum(wait == 0.0 for wait in waits) == 10
    assert all(0.0 < wait <= 900.0 for wait in waits if wait)
    assert access.reserve_attempt(b"other", 10, 900.0) == 0.0


def test_refusals_end_with_their_window(access: PostgresSiteAccess, migrated_url: str) -> None:
    """Knocking on a closed door does not keep it closed, and a right password opens it for the next time."""
    for _ in range(3):
        access.reserve_attempt(b"key", 1, 900.0)
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE site_login_attempts SET window_ends_at = clock_timestamp() - interval '1 second'")
    assert access.reserve_attempt(b"key", 1, 900.0) == 0.0
    assert access.reserve_attempt(b"key", 1, 900.0) > 0.0
    access.forgive_attempt(b"key", all_of_them=True)
    assert access.reserve_attempt(b"key", 1, 900.0) == 0.0


def _age(url: str, column: str, seconds: float) -> None:
    statement = f"UPDATE site_sessions SET {column} = clock_timestamp() - make_interval(secs => %s)"  # noqa: S608 - ours
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode(), (seconds,))
