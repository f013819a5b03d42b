"""A whole installation for end-to-end and fault tests: real servers, and gateways as processes of their own."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from temporalio.client import Client, WorkflowExecutionStatus

from infra.db.engine import Database
from infra.local import ports
from tests.support import servers

PATIENCE_S = 60.0
# A fixed keyring, so that a test can decrypt what a gateway wrote. Not random, hence refused in production.
KEYRING = base64.b64encode(bytes(range(32))).decode()


@dataclass
class Process:
    """One process of the installation."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As a crash: no clean-up at all."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop the process where it is."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self, timeout_s: float = 40.0) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        return self.process.wait(timeout_s)


@dataclass
class Gateway(Process):
    """One gateway process."""

    url: str


@dataclass
class World:
    """The addresses of one installation. `environment` is what its processes need."""

    directory: Path
    database_url: str
    temporal_address: str
    milvus_uri: str
    simulator_url: str
    environment: Mapping[str, str]
    admin_key: str
    _count: int = field(default=0)

    @contextmanager
    def gateway(self, crash: str | None = None, **variables: str) -> Iterator[Gateway]:
        """A ready gateway; `variables` are settings without their prefix. It is killed at the end if still there.
        `crash` is a point at which it dies by itself (`tests.support.crashing`)."""
        with self._starting(variables, crash) as gateway:
            wait_until(lambda: _answers(gateway), f"gateway is not ready: see {gateway.log}")
            yield gateway

    @contextmanager
    def two_gateways(self, **variables: str) -> Iterator[tuple[Gateway, Gateway]]:
        """Two of them, started at the same time; the variables are the first one's."""
        with self._starting(variables) as first, self.gateway() as second:
            wait_until(lambda: _answers(first), f"gateway is not ready: see {first.log}")
            yield first, second

    @contextmanager
    def _starting(self, variables: Mapping[str, str], crash: str | None = None) -> Iterator[Gateway]:
        self._count += 1
        port, log = ports.free_port(), self.directory / f"gateway-{self._count}.log"
        overrides = {f"MODELPILOT_{name}": value for name, value in variables.items()}
        environment = {**self.environment, "MODELPILOT_API_PORT": str(port), **overrides}
        with log.open("wb") as output:
            process = subprocess.Popen(_command("gateway", crash), env=environment, stdout=output, stderr=output)
        gateway = Gateway(process, log, f"http://127.0.0.1:{port}")
        try:
            yield gateway
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                gateway.kill()

    @contextmanager
    def role(self, name: str, crash: str | None = None, **variables: str) -> Iterator[Process]:
        """A ready `closer` or `worker`; it is killed at the end if still there. `crash` as for a gateway."""
        self._count += 1
        home = self.directory / f"{name}-{self._count}"
        log, ready = self.directory / f"{name}-{self._count}.log", home / "run" / f"{name}.ready"
        overrides = {f"MODELPILOT_{each}": value for each, value in variables.items()}
        environment = {**self.environment, "MODELPILOT_DATA_DIR": str(home), **overrides}
        with log.open("wb") as output:
            process = subprocess.Popen(_command(name, crash), env=environment, stdout=output, stderr=output)
        running = Process(process, log)
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None, f"the {name} is not ready: see {log}")
            assert process.poll() is None, log.read_text()[-3000:]
            yield running
        finally:
            if process.poll() is None:
                running.thaw()
                running.kill()

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop every process of one server (`postgres`, `temporal`, `milvus`) where it is, for a `with` block."""
        folder = str(self.directory / name)
        stopped = [process for process in psutil.Process().children(recursive=True) if folder in _mentions(process)]
        assert stopped, f"no process of {name}"
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                process.resume()

    @asynccontextmanager
    async def client(self, gateway: Gateway, key: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
        """An HTTP client of a gateway with the admin key."""
        headers = {"authorization": f"Bearer {key or self.admin_key}"}
        async with aiohttp.ClientSession(gateway.url, headers=headers) as session:
            yield session

    async def provider_calls(self, tag: str) -> dict[str, Any]:
        """How often the simulator was called with a prompt that contains `tag`: its `counts`."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.simulator_url}/_sim/calls", params={"tag": tag}) as answer,
        ):
            counts: dict[str, Any] = (await answer.json())["counts"]
            return counts


@contextmanager
def running_world(directory: Path, *, attended: bool = True) -> Iterator[World]:
    """Postgres, Temporal, Milvus Lite and the simulator, migrated and seeded by `modelpilot migrate`; `attended` by a
    closer and a worker."""
    (directory / "data").mkdir()
    with servers.all_four(directory) as (postgres, temporal, milvus, simulator):
        database_url = postgres.url("postgres")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MODELPILOT_")},
            "MODELPILOT_DATABASE_URL": database_url,
            "MODELPILOT_TEMPORAL_ADDRESS": temporal,
            "MODELPILOT_MILVUS_URI": milvus,
            "MODELPILOT_SIMULATOR_URL": simulator,
            "MODELPILOT_ENCRYPTION_KEYS": KEYRING,
            "MODELPILOT_DATA_DIR": str(directory / "data"),
            "MODELPILOT_HEARTBEAT_SECONDS": "0.5",
            "MODELPILOT_LEASE_SECONDS": "3",
        }
        subprocess.run([sys.executable, "-m", "cli", "migrate"], env=environment, check=True, timeout=PATIENCE_S)
        key = (directory / "data" / "admin.key").read_text().strip()
        world = World(directory, database_url, temporal, milvus, simulator, environment, key)
        with ExitStack() as stack:
            for name in ("closer", "worker") if attended else ():
                stack.enter_context(world.role(name))
            yield world


def _command(role: str, crash: str | None) -> list[str]:
    if crash is None:
        return [sys.executable, "-m", "cli", role]
    return [sys.executable, "-m", "tests.support.crashing", role, crash]


def wait_until(condition: Callable[[], bool], otherwise: str, patience_s: float = PATIENCE_S) -> None:
    """Poll until `condition` holds; raises AssertionError with `otherwise`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise)
        time.sleep(0.05)


async def eventually(probe: Callable[[], Any], otherwise: str, patience_s: float = PATIENCE_S) -> Any:
    """Await `probe()` again and again until it is true; its value. Raises AssertionError with `otherwise`."""
    deadline = time.monotonic() + patience_s
    while not (value := await probe()):
        if time.monotonic() > deadline:
            raise AssertionError(otherwise)
        await asyncio.sleep(0.05)
    return value


def _mentions(process: psutil.Process) -> str:
    """Command line of a process and of its parent: Postgres' backends name the data directory in neither."""
    parent = process.parent()
    return " ".join([*process.cmdline(), process.cwd(), *(parent.cmdline() if parent else [])])


def _answers(gateway: Gateway) -> bool:
    if gateway.process.poll() is not None:
        raise AssertionError(f"the gateway ended: {gateway.log.read_text()[-2000:]}")
    try:
        with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=5.0) as answer:  # noqa: S310 - our own URL
            return bool(answer.status == 200)
    except OSError:
        return False


async def closed(world: World, request_id: str) -> bool:
    """Whether the request has one workflow, which has completed, and nothing is left to do about it; for
    `eventually`."""
    async with Database(world.database_url) as database:
        if await database.fetch_one("SELECT 1 FROM open_requests WHERE request_id = %s", (request_id,)):
            return False
    client = await Client.connect(world.temporal_address)
    runs = [run async for run in client.list_workflows(f"WorkflowId = 'route/admin/{request_id}'")]
    assert len(runs) <= 1
    return [run.status for run in runs] == [WorkflowExecutionStatus.COMPLETED]
