"""What several processes are made of, opened and closed alike."""

import asyncio
import errno
import os
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import typer
import uvloop

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.learning.token_reports import PostgresTokenReports
from infra.db.requests.leases import PostgresLeases
from infra.db.requests.ledger import PostgresLedger
from infra.local import ports
from infra.local.data_dir import DataDir
from infra.local.errors import PortTaken
from infra.logs import configure_logging
from infra.settings import ConfigurationError, Settings, load_settings
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.token_ratios import TokenRatios

log = structlog.get_logger(__name__)


def instance_name(role: str) -> str:
    """A name for this process that no other one has or had."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def open_ledger(
    settings: Settings, database: Database, keyring: Keyring, stack: AsyncExitStack, **options: Any
) -> PostgresLedger:
    """The ledger; `stack` writes what it was given before it closes. `options` are further ones of its own."""
    ledger = PostgresLedger(
        database,
        keyring,
        retention_hours=settings.result_retention_hours,
        text_retention_days=settings.prompt_retention_days,
        **options,
    )
    stack.push_async_callback(ledger.close)
    return ledger


async def open_leases(settings: Settings, database: Database, instance: str, stack: AsyncExitStack) -> PostgresLeases:
    """The leases, and our own one in them, kept until `stack` closes. It waits for no database: a process without a
    lease claims nothing, and gets it with the next heartbeat."""
    leases, host = PostgresLeases(database, lease_seconds=settings.lease_seconds), socket.gethostname()
    with suppress(DependencyUnavailable):
        await leases.register(instance, host)

    async def release() -> None:
        with suppress(DependencyUnavailable):  # then the lease runs out by itself
            await leases.release(instance)

    stack.push_async_callback(release)
    keep_up(stack, leases.keep(instance, host, settings.heartbeat_seconds))
    return leases


async def recall_ratios(ratios: TokenRatios, reports: PostgresTokenReports, pause_s: float = 5.0) -> None:
    """Learn from the rows of requests what models count, as soon as Postgres is there."""
    while True:
        try:
            ratios.recall(await reports.recent())
            return
        except DependencyUnavailable as error:
            log.warning("token_ratios_wait", error=error.message)
            await asyncio.sleep(pause_s)


def keep_up(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Run `work` in the background until `stack` closes."""
    task = asyncio.get_running_loop().create_task(work)

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)


def require(settings: Settings, names: Sequence[str]) -> None:
    """Raise ConfigurationError where a process cannot be without what is not set."""
    missing = [name for name in names if not getattr(settings, name)]
    if missing:
        advice = "is not set; `modelpilot up` starts the service and sets it"
        raise ConfigurationError([f"MODELPILOT_{name.upper()}: {advice}" for name in missing])


@contextmanager
def listening(host: str, port: int, host_variable: str, port_variable: str) -> Iterator[None]:
    """Say what to do where the block cannot listen on `port` of `host` (one address, or several separated by commas).
    Raises ConfigurationError for an address that this machine does not have, PortTaken for a port in use."""
    try:
        ports.require_own({host_variable: host})
        yield
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        address = str(error.filename or host)
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        why = os.strerror(error.errno).lower()
        raise PortTaken(
            f"cannot listen on {where}: {why}. Stop what listens there, or set another {port_variable}."
        ) from error


def run_process(role: str, needed: Sequence[str], work: Callable[[Settings], Coroutine[None, None, None]]) -> None:
    """Read the settings, of which `needed` must be there, and run `work` until it ends or until SIGINT or SIGTERM.
    Raises ConfigurationError, and what `work` raises."""
    settings = load_settings()
    require(settings, needed)
    DataDir(settings.data_dir).require()
    configure_logging(settings.log_level)
    typer.echo(f"{role}: starting; it waits for its services, at most half a minute")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_stopped(partial(work, settings)))
    typer.echo(f"{role}: stopped")


async def until_stopped(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run `work` until it ends or until SIGINT or SIGTERM, upon which it is canceled. Raises what it raises."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    working, stopping = asyncio.create_task(work()), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
    with suppress(asyncio.CancelledError):
        await working


@contextmanager
def announced(ready: Path) -> Iterator[None]:
    """Make the file that `modelpilot up` waits for, for as long as the block lasts."""
    ready.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready.touch(mode=0o600)
    try:
        yield
    finally:
        ready.unlink(missing_ok=True)
