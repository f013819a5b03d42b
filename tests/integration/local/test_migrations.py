"""Migrations: complete, repeatable, safe when many processes start at once."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command

from infra.db import migrate
from infra.db.migrate import check, upgrade
from modelpilot.errors import DependencyUnavailable
from tests.support.aggregation import HOUR
from tests.support.site_rows import insert


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


def test_hours_that_are_there_get_their_totals(postgres_url: str) -> None:
    """The raw rows of old hours may be gone: the site's totals of them come from the hourly rows."""
    with migrate._locked_config(postgres_url) as config:
        command.upgrade(config, "0007")
    named = {"user_id": "u1", "model": "m", "provider": "p", "baseline": "b", "requests": 5}
    with psycopg.connect(postgres_url) as connection:
        for table, router_id in itertools.product(("hourly_metrics", "hourly_baselines"), ("a", "b")):
            columns = connection.execute(f"SELECT * FROM {table}".encode()).description or []  # noqa: S608 - own names
            known = {**named, "router_id": router_id, "hour": HOUR, "updated_at": HOUR}
            insert(connection, table, {column.name: known.get(column.name, 0) for column in columns})
    upgrade(postgres_url)
    check(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        for table in ("hourly_totals", "hourly_baseline_totals"):
            found = connection.execute(f"SELECT hour, user_id, requests FROM {table}".encode())  # noqa: S608
            assert found.fetchall() == [(HOUR, "u1", 10)]


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
