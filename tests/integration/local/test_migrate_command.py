"""`modelpilot migrate` on a real database: everything a first request needs, once, and a way back to a lost key."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import Result

from infra.db.engine import Database
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.migrate import check
from infra.local.data_dir import DataDir
from modelpilot.requests.records import Principal
from tests.support.processes import modelpilot


def run(monkeypatch: pytest.MonkeyPatch, url: str, directory: Path, *arguments: str) -> Result:
    monkeypatch.setenv("MODELPILOT_DATABASE_URL", url)
    monkeypatch.setenv("MODELPILOT_DATA_DIR", str(directory))
    result = modelpilot(*arguments)
    assert result.exit_code == 0, result.output
    return result


async def _holder(url: str, secret: str) -> Principal | None:
    async with Database(url) as database:
        repository = PostgresApiKeyRepository(database)
        try:
            return await repository.authenticate(secret)
        finally:
            await repository.close()


def holder(url: str, secret: str) -> Principal | None:
    """Who the database says holds this key."""
    return asyncio.run(_holder(url, secret))


def test_an_empty_database_is_made_ready_once(
    monkeypatch: pytest.MonkeyPatch, postgres_url: str, tmp_path: Path
) -> None:
    """Schema, catalogue, router and a working admin key; a second run changes nothing."""
    first = run(monkeypatch, postgres_url, tmp_path, "migrate").stdout
    check(postgres_url)
    secret = DataDir(tmp_path).admin_key.read_text().strip()
    admin = holder(postgres_url, secret)
    assert admin is not None
    assert admin.operator
    assert "router demo: created" in first
    second = run(monkeypatch, postgres_url, tmp_path, "migrate").stdout
    assert [line.partition(": ")[2].split(",")[0] for line in second.splitlines()] == ["up to date", *["unchanged"] * 3]
    assert DataDir(tmp_path).admin_key.read_text().strip() == secret


def test_a_key_written_before_a_crash_is_the_one_that_counts(
    monkeypatch: pytest.MonkeyPatch, migrated_url: str, tmp_path: Path
) -> None:
    """The file is there, the database knows nothing of it yet: the next run goes on with that key."""
    secret = f"mp_{'0f' * 32}"
    DataDir(tmp_path).admin_key.write_text(secret)
    run(monkeypatch, migrated_url, tmp_path, "migrate")
    assert holder(migrated_url, secret) is not None


def test_a_lost_key_can_be_replaced(monkeypatch: pytest.MonkeyPatch, migrated_url: str, tmp_path: Path) -> None:
    """No key is made behind anybody's back; the command that makes one is named, and works without a gateway."""
    run(monkeypatch, migrated_url, tmp_path, "migrate")
    path = DataDir(tmp_path).admin_key
    path.unlink()
    assert "modelpilot keys create --admin" in run(monkeypatch, migrated_url, tmp_path, "migrate").stdout
    assert not path.exists()
    printed = run(monkeypatch, migrated_url, tmp_path, "keys", "create", "--admin").stdout.strip()
    assert path.read_text().strip() == printed
    assert holder(migrated_url, printed) is not None


def test_a_key_of_another_database_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch, migrated_url: str, tmp_path: Path
) -> None:
    """Somebody may still need it: the message says what to do, the file stays."""
    run(monkeypatch, migrated_url, tmp_path, "migrate")
    path, other = DataDir(tmp_path).admin_key, f"mp_{'0f' * 32}"
    path.write_text(other)
    assert "does not know" in run(monkeypatch, migrated_url, tmp_path, "migrate").stdout
    assert path.read_text() == other


def test_without_a_database_it_says_which_setting_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It never guesses a database."""
    monkeypatch.delenv("MODELPILOT_DATABASE_URL", raising=False)
    monkeypatch.setenv("MODELPILOT_DATA_DIR", str(tmp_path))
    assert "MODELPILOT_DATABASE_URL" in str(modelpilot("migrate").exception)
