"""What lies where in the data directory, and who may read it."""

from dataclasses import dataclass
from pathlib import Path


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
    def addresses(self) -> Path:
        """Where the running stack's services are (`infra.embedded.addresses`)."""
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
        """Create the directories, readable by their owner only."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.logs, self.run, self.milvus, self.temporal_db.parent):
            path.mkdir(mode=0o700, exist_ok=True)
