"""The command line as a process: help that imports nothing, and errors as one line with an exit code."""

import base64
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli import main
from infra.local.environment import python_environment
from infra.local.ports import free_port


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "cli", *arguments]
    env = python_environment() | environment
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=False, timeout=60)


def test_help_lists_every_command_and_imports_none() -> None:
    """`modelpilot --help` is quick: it loads no server, no database driver and no Temporal client."""
    code = """
import sys
from cli.main import main
try:
    main()
finally:
    print(sorted(name for name in sys.modules if name in {"aiohttp", "temporalio", "sqlalchemy", "dash", "pymilvus"}))
"""
    argv = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, env=python_environment(), check=True, timeout=60)
    assert all(command in done.stdout for command in main.COMMANDS)
    assert done.stdout.strip().endswith("[]")


def test_up_has_help() -> None:
    """Every command explains itself."""
    done = run("up", "--help")
    assert done.returncode == 0
    assert "Ctrl-C" in done.stdout


def test_a_wrong_setting_is_one_line_and_exit_code_2() -> None:
    """A typing error in the configuration is no stack trace."""
    done = run("up", MODELPILOT_API_PORT="http")
    assert done.returncode == 2
    assert done.stderr.startswith("modelpilot: MODELPILOT_API_PORT: ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_command_suggests_the_near_one() -> None:
    """A slip of the fingers costs a second, not a look at the manual."""
    done = run("dcotor")
    assert done.returncode == 2
    assert "'doctor'" in done.stderr


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_matrix_products_keep_to_one_thread(given: dict[str, str], expected: str) -> None:
    """Unless somebody says otherwise: the library reads it when it is loaded, so it has to be there before that."""
    code = """
import os, sys
import cli.main as cli
assert "numpy" not in sys.modules
cli.app = lambda **_: print(os.environ["OPENBLAS_NUM_THREADS"])
cli.main()
"""
    environment = {name: value for name, value in python_environment().items() if name != "OPENBLAS_NUM_THREADS"}
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment | given, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


@contextmanager
def silent_server() -> Iterator[tuple[str, socket.socket]]:
    """An address where somebody takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(60.0)
        yield f"127.0.0.1:{listener.getsockname()[1]}", listener


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "list"],
        ["demo", "--count", "2"],
        ["doctor"],
        ["users", "list"],
        ["requests", "show", "req_1"],
        ["gateway"],
    ],
    ids=" ".join,
)
def test_an_interrupt_ends_a_command_that_waits(arguments: list[str], tmp_path: Path) -> None:
    """Ctrl-C while a service does not answer: no traceback, and 130, or 0 of a process that was asked to stop."""
    with silent_server() as (address, listener):
        services = {
            "API_URL": f"http://{address}",
            "API_KEY": f"mp_{'5a' * 32}",
            "API_PORT": address.rpartition(":")[2] if arguments == ["doctor"] else str(free_port()),
            "DATABASE_URL": f"postgresql://u@{address}/x",
            "TEMPORAL_ADDRESS": address,
            "MILVUS_URI": f"http://{address}",
            "SIMULATOR_URL": f"http://{address}",
            "ENCRYPTION_KEYS": base64.b64encode(bytes(range(32))).decode(),
            "DATA_DIR": str(tmp_path / "data"),
        }
        env = python_environment() | {f"MODELPILOT_{name}": value for name, value in services.items()}
        # A shell starts what it puts into the background with the interrupt ignored, and so all that is below it.
        argv = ["env", "--default-signal=INT", sys.executable, "-m", "cli", *arguments]
        pipe = subprocess.PIPE
        with (
            subprocess.Popen(argv, env=env, stdout=pipe, stderr=pipe, text=True) as process,
            listener.accept()[0],  # it is in the middle now
        ):
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60.0)
    assert "Traceback" not in out + err
    assert process.returncode == (0 if arguments == ["gateway"] else 130), out + err


def test_a_taken_port_is_named_with_its_variable(tmp_path: Path) -> None:
    """A gateway of one's own beside a running ModelPilot is the usual case."""
    with silent_server() as (address, _):
        services = {
            "API_PORT": address.rpartition(":")[2],
            "DATABASE_URL": "postgresql://u@127.0.0.1:9/x",
            "TEMPORAL_ADDRESS": "127.0.0.1:9",
            "MILVUS_URI": "http://127.0.0.1:9",
            "ENCRYPTION_KEYS": base64.b64encode(bytes(range(32))).decode(),
            "DATA_DIR": str(tmp_path / "data"),
        }
        done = run("gateway", **{f"MODELPILOT_{name}": value for name, value in services.items()})
        assert done.returncode == 1
        said = f"modelpilot: cannot listen on {address}: address already in use. Stop what listens there"
        assert said in done.stderr
        assert "MODELPILOT_API_PORT" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stdout + done.stderr
