"""The supervisor, with tiny real processes: order, readiness, restarts, limits, and an end that is certain."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.local.errors import ServiceFailed
from infra.local.service import Service, bring_up
from infra.local.supervisor import RestartPolicy, State, Supervisor
from tests.support.processes import WELL_BEHAVED, Events, alive, job, service, until

QUICK = RestartPolicy(limit=2, first_wait_seconds=0.01)


@asynccontextmanager
async def supervised(*services: Service) -> AsyncIterator[tuple[Supervisor, Events]]:
    events = Events()
    supervisor = Supervisor(events, QUICK)
    try:
        await supervisor.start(services)
        yield supervisor, events
    finally:
        await supervisor.stop()


def pid_of(directory: Path, name: str) -> int:
    """The process whose log is `<name>.log`."""
    for process in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if process.readlink() == directory / f"{name}.log" and alive(int(process.parts[2])):
                return int(process.parts[2])
        except OSError:
            continue  # it ended while we looked
    return 0


def kill(pid: int) -> None:
    assert pid > 0
    os.kill(pid, signal.SIGKILL)


async def test_services_start_after_what_they_need(tmp_path: Path) -> None:
    """Nothing starts before its dependencies are ready; a job is when it has ended, a name not ours always."""
    first, setup = service(tmp_path, "store"), job(tmp_path, "migrate", "store")
    last = service(tmp_path, "gateway", "migrate", "given-by-settings")
    async with supervised(last, setup, first) as (_, events):
        reached = [(event.service, event.state) for event in events.seen]
        assert reached == [
            ("store", State.STARTING),
            ("store", State.READY),
            ("migrate", State.STARTING),
            ("migrate", State.DONE),
            ("gateway", State.STARTING),
            ("gateway", State.READY),
        ]


async def test_what_a_job_printed_is_told(tmp_path: Path) -> None:
    """The first start's steps (schema, catalogue, keys) are `migrate`'s own lines."""
    async with supervised(job(tmp_path, "migrate", code="print('schema: created\\ncatalogue: 3')")) as (_, events):
        assert events.seen[-1].detail == "schema: created\ncatalogue: 3"


async def test_what_takes_long_is_told_again(tmp_path: Path) -> None:
    """A slow start, and a slow end, say that they go on."""
    events = Events()
    supervisor = Supervisor(events, QUICK, remind_seconds=0.01)
    ready_when_told = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n" + WELL_BEHAVED
    ends_when_told = ready_when_told.replace(
        "    sys.exit(0)", "    while not os.path.exists('end'): time.sleep(0.01)\n    sys.exit(0)"
    )
    starting = asyncio.create_task(supervisor.start([service(tmp_path, "slow", code=ends_when_told)]))
    await events.until(State.STILL_STARTING, 2)
    (tmp_path / "go").touch()
    await starting
    stopping = asyncio.create_task(supervisor.stop())
    await events.until(State.STILL_STOPPING, 2)
    (tmp_path / "end").touch()
    await stopping
    states = list(dict.fromkeys(event.state for event in events.seen))
    assert states == [
        State.STARTING,
        State.STILL_STARTING,
        State.READY,
        State.STOPPING,
        State.STILL_STOPPING,
        State.STOPPED,
    ]
    reminders = [event.seconds for event in events.seen if event.state is State.STILL_STARTING]
    assert reminders == sorted(reminders)
    assert reminders[0] > 0


async def test_services_stop_in_the_reverse_order(tmp_path: Path) -> None:
    """A store ends only when everything that uses it has ended."""
    chain = [service(tmp_path, "store"), service(tmp_path, "gateway", "store"), service(tmp_path, "proxy", "gateway")]
    async with supervised(*chain):
        pass
    assert (tmp_path / "ended").read_text().split() == ["proxy", "gateway", "store"]


async def test_a_crashed_service_comes_back(tmp_path: Path) -> None:
    """A killed process is replaced by another one, which is ready again."""
    async with supervised(service(tmp_path, "gateway")) as (_, events):
        first = pid_of(tmp_path, "gateway")
        kill(first)
        await events.until(State.READY, 2)
        second = pid_of(tmp_path, "gateway")
        assert first != second
        assert alive(second)
        [crash] = [event for event in events.seen if event.state is State.CRASHED]
        assert "-9" in crash.detail


async def test_a_service_that_keeps_crashing_ends_it_all(tmp_path: Path) -> None:
    """After the limit the supervisor gives up, and says which service, and what it last wrote."""
    doomed = service(tmp_path, "worker", code="print('out of luck', flush=True)" + WELL_BEHAVED)
    async with supervised(doomed) as (supervisor, events):
        for life in range(1, QUICK.limit + 2):
            await events.until(State.READY, life)
            kill(pid_of(tmp_path, "worker"))
        with pytest.raises(ServiceFailed, match=r"(?s)worker exited.*2 restarts within 60 s.*out of luck"):
            await asyncio.wait_for(supervisor.failed(), 20)
        assert events.names(State.CRASHED) == ["worker", "worker"]


async def test_a_restart_that_does_not_get_ready_counts_as_a_crash(tmp_path: Path) -> None:
    """A service that comes back broken is tried again up to the limit, not for ever."""
    once = "import pathlib, sys\nif pathlib.Path('broken').exists(): sys.exit(7)\n" + WELL_BEHAVED
    async with supervised(service(tmp_path, "gateway", code=once)) as (supervisor, _):
        (tmp_path / "broken").touch()
        kill(pid_of(tmp_path, "gateway"))
        with pytest.raises(ServiceFailed, match="gateway did not come back"):
            await asyncio.wait_for(supervisor.failed(), 20)


async def test_an_exit_before_readiness_shows_the_log(tmp_path: Path) -> None:
    """Whoever starts the stack sees the reason without looking for a log file."""
    broken = service(tmp_path, "gateway", code="import sys; print('no such database'); sys.exit(3)")
    with pytest.raises(ServiceFailed, match=r"(?s)gateway exited with code 3 before it was ready.*no such database"):
        await bring_up(broken)


async def test_readiness_has_a_time_limit(tmp_path: Path) -> None:
    """A service that never gets ready fails the start, and does not stay behind."""
    silent = service(tmp_path, "gateway", code="import signal; signal.pause()", ready_seconds=0.2)
    with pytest.raises(ServiceFailed, match=r"not ready within 0.2 s \(gateway.ready is not there yet\)"):
        await bring_up(silent)
    assert pid_of(tmp_path, "gateway") == 0


async def test_a_failed_job_fails_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    """What came before a failed migration is stopped, what comes after it never starts."""
    migrate = job(tmp_path, "migrate", "store", code="import sys; sys.exit('wrong schema')")
    gateway = service(tmp_path, "gateway", "migrate")
    with pytest.raises(ServiceFailed, match=r"(?s)migrate failed with exit code 1.*wrong schema"):
        async with supervised(service(tmp_path, "store"), migrate, gateway):
            pass
    assert (tmp_path / "ended").read_text().split() == ["store"]
    assert not (tmp_path / "gateway.log").exists()


async def test_a_canceled_start_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while services start ends those that are half-way, too."""
    events = Events()
    supervisor = Supervisor(events, QUICK)
    never = service(tmp_path, "never", code="import signal; signal.pause()")
    start = asyncio.create_task(supervisor.start([service(tmp_path, "store"), never]))
    await events.until(State.READY)
    await until(lambda: pid_of(tmp_path, "never") != 0)
    start.cancel()
    await asyncio.wait({start})
    await supervisor.stop()
    assert pid_of(tmp_path, "never") == pid_of(tmp_path, "store") == 0


async def test_an_impatient_second_signal_kills(tmp_path: Path) -> None:
    """`kill` ends what ignores the polite request, without waiting for its time to run out."""
    deaf = WELL_BEHAVED.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")
    async with supervised(service(tmp_path, "deaf", code=deaf)) as (supervisor, events):
        stopping = asyncio.create_task(supervisor.stop())
        await events.until(State.STOPPING)
        supervisor.kill()
        await asyncio.wait_for(stopping, 5)
    assert pid_of(tmp_path, "deaf") == 0


def test_restart_waits_double_up_to_a_limit() -> None:
    """The first restart is almost at once, later ones leave a broken dependency time to recover."""
    policy = RestartPolicy(first_wait_seconds=0.5, max_wait_seconds=3)
    assert [policy.wait_seconds(n) for n in range(5)] == [0.5, 1, 2, 3, 3]
