"""The embedded Milvus: `milvus-lite server`, one process that owns its data directory, used over TCP."""

import signal
from dataclasses import dataclass
from pathlib import Path

from infra.local.child import ChildSpec
from infra.local.environment import foreign_environment
from infra.local.ports import LOOPBACK, find_tool
from infra.local.service import Service, grpc_answers

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
