"""`modelpilot users` as an operator types it, on a real Postgres."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.crypto.secrets import Argon2Hasher
from infra.db.engine import SyncPool
from infra.db.management.site_users import PostgresSiteAccess

PASSWORD = "correct horse battery"


def users(url: str, directory: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command against a database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODELPILOT_")}
    environment = {**kept, "MODELPILOT_DATABASE_URL": url, "MODELPILOT_DATA_DIR": str(directory)}
    command = [sys.executable, "-m", "cli", "users", *arguments]
    return subprocess.run(
        command, env=environment, input=given, capture_output=True, text=True, timeout=60.0, check=False
    )


def test_a_user_from_the_first_password_to_the_end(migrated_url: str, tmp_path: Path) -> None:
    """Made, listed, given another password, disabled and deleted; the database never holds a password."""

    def run(*arguments: str, given: str = "") -> str:
        ran = users(migrated_url, tmp_path, *arguments, given=given)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    run("add", "Alice", "--user", "team-a", "--password-stdin", given=PASSWORD + "\n")
    (listed,) = json.loads(run("list", "--json"))
    assert (listed["username"], listed["user_id"], listed["role"], listed["active"]) == (
        "alice",
        "team-a",
        "viewer",
        True,
    )
    assert "alice" in run("list")
    assert _password_is(migrated_url, PASSWORD)
    run("passwd", "alice", "--password-stdin", given="another horse battery\n")
    assert _password_is(migrated_url, "another horse battery")
    assert not _password_is(migrated_url, PASSWORD)
    run("disable", "alice")
    assert json.loads(run("list", "--json"))[0]["active"] is False
    run("enable", "alice")
    run("delete", "alice")
    assert json.loads(run("list", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "given", "code", "says"),
    [
        (("add", "bob", "--password-stdin"), PASSWORD, 2, "--user"),
        (("add", "bob", "--admin", "--password-stdin"), "short", 1, "12 to 1,000 characters"),
        (("add", "no spaces", "--admin", "--password-stdin"), PASSWORD, 1, "a user name has"),
        (("add", "bob", "--user", "no/slash", "--password-stdin"), PASSWORD, 1, "a user id has"),
        (("disable", "nobody"), "", 1, "does not exist"),
        (("passwd", "nobody", "--password-stdin"), PASSWORD, 1, "does not exist"),
    ],
)
def test_mistakes_are_explained(
    migrated_url: str, tmp_path: Path, arguments: tuple[str, ...], given: str, code: int, says: str
) -> None:
    """Each one with one line and an exit code, and without a password in it."""
    ran = users(migrated_url, tmp_path, *arguments, given=given)
    assert (ran.returncode, says in ran.stderr) == (code, True), ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr


def _password_is(url: str, password: str) -> bool:
    pool = SyncPool(url, read_only=False)
    try:
        known = PostgresSiteAccess(pool).credentials("alice")
    finally:
        pool.close()
    assert known
    assert known.password_hash.startswith("$argon2id$")
    return Argon2Hasher().matches(known.password_hash, password)
