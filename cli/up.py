"""`modelpilot up`: the whole platform on this machine, in the foreground."""

import asyncio
import time

import typer

from cli.up_display import Display, LineDisplay, LiveDisplay, summary
from infra.local.errors import StackError
from infra.local.stack import run_stack
from infra.settings import load_settings, read_variables


def command() -> None:
    """Start Postgres, Temporal, Milvus, the simulator, the gateway, the worker and the dashboard; stop with Ctrl-C.

    Services that the settings give (a database URL, a Temporal address, a Milvus URI) are used, not started.
    """
    settings = load_settings()
    display: Display = LiveDisplay() if LiveDisplay.possible() else LineDisplay()
    for warning in _warnings():
        typer.echo(f"modelpilot: {warning}", err=True)
    began = time.monotonic()

    def on_ready() -> None:
        display.pause()
        typer.echo(summary(settings, time.monotonic() - began))

    try:
        with display:
            asyncio.run(run_stack(settings, display.show, on_ready))
    except OSError as error:
        raise StackError(f"{error.strerror or error}: {error.filename or settings.data_dir}") from error
    typer.echo("Stopped.")


def _warnings() -> list[str]:
    from infra.settings import Settings, unknown_variables

    return list(unknown_variables(Settings, read_variables()))
