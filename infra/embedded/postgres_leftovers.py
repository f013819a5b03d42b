"""A Postgres server that outlived its supervisor: end it, so that a new one can have the cluster.

The caller holds the lock of the data directory, so a server found there has no supervisor any more.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

from infra.embedded.errors import ServiceFailed

PID_FILE = "postmaster.pid"
PATIENCE_SECONDS = 15.0
ASK_AGAIN_SECONDS = 0.05


async def end_leftover_server(cluster: Path) -> None:
    """End the server that `postmaster.pid` names, or remove that file when its process is another program.

    A process id is soon given to somebody else in a container; Postgres alone would then refuse to start.
    Raises ServiceFailed when the old server does not end.
    """
    pid = _recorded_pid(cluster)
    if pid is None:
        return
    if not _serves(pid, cluster):
        (cluster / PID_FILE).unlink(missing_ok=True)
        return
    os.kill(pid, signal.SIGQUIT)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while _serves(pid, cluster):
        if time.monotonic() > give_up_at:
            raise ServiceFailed(f"an old Postgres server (process {pid}) on {cluster} does not end: end it by hand")
        await asyncio.sleep(ASK_AGAIN_SECONDS)


def _recorded_pid(cluster: Path) -> int | None:
    try:
        return int((cluster / PID_FILE).read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _serves(pid: int, cluster: Path) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(arguments[0])).name == "postgres" and os.fsencode(cluster) in arguments
