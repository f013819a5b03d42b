"""What lies where in the data directory, and who may read it."""

import contextlib
import errno
import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.local.errors import AlreadyRunning
from infra.settings import ConfigurationError


@dataclass(frozen=True)
class DataDir:
    """The paths below one data directory."""

    root: Path

    @property
    def postgres(self) -> Path:
        """The database cluster."""
        return self.root / "postgres"

    @property
    def temporal_db(self) -> Path:
        """SQLite file of the Temporal dev server."""
        return self.root / "temporal" / "temporal.db"

    @property
    def milvus(self) -> Path:
        """Data directory of Milvus Lite."""
        return self.root / "milvus"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What only matters while the stack runs, or to the next start: addresses, ports, ready files."""
        return self.root / "run"

    @property
    def worker_ready(self) -> Path:
        """Touched by the worker when it polls its queues."""
        return self.run / "worker.ready"

    @property
    def closer_ready(self) -> Path:
        """Touched by the closer when it works."""
        return self.run / "closer.ready"

    @property
    def addresses(self) -> Path:
        """Where the running stack's services are (`infra.local.environment`)."""
        return self.run / "addresses.json"

    @property
    def ports(self) -> Path:
        """The ports that were chosen last time."""
        return self.run / "ports.json"

    @property
    def encryption_keys(self) -> Path:
        """The generated keyring."""
        return self.root / "encryption.keys"

    @property
    def admin_key(self) -> Path:
        """The admin API key of the first start."""
        return self.root / "admin.key"

    @property
    def lock(self) -> Path:
        """Held by the running supervisor."""
        return self.root / "lock"

    def create(self) -> None:
        """Create the directories, readable by their owner only. Raises ConfigurationError where that is not allowed or
        something else is there, OSError for anything that another directory would not mend."""
        self.require()
        with writable(self.root):
            for path in (self.logs, self.run, self.milvus, self.temporal_db.parent):
                path.mkdir(mode=0o700, exist_ok=True)

    def check_place(self) -> None:
        """Raise ConfigurationError where something else than a directory is in the place of the root, or above it."""
        nearest = next((path for path in (self.root, *self.root.parents) if path.exists()), self.root)
        if nearest.exists() and not nearest.is_dir():
            raise ConfigurationError([f"MODELPILOT_DATA_DIR: {nearest} is no directory"])

    def require(self) -> None:
        """Create the root, and see that something can be written there. Raises like `create`."""
        self.check_place()
        with writable(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()  # it may be there, and yet be somebody else's


_WRONG_PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ELOOP}
    | {errno.ENAMETOOLONG}
)


@contextlib.contextmanager
def writable(root: Path) -> Iterator[None]:
    """Raise ConfigurationError where the block finds that nothing can be written below `root`, the data directory."""
    try:
        yield
    except OSError as error:
        if error.errno not in _WRONG_PLACE:
            raise
        where = f"{error.filename or root}: {(error.strerror or '').lower()}"
        raise ConfigurationError([f"MODELPILOT_DATA_DIR: {root} cannot be written ({where})"]) from error


def write_once(path: Path, content: bytes) -> None:
    """Write a secret to `path`, complete or not at all, mode 0600, synced to disk. A file that is there stays: of two
    processes that start at once, the first one's secret counts for both."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # what is encrypted or stored with it must not outlive it
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(unfinished)  # a link never replaces
    finally:
        unfinished.unlink()


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, so that one supervisor runs per data directory: two Postgres servers on one
    cluster, or two Milvus Lite, would destroy it.

    The kernel frees the lock when this process ends, however it ends. Raises AlreadyRunning, naming the process that
    holds it.
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
    except (FileNotFoundError, NotADirectoryError):
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
