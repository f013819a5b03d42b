"""Migrations: complete, repeatable, safe when many processes start at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from infra.db.migrate import check, upgrade
from modelpilot.errors import DependencyUnavailable

# The oldest database that can be upgraded, as `pg_dump` writes it (without owners and settings), with a few rows.
OLDEST = Path(__file__).parent / "revision_0008.sql"

COLUMNS = """
SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, identity_generation
FROM information_schema.columns WHERE table_schema = 'public'
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
"""


def load(url: str, dump: Path) -> None:
    """Fill an empty database."""
    with psycopg.connect(url) as connection:
        connection.execute(dump.read_bytes())


def schema(url: str) -> set[tuple[Any, ...]]:
    """Every column, index and constraint of a database; columns may stand in another order."""
    with psycopg.connect(url) as connection:
        return {row for query in (COLUMNS, INDEXES, CONSTRAINTS) for row in connection.execute(query)}


def rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        read = sql.SQL("SELECT * FROM {} AS found ORDER BY found")
        return {
            name: connection.execute(read.format(sql.Identifier(name))).fetchall()
            for name in (table["tablename"] for table in tables)
        }


def test_a_new_database_has_the_tables_as_described(migrated_url: str) -> None:
    """`alembic check`: a new database has what the classes say."""
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


def test_a_database_of_the_version_before_becomes_like_a_new_one(postgres_url: str, migrated_url: str) -> None:
    """Migrations and classes lead to the same tables, column by column, and rows stay."""
    load(postgres_url, OLDEST)
    before = rows(postgres_url)
    upgrade(postgres_url)
    check(postgres_url)
    assert schema(postgres_url) == schema(migrated_url)
    after = rows(postgres_url)
    assert after.pop("open_requests") == []
    changed = {table for table in before if after[table] != before[table]}
    assert changed == {"alembic_version", "requests", "attempts", "providers", "stale_hours", "hourly_totals"}
    aggregated = {row["hour"] for row in before["aggregated_hours"]}
    assert {row["hour"] for row in after["stale_hours"]} == aggregated | {row["hour"] for row in before["stale_hours"]}
    noted = [(f"{row['hour']:%H}", row["reason"]) for row in after["stale_hours"] if row["reason"] == "dimension"]
    assert noted == [("10", "dimension")]  # the hour that was aggregated
    assert after["providers"] == [{**row, "parameters": None} for row in before["providers"]]
    modalities = ("audio_input_tokens", "audio_output_tokens", "image_input_tokens", "image_output_tokens")
    counts = dict.fromkeys(("cache_write_5m_tokens", "cache_write_1h_tokens", *modalities, "web_searches"))
    added: dict[str, dict[str, Any]] = {
        "requests": {**counts, "end_user": None, "purpose": "request", "estimated": None, "erased_at": None},
        "attempts": {**counts, "bill": None, "list_cost_usd": None, "estimated": None},
    }
    for table, columns in added.items():
        for old, new in zip(before[table], after[table], strict=True):
            assert new == {column: value for column, value in old.items() if column != "features"} | columns
    assert [(row["request_id"], row["status"]) for row in before["requests"]] == [
        ("r0001", "completed"),
        ("r0007", "failed"),
    ]
    assert {row["name"] for row in rows(migrated_url)["metric_progress"]} == {"aggregated", "exported", "closed"}


def test_hours_whose_requests_may_be_gone_keep_their_sums(postgres_url: str) -> None:
    """By dimension as well: as all others, since nobody knows any more whose they were."""
    load(postgres_url, OLDEST)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE metric_progress SET through = '2026-03-02 11:00Z' WHERE name = 'closed'")
    upgrade(postgres_url)
    after = rows(postgres_url)
    assert not [row for row in after["stale_hours"] if row["reason"] == "dimension"]
    (whole,) = after["hourly_metrics"]
    for table in ("hourly_dimensions", "hourly_dimension_totals"):
        assert sorted(row["dimension"] for row in after[table]) == ["keyId", "purpose", "userId"]
        for row in after[table]:
            assert row == {**{name: whole.get(name) for name in row}, "dimension": row["dimension"], "value": "(other)"}


@pytest.mark.parametrize(("revision", "advice"), [("0005", "the version before this one"), ("9999", "a newer version")])
def test_a_schema_of_an_unknown_revision_is_left_alone(postgres_url: str, revision: str, advice: str) -> None:
    """Too old or too new: the message says what to do, and nothing is changed."""
    load(postgres_url, OLDEST)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (revision,))
    before = schema(postgres_url)
    for refused in (upgrade, check):
        with pytest.raises(DependencyUnavailable, match=revision):
            refused(postgres_url)
    with pytest.raises(DependencyUnavailable, match=advice):
        upgrade(postgres_url)
    assert schema(postgres_url) == before


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
