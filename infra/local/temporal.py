"""The embedded Temporal: the official dev server with a durable SQLite file and its Web UI."""

import os
from dataclasses import dataclass
from pathlib import Path

from infra.local.child import ChildSpec
from infra.local.environment import foreign_environment
from infra.local.ports import LOOPBACK, find_tool
from infra.local.service import Service, grpc_answers

SEARCH_ATTRIBUTES = ("RouterId", "Model", "Provider", "Outcome")
LIST_SEARCH_ATTRIBUTES = "/temporal.api.operatorservice.v1.OperatorService/ListSearchAttributes"
DEFAULT_NAMESPACE = b"\n\x07default"  # the protobuf message {1: "default"}
DYNAMIC_CONFIG = {
    # The default of 20 makes every hop of a task wait for the next 50 ms tick.
    "history.transferProcessorMaxPollRPS": "5000",
    "history.timerProcessorMaxPollRPS": "5000",
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
        env=foreign_environment({"GOGC": GOGC, "GOMAXPROCS": GOMAXPROCS}),
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
