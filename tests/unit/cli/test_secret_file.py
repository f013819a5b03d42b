"""The file with the admin key: complete or not there, the first writer's, and nobody else's to read."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.admin_key import read_api_key, write_api_key
from infra.crypto.secrets import generate_secret
from infra.settings import ConfigurationError


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Mode 0600 from the first moment, also in a directory that has to be made."""
    path, secret = tmp_path / "data" / "admin.key", generate_secret()
    assert write_api_key(path, secret) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_api_key(path) == secret
    assert list(path.parent.iterdir()) == [path]


def test_the_first_writer_wins(tmp_path: Path) -> None:
    """Of many processes that start at once all go on with the same key."""
    path = tmp_path / "admin.key"
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: write_api_key(path, generate_secret()), range(16)))
    assert found == {read_api_key(path)}
    assert list(tmp_path.iterdir()) == [path]


def test_another_content_is_an_error_that_does_not_repeat_it(tmp_path: Path) -> None:
    """A file that somebody edited is not sent to the gateway as a key."""
    path = tmp_path / "admin.key"
    assert read_api_key(path) is None
    path.write_text("mp_short")
    with pytest.raises(ConfigurationError) as raised:
        read_api_key(path)
    assert "mp_short" not in str(raised.value)
