"""`modelpilot up` as a user starts it: one process, everything else is its own."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local import ports
from infra.local.data_dir import DataDir
from tests.support.world import KEYRING, wait_until

READY_PATIENCE_S = 90.0


@dataclass(frozen=True)
class Installation:
    """A running `modelpilot up`."""

    directory: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def api_url(self) -> str:
        """Base URL of the gateway."""
        return f"http://127.0.0.1:{self.environment['MODELPILOT_API_PORT']}"

    @property
    def admin_key(self) -> str:
        """The key that the first start wrote."""
        return (self.directory / "admin.key").read_text().strip()

    def modelpilot(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run another command of the console script against it."""
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def interrupt(self, timeout_s: float = 60.0) -> int:
        """Press Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)


def new_environment(directory: Path) -> dict[str, str]:
    """Settings of an installation with ports of its own."""
    names = ("API", "DASHBOARD", "TEMPORAL", "TEMPORAL_UI")
    chosen = {f"MODELPILOT_{name}_PORT": str(ports.free_port()) for name in names}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODELPILOT_")}
    return {**kept, **chosen, "MODELPILOT_DATA_DIR": str(directory)}


@contextmanager
def running_installation(directory: Path, environment: dict[str, str] | None = None) -> Iterator[Installation]:
    """Start `modelpilot up` and wait until it is ready; it is interrupted at the end if it still runs."""
    environment = environment or new_environment(directory)
    log = directory.with_suffix(".up.log")
    with log.open("ab") as output:
        command = [sys.executable, "-m", "cli", "up"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    installation = Installation(directory, environment, process, log)
    try:
        wait_until(lambda: _ready(installation), f"`modelpilot up` is not ready: see {log}", READY_PATIENCE_S)
        yield installation
    finally:
        if process.poll() is None:
            installation.interrupt()


def _ready(installation: Installation) -> bool:
    if installation.process.poll() is not None:
        raise AssertionError(f"`modelpilot up` ended: {installation.log.read_text()[-3000:]}")
    try:
        with urllib.request.urlopen(f"{installation.api_url}/readyz", timeout=5.0) as answer:  # noqa: S310 - our own URL
            # The gateway is ready before the dashboard and the worker are; the last line says that all are.
            return bool(answer.status == 200) and "Stop with Ctrl-C" in installation.log.read_text()
    except OSError:
        return False


# A maintenance worker as a process of its own, over servers that a test has.


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
