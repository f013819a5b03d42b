"""`modelpilot up` as a whole, with tiny services in place of the real ones: signals, addresses, one stack at a time."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from infra.local import data_dir
from infra.local.data_dir import DataDir
from infra.local.environment import Addresses, join_running_stack
from infra.local.errors import AlreadyRunning, ServiceFailed
from infra.local.ports import free_port
from infra.local.service import Service
from infra.local.stack import Stack, run_stack
from infra.local.supervisor import State
from infra.settings import Settings, load_settings
from tests.support.processes import WELL_BEHAVED, Events, service, until

ADDRESSES = Addresses("postgresql://x", "127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose ports are free."""
    variables = {f"MODELPILOT_{name}_PORT": str(free_port()) for name in ("API", "DASHBOARD")}
    return load_settings(
        {**variables, "MODELPILOT_DATA_DIR": str(tmp_path / "data"), "MODELPILOT_TEMPORAL_ADDRESS": "127.0.0.1:1"}
    )


@pytest.fixture
def two(tmp_path: Path) -> list[Service]:
    """A store, and a gateway that needs it."""
    return [service(tmp_path, "store"), service(tmp_path, "gateway", "store")]


def planned(services: Sequence[Service]) -> Callable[[Settings], Stack]:
    """A plan that is these services."""
    return lambda _: Stack(tuple(services), ADDRESSES)


class Up:
    """A running `run_stack`, and whether it said that it is ready."""

    def __init__(self, settings: Settings, services: Sequence[Service]) -> None:
        self.events, self.ready = Events(), False
        self.task = asyncio.create_task(run_stack(settings, self.events, self._on_ready, planned(services)))

    def _on_ready(self, _: Addresses) -> None:
        self.ready = True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything_in_order(
    settings: Settings, two: list[Service], tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C and a service manager's SIGTERM end the same way: the users of a store first, and nothing is left."""
    up = Up(settings, two)
    await until(lambda: up.ready)
    assert join_running_stack(settings).database_url == ADDRESSES.database_url
    os.kill(os.getpid(), number)
    await asyncio.wait_for(up.task, 20)
    assert (tmp_path / "ended").read_text().split() == ["gateway", "store"]
    data = DataDir(settings.data_dir)
    assert data_dir.running_pid(data.lock) is None
    assert not data.addresses.exists()


async def test_a_signal_during_the_start_ends_it(settings: Settings, tmp_path: Path) -> None:
    """Nobody has to wait for a slow start only to stop it."""
    never = service(tmp_path, "gateway", "store", code="import signal; signal.pause()")
    up = Up(settings, [service(tmp_path, "store"), never])
    await until(lambda: up.events.names(State.STARTING) == ["store", "gateway"])
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(up.task, 20)
    assert not up.ready
    assert (tmp_path / "ended").read_text().split() == ["store"]


async def test_a_second_signal_does_not_wait(settings: Settings, tmp_path: Path) -> None:
    """An impatient second Ctrl-C kills what is still draining."""
    deaf = WELL_BEHAVED.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")
    up = Up(settings, [service(tmp_path, "gateway", code=deaf)])
    await until(lambda: up.ready)
    os.kill(os.getpid(), signal.SIGINT)
    await up.events.until(State.STOPPING)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(up.task, 5)  # the polite end would take 10 s


async def test_the_same_directory_cannot_be_started_twice(settings: Settings, two: list[Service]) -> None:
    """The second start fails at once and leaves the first one alone."""
    up = Up(settings, two)
    await until(lambda: up.ready)
    with pytest.raises(AlreadyRunning):
        await run_stack(settings, Events(), lambda _: None, planned(two))
    assert not up.task.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(up.task, 20)


async def test_a_failed_start_stops_what_runs(settings: Settings, tmp_path: Path) -> None:
    """An error leaves the machine as it was, so that the next start is not hindered."""
    broken = service(tmp_path, "gateway", "store", code="import sys; sys.exit('no such column')")
    plan = planned([service(tmp_path, "store"), broken])
    with pytest.raises(ServiceFailed, match="no such column"):
        await run_stack(settings, Events(), lambda _: None, plan)
    assert (tmp_path / "ended").read_text().split() == ["store"]
