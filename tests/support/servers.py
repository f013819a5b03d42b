"""Real servers for tests: started like `modelpilot up` starts them, each with a data directory of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded import ports
from infra.embedded.data_dir import DataDir
from infra.embedded.milvus import MilvusPlan, milvus_service
from infra.embedded.postgres import PostgresPlan, postgres_service
from infra.embedded.service import Service, bring_up
from infra.embedded.stack import simulator_service
from infra.embedded.temporal import TemporalPlan, temporal_service

# What the tests check does not depend on surviving a power cut.
FAST = (("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off"))


@contextmanager
def running(service: Service) -> Iterator[None]:
    """Run a service for the length of a `with` block."""
    # A loop of its own, never installed as the thread's current one: pytest-asyncio owns that.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        child = runner.run(bring_up(service))
        try:
            yield
        finally:
            runner.run(child.stop())


@contextmanager
def postgres(directory: Path) -> Iterator[PostgresPlan]:
    """An empty Postgres server."""
    plan = PostgresPlan(directory / "postgres", directory / "postgres.log", FAST)
    with running(postgres_service(plan)):
        yield plan


@contextmanager
def temporal(directory: Path) -> Iterator[str]:
    """A Temporal dev server without Web UI; yields its address."""
    plan = TemporalPlan(directory / "temporal.db", directory / "temporal.log", ports.free_port(), ui_port=None)
    with running(temporal_service(plan)):
        yield plan.address


@contextmanager
def milvus(directory: Path) -> Iterator[str]:
    """A Milvus Lite server; yields its URI."""
    plan = MilvusPlan(directory / "milvus", directory / "milvus.log", ports.free_port())
    with running(milvus_service(plan)):
        yield plan.uri


@contextmanager
def simulator(directory: Path) -> Iterator[str]:
    """The simulator as its own process; yields its base URL."""
    data = DataDir(directory)
    data.create()
    port = ports.free_port()
    with running(simulator_service(data, port)):
        yield f"http://{ports.LOOPBACK}:{port}"
