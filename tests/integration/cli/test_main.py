"""The command line as a process: help that imports nothing, and errors as one line with an exit code."""

import subprocess
import sys

import pytest

from cli import main
from infra.local.environment import python_environment


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
