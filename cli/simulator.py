"""`modelpilot simulator`: run the built-in simulator provider in the foreground."""

import asyncio
import signal
from typing import Annotated

import typer
import uvloop

from simulator.server import serve
from simulator.state import SimulatorConfig


def command(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)] = 9090,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    latency_ms: Annotated[
        float | None, typer.Option(help="Send every answer whole after this many milliseconds.", min=0)
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Length of every text answer, in tokens.", min=1)] = None,
) -> None:
    """Run a local server that speaks OpenAI, Anthropic and Gemini, with faults on demand (docs/simulator.md)."""
    try:
        uvloop.run(_main(SimulatorConfig(latency_ms=latency_ms, tokens=tokens), host, port))
    except OSError as error:
        typer.echo(f"simulator: cannot listen on {host}:{port}: {error.strerror}", err=True)
        raise typer.Exit(1) from None


async def _main(config: SimulatorConfig, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    await serve(config, host, port, stop, lambda url: typer.echo(f"simulator: listening on {url}"))
