"""One supervised operating-system process: its own session, its log file, and an end that is certain."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_ROTATE_BYTES = 16 * 1024 * 1024
LOG_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True)
class ChildSpec:
    """How to run and how to end a process. `env` is the whole environment, and is kept out of repr()."""

    name: str
    argv: tuple[str, ...]
    log_path: Path
    env: Mapping[str, str] = field(repr=False)
    cwd: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    nice: int = 0  # how far it stands back for others that want the processor


class Child:
    """A started process. Not bound to an event loop: one loop may start it and another stop it.

    Start it from a thread that outlives it (the main thread): the kernel ties it to the *thread* that started it.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        _rotate(spec.log_path)
        log = os.open(spec.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self._log_start = os.fstat(log).st_size
            self._process = subprocess.Popen(
                _launch_argv(spec),
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._exit: Future[int] = Future()
        threading.Thread(target=self._reap, name=f"reap-{spec.name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._exit.result() if self._exit.done() else None

    async def wait(self) -> int:
        """Wait for the end, however it comes; returns the exit code."""
        return await asyncio.shield(asyncio.wrap_future(self._exit))

    async def exited_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; says whether it came."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), seconds)
        return self.exit_code is not None

    async def stop(self) -> int:
        """Ask it to end, wait for `stop_seconds`, then kill it and all of its group."""
        self.signal(self.spec.stop_signal)
        if not await self.exited_within(self.spec.stop_seconds):
            self.kill()
        return await self.wait()

    def kill(self) -> None:
        """End the whole process group at once."""
        if self.exit_code is None:
            _signal_group(self.pid, signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process (not to its group: servers tell their own children)."""
        if self.exit_code is None:
            self._process.send_signal(number)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that this run of the process wrote."""
        try:
            with self.spec.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
                text = log.read().decode("utf-8", errors="replace")
        except OSError as error:
            return f"(no log: {error.strerror})"
        return "\n".join(text.splitlines()[-lines:])

    def _reap(self) -> None:
        if hasattr(os, "waitid"):
            # See the end without collecting it: until then the group id cannot be given to anybody else.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            _signal_group(self.pid, signal.SIGKILL)
        self._exit.set_result(self._process.wait())


def _launch_argv(spec: ChildSpec) -> list[str]:
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
    return [*launcher, str(os.getpid()), str(int(spec.death_signal)), str(spec.nice), spec.user or "", *spec.argv]


def _signal_group(group_id: int, number: signal.Signals) -> None:
    # PermissionError is macOS's answer for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group_id, number)


def _rotate(path: Path) -> None:
    # At a start, because a running process holds its file open; one old file bounds the disk used.
    if path.exists() and path.stat().st_size > LOG_ROTATE_BYTES:
        path.replace(path.with_suffix(path.suffix + ".1"))
