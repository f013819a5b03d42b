"""What a child process gets to see of the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from infra.embedded.addresses import Addresses
from infra.settings import Settings

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
    resolved = {
        "MODELPILOT_DATA_DIR": str(settings.data_dir),
        "MODELPILOT_ENCRYPTION_KEYS": ",".join(keys),
        "MODELPILOT_DATABASE_URL": addresses.database_url,
        "MODELPILOT_TEMPORAL_ADDRESS": addresses.temporal_address,
        "MODELPILOT_MILVUS_URI": addresses.milvus_uri,
        "MODELPILOT_SIMULATOR_URL": addresses.simulator_url,
    }
    return python_environment() | resolved
