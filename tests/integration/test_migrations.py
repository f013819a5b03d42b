"""Migrations: complete, repeatable, safe when many processes start at once."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from infra.db.migrate import check, upgrade
from modelpilot.errors import DependencyUnavailable


def test_the_migrations_lead_to_the_tables_as_described(migrated_url: str) -> None:
    """`alembic check`: tables.py and the migrations say the same."""
    check(migrated_url)


def test_a_fresh_database_is_reported(postgres_url: str) -> None:
    """A process that meets an old schema says so instead of failing later."""
    with pytest.raises(DependencyUnavailable, match="schema"):
        check(postgres_url)


def test_drift_is_reported(migrated_url: str) -> None:
    """A column that nobody described does not go unnoticed."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("ALTER TABLE users ADD COLUMN surprise text")
    with pytest.raises(DependencyUnavailable, match="surprise"):
        check(migrated_url)


def test_upgrade_is_repeatable(migrated_url: str) -> None:
    """A restart migrates nothing twice."""
    upgrade(migrated_url)
    check(migrated_url)


def test_concurrent_starts_migrate_once(postgres_url: str) -> None:
    """Eight processes may start together on an empty database."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(upgrade, [postgres_url] * 8))
    check(postgres_url)


def test_no_server_is_a_clear_error() -> None:
    """Without Postgres the start says so, and not where or with which password."""
    with pytest.raises(DependencyUnavailable) as refused:
        upgrade("postgresql://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(refused.value)
