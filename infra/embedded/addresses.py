"""Where the running stack is: written by the supervisor, read by commands that join it (`keys`, `doctor`, `demo` …)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.embedded.data_dir import DataDir
from infra.embedded.lock import running_pid
from infra.settings import ConfigurationError, Settings


@dataclass(frozen=True)
class Addresses:
    """How to reach each backing service, embedded or given."""

    database_url: str
    temporal_address: str
    milvus_uri: str
    simulator_url: str


def publish(addresses: Addresses, path: Path) -> None:
    """Write the addresses for other commands, readable by the owner only."""
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
    return asdict(Addresses(**json.loads(data.addresses.read_text(encoding="utf-8"))))
