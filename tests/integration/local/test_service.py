"""Bringing a service up: how often it is started, and when it is given up."""

from pathlib import Path

import pytest

from infra.local.errors import ServiceFailed
from infra.local.service import NotReady, Service, bring_up
from tests.support.processes import spec

# Exits twice before it stays; one letter per start.
UNLUCKY = """
import pathlib, signal, sys
with open("starts", "a") as starts:
    starts.write("x")
if len(pathlib.Path("starts").read_text()) < 3:
    sys.exit(2)
pathlib.Path("ready").touch()
signal.pause()
"""


@pytest.mark.parametrize(("allowed", "starts"), [(1, 1), (2, 2), (3, 3), (5, 3)])
async def test_a_service_that_exits_early_is_started_again(tmp_path: Path, allowed: int, starts: int) -> None:
    """As often as it says, and no further; the last failure is the one that is told."""

    async def probe() -> None:
        if not (tmp_path / "ready").exists():
            raise NotReady("not yet")

    service = Service(spec(tmp_path, "unlucky", UNLUCKY), probe, starts=allowed)
    if allowed < 3:
        with pytest.raises(ServiceFailed, match="exited with code 2 before it was ready"):
            await bring_up(service)
    else:
        await (await bring_up(service)).stop()
    assert (tmp_path / "starts").read_text() == "x" * starts
