"""A maintenance worker as a process of its own, over servers that a test has."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.local.data_dir import DataDir
from tests.support.world import KEYRING, wait_until


def environment(directory: Path, database: str, temporal: str, milvus: str, **more: str) -> dict[str, str]:
    """What such a process needs; `more` are settings without their prefix."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODELPILOT_")}
    given = {
        "DATABASE_URL": database,
        "TEMPORAL_ADDRESS": temporal,
        "MILVUS_URI": milvus,
        "ENCRYPTION_KEYS": KEYRING,
        "DATA_DIR": str(directory),
        **more,
    }
    return kept | {f"MODELPILOT_{name}": value for name, value in given.items()}


@contextmanager
def worker(environment: Mapping[str, str], name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A maintenance worker process that polls; killed at the end."""
    directory = Path(environment["MODELPILOT_DATA_DIR"])
    ready, log = DataDir(directory).worker_ready, directory / f"{name}.log"
    ready.unlink(missing_ok=True)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "cli", "worker"]
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the worker is not ready")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()
