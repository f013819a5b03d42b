"""An interpreter with the SDKs' previous majors: an environment of its own, made once and kept in pytest's cache."""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "tests" / "sdk_previous" / "requirements.lock"
INSTALL_TIMEOUT_S = 240.0


def previous_sdks(cache: Path) -> Path:
    """The interpreter of the environment below `cache` that has what the lock says; made where it is missing.

    Raises AssertionError with pip's own words where it cannot be installed: no registry is a failure, not a skip.
    """
    name = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    environment, done = cache / name, cache / f"{name}.done"
    python = environment / "bin" / "python"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may share the cache
        if not done.exists():
            _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(environment))
            # Most of what is installed is never imported here, so nothing is compiled in advance.
            options = ("--quiet", "--disable-pip-version-check", "--no-compile", "--require-hashes", "-r", str(LOCK))
            _run(sys.executable, "-m", "pip", "--python", str(python), "install", *options)
            done.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"
