"""Unit tests start no process: a test that needs one is an integration test."""

import subprocess
from collections.abc import Iterator
from multiprocessing import util
from typing import Any, NoReturn

import pytest
import structlog

# Drawing the variables of every frame takes seconds, and many tests provoke an exception that is logged.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("a unit test starts a process: it belongs to tests/integration")


@pytest.fixture(autouse=True, scope="module")
def _no_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "_execute_child", _refuse)
        patch.setattr(util, "spawnv_passfds", _refuse)
        yield
