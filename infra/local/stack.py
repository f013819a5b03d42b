"""What `modelpilot up` runs: the services that the settings leave to us, in their order, until it is told to end.

Before that, the two servers that need little: Temporal's official dev server with a durable SQLite file and its Web UI,
and Milvus Lite, one process that owns its data directory and is used over TCP. Postgres has a module of its own.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.local import data_dir, ports
from infra.local.child import ChildSpec
from infra.local.data_dir import DataDir
from infra.local.environment import (
    Addresses,
    ensure_keyring,
    foreign_environment,
    publish,
    python_environment,
    role_environment,
)
from infra.local.ports import LOOPBACK, find_tool
from infra.local.postgres import PostgresPlan, postgres_service
from infra.local.service import Probe, Service, file_exists, grpc_answers, http_ok
from infra.local.supervisor import Event, State, Supervisor
from infra.settings import Settings

SEARCH_ATTRIBUTES = ("RouterId", "Model", "Provider", "Outcome")
LIST_SEARCH_ATTRIBUTES = "/temporal.api.operatorservice.v1.OperatorService/ListSearchAttributes"
DEFAULT_NAMESPACE = b"\n\x07default"  # the protobuf message {1: "default"}
DYNAMIC_CONFIG = {
    # The default of 20 makes every hop of a task wait for the next 50 ms tick.
    "history.transferProcessorMaxPollRPS": "5000",
    "history.timerProcessorMaxPollRPS": "5000",
    # The default of 128,000 workflows in memory, an hour each, is for servers that do nothing else.
    "history.hostLevelCacheMaxSize": "4000",
    # Self-hosted means that nothing is told to anybody.
    "frontend.enableServerVersionCheck": "false",
}
PRAGMAS = {
    "journal_mode": "wal",
    # "normal" would save the fsync per commit (9 instead of 309 for five workflow starts), and with it lose the last
    # accepted requests at a power cut.
    "synchronous": "full",
}
GOGC = "800"  # a quarter less CPU for about 100 MB more memory
# Up to here; beyond, memory is collected as it has to be. Without it, the server held 1.6 GB after 10,000 requests.
GOMEMLIMIT = "640MiB"
# On one machine, closing workflows must not take the cores from those who answer requests: it can be done later.
BEHIND_REQUESTS = 10
# Half of the cores: on two, more threads of the server only take turns away from the gateway (89 against 75
# answers/s at 16 clients, one run each).
GOMAXPROCS = str(max((os.cpu_count() or 2) // 2, 1))


@dataclass(frozen=True)
class TemporalPlan:
    """Where the dev server keeps its data and listens. The gRPC port has no authentication: it stays on loopback."""

    database: Path
    log_path: Path
    port: int
    ui_port: int | None
    ui_host: str = LOOPBACK
    codec_endpoint: str | None = None

    @property
    def address(self) -> str:
        """Address for Temporal clients."""
        return f"{LOOPBACK}:{self.port}"


def temporal_service(plan: TemporalPlan) -> Service:
    """The dev server as a service; ready when the namespace and the search attributes exist."""
    spec = ChildSpec(
        name="temporal",
        argv=(str(find_tool("temporal", "set MODELPILOT_TEMPORAL_ADDRESS to a Temporal service")), *_arguments(plan)),
        log_path=plan.log_path,
        env=foreign_environment({"GOGC": GOGC, "GOMAXPROCS": GOMAXPROCS, "GOMEMLIMIT": GOMEMLIMIT}),
        nice=BEHIND_REQUESTS,
    )
    expected = [name.encode() for name in SEARCH_ATTRIBUTES]
    probe = grpc_answers(plan.address, LIST_SEARCH_ATTRIBUTES, DEFAULT_NAMESPACE, expect=expected)
    # Its inner services look for free ports and take them a moment later, when another process may have them.
    return Service(spec, probe, starts=3)


def _arguments(plan: TemporalPlan) -> list[str]:
    arguments = ["server", "start-dev", "--ip", LOOPBACK, "--port", str(plan.port), "--log-level", "warn"]
    arguments += ["--db-filename", str(plan.database)]
    for name, value in PRAGMAS.items():
        arguments += ["--sqlite-pragma", f"{name}={value}"]
    for name, value in DYNAMIC_CONFIG.items():
        arguments += ["--dynamic-config-value", f"{name}={value}"]
    for name in SEARCH_ATTRIBUTES:
        arguments += ["--search-attribute", f"{name}=Keyword"]
    if plan.ui_port is None:
        return [*arguments, "--headless"]
    arguments += ["--ui-ip", plan.ui_host, "--ui-port", str(plan.ui_port), "--ui-disable-news-fetch"]
    return [*arguments, *(["--ui-codec-endpoint", plan.codec_endpoint] if plan.codec_endpoint else [])]


GET_VERSION = "/milvus.proto.milvus.MilvusService/GetVersion"


@dataclass(frozen=True)
class MilvusPlan:
    """Where Milvus Lite keeps its data and listens (loopback only: it has no authentication)."""

    data_dir: Path
    log_path: Path
    port: int

    @property
    def uri(self) -> str:
        """URI for pymilvus clients."""
        return f"http://{LOOPBACK}:{self.port}"


def milvus_service(plan: MilvusPlan) -> Service:
    """Milvus Lite as a service; ready when it answers with its version."""
    program = str(find_tool("milvus-lite", "set MODELPILOT_MILVUS_URI to a Milvus service"))
    options = ("server", "--data-dir", str(plan.data_dir), "--host", LOOPBACK, "--port", str(plan.port))
    spec = ChildSpec(
        name="milvus",
        argv=(program, *options),
        log_path=plan.log_path,
        env=foreign_environment({"PYTHONUNBUFFERED": "1"}),
        stop_signal=signal.SIGINT,  # the only one upon which it closes its collections
    )
    return Service(spec, grpc_answers(f"{LOOPBACK}:{plan.port}", GET_VERSION))


DRAIN_MARGIN_SECONDS = 5.0  # for closing clients and pools after the last answer
STORES = ("postgres", "temporal", "milvus")


@dataclass(frozen=True)
class Stack:
    """The services to start and where everything will be."""

    services: tuple[Service, ...]
    addresses: Addresses


def plan_stack(settings: Settings) -> Stack:
    """Decide what to start. Nothing runs yet, but ports are chosen and the keyring is created."""
    data = DataDir(settings.data_dir)
    postgres = PostgresPlan(data.postgres, data.logs / "postgres.log")
    temporal = TemporalPlan(
        database=data.temporal_db,
        log_path=data.logs / "temporal.log",
        port=settings.temporal_port,
        ui_port=settings.temporal_ui_port,
        ui_host=settings.temporal_ui_host,
        codec_endpoint=f"{settings.api_url}/codec",
    )
    milvus = MilvusPlan(data.milvus, data.logs / "milvus.log", ports.remembered_port(data.ports, "milvus"))
    simulator_port = ports.remembered_port(data.ports, "simulator")
    addresses = Addresses(
        database_url=settings.database_url or postgres.url(),
        temporal_address=settings.temporal_address or temporal.address,
        milvus_uri=settings.milvus_uri or milvus.uri,
        simulator_url=settings.simulator_url or f"http://{ports.LOOPBACK}:{simulator_port}",
    )
    services = [
        *([] if settings.database_url else [postgres_service(postgres)]),
        *([] if settings.temporal_address else [temporal_service(temporal)]),
        *([] if settings.milvus_uri else [milvus_service(milvus)]),
        *([] if settings.simulator_url else [simulator_service(data, simulator_port)]),
        *_roles(settings, data, addresses),
    ]
    return Stack(tuple(services), addresses)


def simulator_service(data: DataDir, port: int) -> Service:
    """The simulator provider as a service."""
    spec = _role_spec("simulator", data, python_environment(), "--port", str(port))
    return Service(spec, http_ok(f"http://{ports.LOOPBACK}:{port}/healthz"))


def fixed_ports(settings: Settings) -> dict[str, tuple[str, int]]:
    """`{variable: (host, port)}` of every port that the settings fix and we will listen on; a host may be several
    addresses, separated by commas."""
    wanted = {
        "MODELPILOT_API_PORT": (settings.host, settings.api_port),
        "MODELPILOT_DASHBOARD_PORT": (settings.dashboard_host, settings.dashboard_port),
    }
    if not settings.temporal_address:
        wanted["MODELPILOT_TEMPORAL_PORT"] = (ports.LOOPBACK, settings.temporal_port)
        wanted["MODELPILOT_TEMPORAL_UI_PORT"] = (settings.temporal_ui_host, settings.temporal_ui_port)
    return wanted


def bind_addresses(settings: Settings) -> dict[str, str]:
    """`{variable: addresses, separated by commas}` of everything that the settings let us listen on."""
    wanted = {"MODELPILOT_HOST": settings.host, "MODELPILOT_DASHBOARD_HOST": settings.dashboard_host}
    return wanted if settings.temporal_address else {**wanted, "MODELPILOT_TEMPORAL_UI_HOST": settings.temporal_ui_host}


async def run_stack(
    settings: Settings,
    report: Callable[[Event], None],
    on_ready: Callable[[Addresses], None],
    plan: Callable[[Settings], Stack] = plan_stack,
) -> None:
    """Run everything until SIGINT or SIGTERM, then stop it in reverse order; a second signal kills what is left.

    Raises StackError when something cannot start or crashes too often (everything is stopped then, too).
    """
    data = DataDir(settings.data_dir)
    data.create()
    with data_dir.exclusive(data.lock):
        ports.require_own(bind_addresses(settings))
        await ports.require_free(fixed_ports(settings))
        had_keys = data.encryption_keys.exists()
        stack = plan(settings)
        if data.encryption_keys.exists() and not had_keys:
            report(Event("keys", State.DONE, detail=f"encryption keys: created, in {data.encryption_keys}"))
        await _supervise(stack, data.addresses, Supervisor(report), on_ready)


async def _supervise(
    stack: Stack, published: Path, supervisor: Supervisor, on_ready: Callable[[Addresses], None]
) -> None:
    with _stop_signals(supervisor) as stopping:
        try:
            if await _unless(stopping, supervisor.start(stack.services)):
                publish(stack.addresses, published)
                on_ready(stack.addresses)
                await _unless(stopping, supervisor.failed())
        finally:
            published.unlink(missing_ok=True)  # noqa: ASYNC240 - one local file
            await supervisor.stop()


def _roles(settings: Settings, data: DataDir, addresses: Addresses) -> list[Service]:
    environment = role_environment(settings, addresses, ensure_keyring(settings))

    def role(name: str, probe: Probe | None, *after: str) -> Service:
        return Service(_role_spec(name, data, environment), probe, after=after)

    async def forget_ready_files() -> None:
        data.worker_ready.unlink(missing_ok=True)
        data.closer_ready.unlink(missing_ok=True)

    gateway = role("gateway", http_ok(f"{settings.api_url}/readyz"), "migrate", "simulator", *STORES)
    drain = settings.drain_seconds + DRAIN_MARGIN_SECONDS
    worker = role("worker", file_exists(data.worker_ready), "migrate", *STORES)
    closer = role("closer", file_exists(data.closer_ready), "migrate", "postgres", "temporal")
    return [
        replace(role("migrate", None, "postgres", "temporal"), prepare=forget_ready_files),
        replace(gateway, spec=replace(gateway.spec, stop_seconds=drain)),
        worker,
        replace(closer, spec=replace(closer.spec, nice=BEHIND_REQUESTS)),
        role("dashboard", http_ok(f"{settings.dashboard_url}/healthz"), "migrate"),
    ]


def _role_spec(role: str, data: DataDir, environment: dict[str, str], *arguments: str) -> ChildSpec:
    argv = (sys.executable, "-m", "cli", role, *arguments)
    return ChildSpec(name=role, argv=argv, log_path=data.logs / f"{role}.log", env=environment, cwd=Path.cwd())


@contextmanager
def _stop_signals(supervisor: Supervisor) -> Iterator[asyncio.Event]:
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            supervisor.kill()
        stopping.set()

    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # started with nohup: the closed terminal is no reason to stop
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stopping
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work` until it ends (True) or the event is set (False; the work is canceled and cleaned up then)."""
    task, stop = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if stopping.is_set() and not task.done():
        task.cancel()
        await asyncio.wait({task})
        return False
    await task
    return True
