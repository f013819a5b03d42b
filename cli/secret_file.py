"""A file with one API key in it, readable by its owner only."""

import os
import secrets
from pathlib import Path

from infra.crypto.secrets import is_well_formed
from infra.settings import ConfigurationError


def read_api_key(path: Path) -> str | None:
    """The key in the file, None where there is no file. Raises ConfigurationError where something else is in it."""
    try:
        secret = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from error
    if not is_well_formed(secret):
        raise ConfigurationError([f"{path}: holds no API key (mp_ and 64 hex characters were expected)"])
    return secret


def write_api_key(path: Path, secret: str) -> str:
    """Write the file, complete or not at all, mode 0600, synced to disk; the key that the file holds afterwards.

    That is another one where another process was quicker: a file that is there is never replaced.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret.encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())  # the database must not know a key that a power cut took away
        _link_first(unfinished, path)
    finally:
        unfinished.unlink()
    return read_api_key(path) or secret


def _link_first(unfinished: Path, path: Path) -> None:
    # A link never replaces: of two processes that start at once, the first one's key counts for both.
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        return
