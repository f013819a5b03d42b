"""Tiny real processes, and waiting for what they do."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from cli.main import app
from infra.local.child import ChildSpec
from infra.local.service import Service, file_exists
from infra.local.supervisor import Event, State

PATIENCE_SECONDS = 20.0
PAUSE = "import signal, sys\nsignal.pause()"
# Says that it is ready, and when it is asked to end appends its name to a file that all share.
WELL_BEHAVED = """
import pathlib, signal, sys
def end(*_):
    with open("ended", "a") as ended:
        ended.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1] + ".ready").touch()
while True:
    signal.pause()
"""


def spec(
    directory: Path,
    name: str,
    code: str = PAUSE,
    stop_signal: signal.Signals = signal.SIGTERM,
    stop_seconds: float = 10.0,
) -> ChildSpec:
    """`python -c code name`, run in `directory`."""
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-c", code, name),
        log_path=directory / f"{name}.log",
        env=dict(os.environ),
        cwd=directory,
        stop_signal=stop_signal,
        stop_seconds=stop_seconds,
    )


def service(directory: Path, name: str, *after: str, code: str = WELL_BEHAVED, ready_seconds: float = 20.0) -> Service:
    """A service that is ready when it has touched `<name>.ready`."""
    ready = directory / f"{name}.ready"

    async def forget() -> None:
        ready.unlink(missing_ok=True)

    return Service(spec(directory, name, code), file_exists(ready), after, prepare=forget, ready_seconds=ready_seconds)


def job(directory: Path, name: str, *after: str, code: str = "print('done')") -> Service:
    """A service that has to end by itself."""
    return Service(spec(directory, name, code), None, after)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; raises AssertionError when it does not in good time."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "the awaited condition did not come"
        await asyncio.sleep(0.01)


class Events:
    """Collects what a supervisor reports."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.seen.append(event)

    def names(self, state: State) -> list[str]:
        """Services in the order in which they reached `state`."""
        return [event.service for event in self.seen if event.state is state]

    async def until(self, state: State, count: int = 1) -> None:
        """Wait until `count` events of `state` were seen."""
        await until(lambda: len(self.names(state)) >= count)


# The command line, run in this process.


def modelpilot(*arguments: str, **options: Any) -> Result:
    """`modelpilot arguments…`; its output and exit code."""
    return CliRunner().invoke(app, list(arguments), **options)
