"""What the processes of one machine share: where the services are, their environment, and the encryption keys."""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.local.data_dir import DataDir, running_pid, write_once
from infra.setting_values import ENCRYPTION_KEY_BYTES
from infra.settings import PREFIX, ConfigurationError, Settings


@dataclass(frozen=True)
class Addresses:
    """How to reach each backing service, embedded or given; the names are those of the settings."""

    database_url: str
    temporal_address: str
    milvus_uri: str
    simulator_url: str


def publish(addresses: Addresses, path: Path) -> None:
    """Write the addresses for commands that join the running stack (`keys`, `doctor`, `demo` …), mode 0600."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(asdict(addresses), indent=2) + "\n", encoding="utf-8")


def join_running_stack(settings: Settings) -> Settings:
    """Settings whose services are all known: the missing ones from the stack that runs on the data directory.

    Raises ConfigurationError when something is missing and no stack runs there.
    """
    missing = {name for name in Addresses.__dataclass_fields__ if getattr(settings, name) is None}
    if not missing:
        return settings
    found = _published(settings)
    return settings.model_copy(update={name: found[name] for name in missing})


def _published(settings: Settings) -> dict[str, str]:
    data = DataDir(settings.data_dir)
    if running_pid(data.lock) is None or not data.addresses.exists():
        advice = "start it with `make up`, or set MODELPILOT_DATABASE_URL and the other addresses"
        raise ConfigurationError([f"nothing runs on {data.root}: {advice}"])
    try:
        return asdict(Addresses(**json.loads(data.addresses.read_text(encoding="utf-8"))))
    except (ValueError, TypeError) as error:  # written by another version, or cut off by a full disk
        raise ConfigurationError([f"{data.addresses}: {error}; start ModelPilot anew"]) from error


CHECKOUT = Path(__file__).resolve().parents[2]
FOREIGN = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


def foreign_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """For servers that are not ours: no provider key and no setting of ModelPilot is any of their business."""
    return {name: os.environ[name] for name in FOREIGN if name in os.environ} | dict(extra or {})


def python_environment() -> dict[str, str]:
    """For `python -m cli …`: our packages are found, and nothing in the working directory shadows them."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",  # the log has everything up to a crash
    }


def role_environment(settings: Settings, addresses: Addresses, keys: list[str]) -> dict[str, str]:
    """For a role that stores or reads tenants' data: everything resolved, keys included (never on a command line)."""
    resolved = {"data_dir": str(settings.data_dir), "encryption_keys": ",".join(keys), **asdict(addresses)}
    return python_environment() | {f"{PREFIX}{name.upper()}": value for name, value in resolved.items()}


def ensure_keyring(settings: Settings) -> list[str]:
    """The keys as base64 of 32 bytes, newest first: those of the settings, or else those in the data directory, which
    are generated with mode 0600 where there are none yet.

    Raises ConfigurationError when the file holds something else.
    """
    if settings.encryption_keys:
        return settings.encryption_key_texts
    path = DataDir(settings.data_dir).encryption_keys
    if not path.exists():
        write_once(path, base64.b64encode(secrets.token_bytes(ENCRYPTION_KEY_BYTES)) + b"\n")  # a lost key is lost data
    path.chmod(0o600)
    keys = path.read_text(encoding="ascii", errors="replace").split()
    if not keys or not all(_is_key(key) for key in keys):
        raise ConfigurationError([f"{path}: must hold one key per line, each the base64 of 32 random bytes"])
    return keys


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == ENCRYPTION_KEY_BYTES
    except ValueError:
        return False
