"""One supervised process: its end is certain, whoever dies first."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.child import LOG_ROTATE_BYTES, Child
from infra.local.environment import foreign_environment, python_environment, role_environment
from tests.support.processes import PAUSE, alive, spec, until

PARENT = """
import os, pathlib, signal, sys
from infra.local.child import Child
from tests.support.processes import spec
child = Child(spec(pathlib.Path(sys.argv[1]), "orphan"))
print(child.pid, flush=True)
signal.pause()
"""
DEAF = "import signal, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path('deaf').touch()\n"
WITH_GRANDCHILD = """
import pathlib, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path("grandchild").write_text(str(child.pid))
signal.pause()
"""


async def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """`kill -9` of the supervisor leaves no process behind."""
    argv = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, env=python_environment())
    assert parent.stdout is not None
    orphan = int(await parent.stdout.readline())
    assert alive(orphan)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(orphan))


async def test_a_deaf_child_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    """A process that ignores the request to end is not waited for for ever."""
    child = Child(spec(tmp_path, "deaf", DEAF + PAUSE, stop_seconds=0.05))
    await until((tmp_path / "deaf").exists)
    assert await asyncio.wait_for(child.stop(), 10) == -signal.SIGKILL


async def test_grandchildren_end_with_the_child(tmp_path: Path) -> None:
    """What a server has started does not hold its port or its files after the server's end."""
    child = Child(spec(tmp_path, "family", WITH_GRANDCHILD))
    await until(lambda: (tmp_path / "grandchild").exists() and (tmp_path / "grandchild").read_text() != "")
    grandchild = int((tmp_path / "grandchild").read_text())
    await child.stop()
    await until(lambda: not alive(grandchild))


async def test_an_inherited_ignore_is_undone(tmp_path: Path) -> None:
    """A stack started with `modelpilot up &`, where SIGINT is ignored, still stops servers that want SIGINT."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = Child(spec(tmp_path, "server", "print('up', flush=True)\n" + PAUSE, stop_signal=signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    await until(lambda: "up" in child.log_tail())
    assert await child.stop() != -signal.SIGKILL


async def test_the_log_has_both_streams_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Logs hold what the process wrote, in order, and may hold more than others should see."""
    child = Child(spec(tmp_path, "talker", "import sys; print('out', flush=True); print('err', file=sys.stderr)"))
    assert await child.wait() == 0
    assert child.log_tail() == "out\nerr"
    assert (tmp_path / "talker.log").stat().st_mode & 0o077 == 0


async def test_the_tail_is_of_this_run_and_old_logs_are_rotated(tmp_path: Path) -> None:
    """An error message never quotes an earlier run, and logs do not grow without bound."""
    (tmp_path / "talker.log").write_text("old\n")
    child = Child(spec(tmp_path, "talker", "print('new')"))
    await child.wait()
    assert child.log_tail() == "new"
    os.truncate(tmp_path / "talker.log", LOG_ROTATE_BYTES + 1)
    await Child(spec(tmp_path, "talker", "print('newer')")).wait()
    assert (tmp_path / "talker.log").read_text() == "newer\n"
    assert (tmp_path / "talker.log.1").exists()


async def test_a_missing_program_is_said_in_the_log(tmp_path: Path) -> None:
    """A program that cannot be run ends with a sentence, not with a trace."""
    from dataclasses import replace

    child = Child(replace(spec(tmp_path, "absent"), argv=("/nonexistent/program",)))
    assert await child.wait() == 127
    assert child.log_tail() == "cannot run /nonexistent/program: No such file or directory"


def test_foreign_servers_see_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres, Temporal and Milvus get an environment without our settings and provider keys."""
    for name in ("OPENAI_API_KEY", "MODELPILOT_ENCRYPTION_KEYS", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary")
    assert "canary" not in foreign_environment({"GOGC": "800"}).values()


def test_roles_get_keys_in_the_environment_and_never_on_the_command_line(tmp_path: Path) -> None:
    """A command line can be read by every user of the machine."""
    from infra.local.environment import Addresses
    from infra.settings import load_settings

    settings = load_settings({"MODELPILOT_DATA_DIR": str(tmp_path)})
    environment = role_environment(settings, Addresses("postgresql://x", "t:1", "http://m", "http://s"), ["a", "b"])
    assert environment["MODELPILOT_ENCRYPTION_KEYS"] == "a,b"
    assert environment["MODELPILOT_DATA_DIR"] == str(tmp_path)
    assert "a,b" not in repr(spec(tmp_path, "role"))
