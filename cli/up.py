"""`modelpilot up`: the whole platform on this machine, in the foreground.

It shows spinners on a terminal, one line per event elsewhere, what the first start made (schema, catalogue, keys), and
the addresses when it is ready.
"""

import asyncio
import sys
import time
from types import TracebackType
from typing import Protocol, Self

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from infra.local.data_dir import DataDir
from infra.local.environment import Addresses
from infra.local.errors import StackError
from infra.local.stack import run_stack
from infra.local.supervisor import Event, State
from infra.settings import Settings, load_settings

BEGINNINGS = {State.STARTING, State.STOPPING}
REMINDERS = {State.STILL_STARTING, State.STILL_STOPPING}


class Display(Protocol):
    """Shows events between `__enter__` and `__exit__`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Event) -> None:
        """Show one event."""

    def pause(self) -> None:
        """Leave the terminal to what is printed next."""


class LineDisplay:
    """One line per event: for logs and pipes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: Event) -> None:
        """Print the event."""
        print(line(event), flush=True)

    def pause(self) -> None:
        """Lines need no pause."""


class LiveDisplay:
    """A spinner for each service that is starting or stopping, and a line when it has."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, transient=True, console=Console())
        self._tasks: dict[str, TaskID] = {}

    @staticmethod
    def possible() -> bool:
        """Whether standard output is a terminal that can move its cursor."""
        return sys.stdout.isatty() and Console().is_terminal

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Move the service's spinner on, or replace it by a line."""
        if event.state in REMINDERS:
            return  # the spinner's clock says the same
        self._progress.start()
        if event.state in BEGINNINGS:
            self._tasks[event.service] = self._progress.add_task(f"{event.service}: {event.state.value}")
            return
        task = self._tasks.pop(event.service, None)
        if task is not None:
            self._progress.remove_task(task)
        self._progress.console.print(line(event), markup=False, highlight=False)

    def pause(self) -> None:
        """Take the spinners away until the next event."""
        self._progress.stop()


def line(event: Event) -> str:
    """`gateway    ready (1.2 s)`; details of several lines, as of `migrate`, below it."""
    took = f" ({event.seconds:.1f} s)" if event.seconds else ""
    first, *more = event.detail.splitlines() or [""]
    details = f": {first}" if first and not more else "".join(f"\n{'':<10} {each}" for each in (first, *more) if each)
    return f"{event.service:<10} {event.state.value}{took}{details}"


def summary(settings: Settings, addresses: Addresses, seconds: float) -> str:
    """Where everything is, and a first request to try."""
    key = DataDir(settings.data_dir).admin_key
    foreign_ui = settings.temporal_ui_url or f"(of {settings.temporal_address})"
    rows = {
        "API": settings.api_url,
        "API docs": f"{settings.api_url}/docs",
        "Dashboard": settings.site_url,
        "Temporal UI": foreign_ui if settings.temporal_address else settings.embedded_temporal_ui_url,
        "Simulator": addresses.simulator_url,
        "Admin key": str(key),
        "Logs": str(DataDir(settings.data_dir).logs),
    }
    table = "\n".join(f"  {name:<12} {value}" for name, value in rows.items())
    return f"\nModelPilot is ready ({seconds:.1f} s).\n\n{table}\n\nTry it:\n\n{curl(settings)}\n\nStop with Ctrl-C.\n"


def curl(settings: Settings) -> str:
    """A first request through the demo router, ready to paste."""
    key = DataDir(settings.data_dir).admin_key
    body = '{"messages": [{"role": "user", "content": "Hello"}]}'
    return (
        f"  curl -s {settings.api_url}/router/demo \\\n"
        f"    -H \"Authorization: Bearer $(cat '{key}')\" \\\n"
        f"    -H 'Content-Type: application/json' -d '{body}'"
    )


def command() -> None:
    """Start Postgres, Temporal, Milvus, the simulator, the gateway, the worker and the dashboard; stop with Ctrl-C.

    Services that the settings give (a database URL, a Temporal address, a Milvus URI) are used, not started.
    """
    settings = load_settings()
    display: Display = LiveDisplay() if LiveDisplay.possible() else LineDisplay()
    typer.echo(f"Starting ModelPilot. Data is in {settings.data_dir}, the services' logs in its folder logs.")
    began = time.monotonic()

    def on_ready(addresses: Addresses) -> None:
        display.pause()
        typer.echo(summary(settings, addresses, time.monotonic() - began))

    try:
        with display:
            asyncio.run(run_stack(settings, display.show, on_ready))
    except OSError as error:
        what = f"{error.filename or settings.data_dir}: {error.strerror or error}"
        raise StackError(f"{what}. The data directory is {settings.data_dir}; MODELPILOT_DATA_DIR names it.") from error
    typer.echo("Stopped.")
