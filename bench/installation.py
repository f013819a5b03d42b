"""A whole installation for one benchmark: `modelpilot up` as a process, on free ports and in a fresh directory."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from infra.crypto.keyring import Keyring
from infra.local import ports
from infra.local.child import Child, ChildSpec
from infra.local.data_dir import DataDir
from infra.local.environment import CHECKOUT, ensure_keyring, foreign_environment, join_running_stack
from infra.local.errors import StackError
from infra.settings import Settings, load_settings

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 60.0
_PORT_VARIABLES = ("API_PORT", "DASHBOARD_PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT")
_ASK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Installation:
    """A ready installation below `directory`. `settings` has every address filled in; `start_s` is how long it took to
    get ready; every process of it is a child of `pid`."""

    pid: int
    directory: Path
    settings: Settings
    keyring: Keyring
    admin_key: str
    start_s: float


@asynccontextmanager
async def fresh_installation(progress: Callable[[str], None]) -> AsyncIterator[Installation]:
    """An installation in a directory of its own, which goes with it. Raises StackError."""
    with tempfile.TemporaryDirectory(prefix="modelpilot-bench-") as made:
        progress("starting an installation")
        async with running_installation(Path(made)) as installation:
            yield installation
            progress("stopping the installation")


@asynccontextmanager
async def running_installation(directory: Path) -> AsyncIterator[Installation]:
    """Start everything below `directory`, and stop it at the end (SIGINT to the process), however the end comes.

    Nothing of the caller's configuration takes part: product defaults are measured. Raises StackError.
    """
    variables = _variables(directory / "data")
    child = Child(_spec(directory, variables))
    try:
        began = time.perf_counter()
        settings = await _ready(child, load_settings(variables))
        yield Installation(
            pid=child.pid,
            directory=directory,
            settings=settings,
            keyring=Keyring(ensure_keyring(settings)),
            admin_key=DataDir(settings.data_dir).admin_key.read_text(encoding="ascii").strip(),
            start_s=time.perf_counter() - began,
        )
    finally:
        await child.stop()


def _variables(data_dir: Path) -> dict[str, str]:
    chosen: set[int] = set()
    while len(chosen) < len(_PORT_VARIABLES):
        chosen.add(ports.free_port())
    fixed = {f"MODELPILOT_{name}": str(port) for name, port in zip(_PORT_VARIABLES, chosen, strict=True)}
    return {"MODELPILOT_DATA_DIR": str(data_dir), **fixed}


def _spec(directory: Path, variables: dict[str, str]) -> ChildSpec:
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return ChildSpec(
        name="up",
        argv=(sys.executable, "-m", "cli", "up"),
        log_path=directory / "up.log",
        env=foreign_environment({"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **variables}),
        cwd=directory,  # where no .env lies
        stop_signal=signal.SIGINT,
        stop_seconds=STOP_WITHIN_S,
        death_signal=signal.SIGINT,  # killed ourselves, we leave nothing running either
    )


async def _ready(child: Child, settings: Settings) -> Settings:
    published = DataDir(settings.data_dir).addresses
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not (published.exists() and await _answers(session, f"{settings.api_url}/readyz")):
                    if child.exit_code is not None:
                        raise StackError(f"`modelpilot up` ended with {child.exit_code}:\n{child.log_tail()}")
                    await asyncio.sleep(_ASK_AGAIN_S)
        except TimeoutError:
            tail = child.log_tail()
            raise StackError(f"`modelpilot up` was not ready within {READY_WITHIN_S:.0f} s:\n{tail}") from None
    return join_running_stack(settings)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=5.0)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
