"""Unit tests start no process: a test that needs one is an integration test."""

import subprocess
from collections.abc import Iterator
from multiprocessing import util
from typing import Any, NoReturn

import pytest


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("a unit test starts a process: it belongs to tests/integration")


@pytest.fixture(autouse=True, scope="module")
def _no_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "_execute_child", _refuse)
        patch.setattr(util, "spawnv_passfds", _refuse)
        yield
