"""The maintenance worker as a process on real servers: ready when it polls, working, and gone when it is told to go."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from temporalio.client import Client, ScheduleHandle, ScheduleOverlapPolicy

from infra.crypto.keyring import Keyring
from infra.local.data_dir import DataDir
from infra.temporal.codec import data_converter
from tests.support.installation import environment
from tests.support.world import KEYRING, eventually, wait_until
from workflows import schedules

STOP_WITHIN_S = 8.0  # less than the ten seconds after which the supervisor kills


@pytest.fixture
def variables(tmp_path: Path, migrated_url: str, maintained_temporal: str, milvus_uri: str) -> dict[str, str]:
    return environment(tmp_path, migrated_url, maintained_temporal, milvus_uri)


@contextmanager
def worker(environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        command = [sys.executable, "-m", "cli", "worker"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_it_works_until_it_is_told_to_stop(
    variables: dict[str, str], tmp_path: Path, migrated_url: str, maintained_temporal: str
) -> None:
    """It says when it polls, deletes what has expired when the schedule says so, and ends with 0 upon SIGTERM."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("INSERT INTO instances (id, host, heartbeat_at) VALUES ('gone', 'h', '2020-01-01Z')")
    log, ready = tmp_path / "worker.log", DataDir(tmp_path).worker_ready
    client = await Client.connect(maintained_temporal, data_converter=data_converter(Keyring([KEYRING])))
    handle = client.get_schedule_handle(schedules.housekeeping().id)
    with worker(variables, log) as process:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the worker is not ready")
        assert ready.exists(), log.read_text()
        await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
        first = await eventually(lambda: _first_run(handle), "the schedule started nothing")
        await client.get_workflow_handle(first).result()
        asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20.0) == 0, log.read_text()
        assert time.monotonic() - asked_at < STOP_WITHIN_S
    assert not ready.exists()
    with psycopg.connect(migrated_url) as connection:
        assert connection.execute("SELECT count(*) FROM instances").fetchone() == (0,)


def test_it_can_be_stopped_while_it_waits_for_temporal(variables: dict[str, str], tmp_path: Path) -> None:
    """A stack that is stopped during its start does not wait for a server that never came."""
    variables = {**variables, "MODELPILOT_TEMPORAL_ADDRESS": "127.0.0.1:9"}
    log = tmp_path / "worker.log"
    with worker(variables, log) as process:
        wait_until(lambda: _handles_sigterm(process.pid), "the worker did not start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_WITHIN_S) == 0, log.read_text()


def test_a_missing_setting_is_named(variables: dict[str, str]) -> None:
    """Started by hand without its services, it says what is missing."""
    bare = {name: value for name, value in variables.items() if name != "MODELPILOT_MILVUS_URI"}
    command = [sys.executable, "-m", "cli", "worker"]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "MODELPILOT_MILVUS_URI: is not set" in done.stderr) == (2, True)


async def _first_run(handle: ScheduleHandle) -> str | None:
    actions = (await handle.describe()).info.recent_actions
    started = [action.action.workflow_id for action in actions if hasattr(action.action, "workflow_id")]
    return started[0] if started else None


def _handles_sigterm(pid: int) -> bool:
    caught = next(
        line for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines() if line.startswith("SigCgt")
    )
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
