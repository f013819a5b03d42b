"""One supervisor per data directory: two Postgres servers on one cluster, or two Milvus Lite, would destroy it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.errors import AlreadyRunning


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; the kernel frees it when this process ends, however it ends.

    Raises AlreadyRunning, naming the process that holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(descriptor):
            raise AlreadyRunning(
                f"ModelPilot runs already on {path.parent} (process {_holder(path)}). "
                "Stop that process, or choose another directory with MODELPILOT_DATA_DIR."
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def running_pid(path: Path) -> int | None:
    """Process id of the supervisor that holds the lock file; None when none runs."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(descriptor) else _holder(path)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> int:
    # 0 in the instant between another's locking and its writing of the id.
    return int(path.read_text(encoding="ascii").strip() or 0)
