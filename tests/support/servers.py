"""Real servers for tests: started like `modelpilot up` starts them, each with a data directory of its own."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.local import ports
from infra.local.child import Child
from infra.local.data_dir import DataDir
from infra.local.milvus import MilvusPlan, milvus_service
from infra.local.postgres import PostgresPlan, postgres_service
from infra.local.service import Service, bring_up
from infra.local.stack import simulator_service
from infra.local.temporal import TemporalPlan, temporal_service

# What the tests check does not depend on surviving a power cut.
FAST = (("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off"))


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Run services, which come up and end at the same time, for the length of a `with` block."""
    # A loop of its own, never installed as the thread's current one: pytest-asyncio owns that.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        children = runner.run(_up(services))
        try:
            yield
        finally:
            runner.run(_down(children))


async def _up(services: Sequence[Service]) -> list[Child]:
    started = await asyncio.gather(*map(bring_up, services), return_exceptions=True)
    children = [one for one in started if isinstance(one, Child)]
    for one in started:
        if isinstance(one, BaseException):
            await _down(children)
            raise one
    return children


async def _down(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))


@contextmanager
def postgres(directory: Path) -> Iterator[PostgresPlan]:
    """An empty Postgres server."""
    plan, service = _postgres(directory)
    with running(service):
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
    uri, service = _milvus(directory)
    with running(service):
        yield uri


@contextmanager
def simulator(directory: Path) -> Iterator[str]:
    """The simulator as its own process; yields its base URL."""
    url, service = _simulator(directory)
    with running(service):
        yield url


@contextmanager
def all_four(directory: Path) -> Iterator[tuple[PostgresPlan, str, str, str]]:
    """All of them, each below a folder of its own name; yields what each of them does, in the order above."""
    for name in ("postgres", "temporal", "milvus", "simulator"):
        (directory / name).mkdir()
    # Temporal takes further ports, so others are chosen when it is up.
    with temporal(directory / "temporal") as address:
        plan, database = _postgres(directory / "postgres")
        uri, vectors = _milvus(directory / "milvus")
        url, provider = _simulator(directory / "simulator")
        with running(database, vectors, provider):
            yield plan, address, uri, url


def _postgres(directory: Path) -> tuple[PostgresPlan, Service]:
    plan = PostgresPlan(directory / "postgres", directory / "postgres.log", FAST)
    return plan, postgres_service(plan)


def _milvus(directory: Path) -> tuple[str, Service]:
    plan = MilvusPlan(directory / "milvus", directory / "milvus.log", ports.free_port())
    return plan.uri, milvus_service(plan)


def _simulator(directory: Path) -> tuple[str, Service]:
    data, port = DataDir(directory), ports.free_port()
    data.create()
    return f"http://{ports.LOOPBACK}:{port}", simulator_service(data, port)
