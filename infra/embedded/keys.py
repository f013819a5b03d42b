"""The encryption keyring: given by the settings, or generated into the data directory on the first start."""

import base64
import os
import secrets
from pathlib import Path

from infra.embedded.data_dir import DataDir
from infra.settings import ENCRYPTION_KEY_BYTES, ConfigurationError, Settings


def ensure_keyring(settings: Settings) -> list[str]:
    """The keys as base64 of 32 bytes, newest first; generated with mode 0600 where there are none yet.

    Raises ConfigurationError when the file holds something else.
    """
    if settings.encryption_keys:
        return [key.get_secret_value() for key in settings.encryption_keys]
    path = DataDir(settings.data_dir).encryption_keys
    if not path.exists():
        _create(path)
    path.chmod(0o600)
    keys = path.read_text(encoding="ascii", errors="replace").split()
    if not keys or not all(_is_key(key) for key in keys):
        raise ConfigurationError([f"{path}: must hold one key per line, each the base64 of 32 random bytes"])
    return keys


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(ENCRYPTION_KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())  # a lost key is lost data
        if not path.exists():
            _link_first(unfinished, path)
    finally:
        unfinished.unlink()


def _link_first(unfinished: Path, path: Path) -> None:
    # A link never replaces: of two processes that start at once, the first one's key counts for both.
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        return


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == ENCRYPTION_KEY_BYTES
    except ValueError:
        return False
