"""The operator's admin key: in a file before it is in the database, so that a crash in between loses nothing."""

from pathlib import Path
from typing import Any

from infra.crypto.secrets import display_prefix, generate_secret, is_well_formed
from infra.db.engine import Database
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.management.seed import SEED_ACTOR, ensure_operator
from infra.local.data_dir import DataDir, writable, write_once
from infra.local.environment import join_running_stack
from infra.settings import ConfigurationError, Settings
from modelpilot.management.resources import ALL_SCOPES, OPERATOR_USER, NewApiKey, StoredApiKey


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
    """Write the file; the key that it holds afterwards.

    That is another one where another process was quicker: a file that is there is never replaced.
    """
    with writable(path.parent):
        write_once(path, secret.encode("ascii") + b"\n")
    return read_api_key(path) or secret


NEW_KEY = "make a new one with `modelpilot keys create --admin`"
_MOST_KEYS = 200


async def ensure_admin_key(database: Database, path: Path) -> str:
    """Make the operator and its key where the operator has none; says what was done, or what to do.

    Raises DependencyUnavailable, ConfigurationError (the file holds something else).
    """
    known = await _admin_keys(database)
    if not known:
        secret = read_api_key(path) or write_api_key(path, generate_secret())
        if await ensure_operator(database, secret=secret) is not None:
            return f"created, in {path}"
        known = await _admin_keys(database)  # another process was quicker, perhaps with another data directory
    return _state(known, path)


async def new_admin_key(settings: Settings, name: str) -> dict[str, Any]:
    """One more admin key of the operator, without asking the gateway, which nobody may be able to talk to any more.

    Also written to `<data dir>/admin.key` where that is missing. Raises ConfigurationError, DependencyUnavailable.
    """
    url = settings.database_url or join_running_stack(settings).database_url
    path, secret = DataDir(settings.data_dir).admin_key, generate_secret()
    if read_api_key(path) is None:
        secret = write_api_key(path, secret)
    async with Database(str(url)) as database:
        if await ensure_operator(database, secret=secret) is None:
            new = NewApiKey(name, frozenset(ALL_SCOPES))
            stored = await PostgresApiKeyRepository(database).adopt(OPERATOR_USER, new, secret, SEED_ACTOR)
        else:
            stored = (await _admin_keys(database))[0]
    return {"id": stored.id, "key": secret, "file": str(path) if read_api_key(path) == secret else None}


def _state(known: list[StoredApiKey], path: Path) -> str:
    secret = read_api_key(path)
    if secret is None:
        return f"exists, but {path} is missing; {NEW_KEY}"
    # 32 random bits tell keys of one operator apart, and asking so does not count as a use of the key.
    if any(key.active and key.prefix == display_prefix(secret) for key in known):
        return f"unchanged, in {path}"
    return f"{path} holds a key that this database does not know or that was revoked; remove the file and {NEW_KEY}"


async def _admin_keys(database: Database) -> list[StoredApiKey]:
    page = await PostgresApiKeyRepository(database).list(OPERATOR_USER, None, _MOST_KEYS)
    return [key for key in page.items if "admin" in key.scopes]
