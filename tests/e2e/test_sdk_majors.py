"""The stock `openai` and `anthropic` SDKs, current majors and the ones before, against a real gateway: one list of
scenarios, two interpreters, and nothing changes but base URL and key."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from tests.sdk_scenarios.__main__ import SCENARIOS
from tests.sdk_scenarios.site import Site
from tests.support.sdk import ROOT, previous_sdks, sdk_site
from tests.support.world import Gateway, World

pytestmark = pytest.mark.timeout(400)  # the first run on a machine installs the previous majors
RUN_TIMEOUT_S = 120.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(world: World, gateway: Gateway) -> AsyncIterator[Site]:
    """What the scenarios talk to."""
    async with sdk_site(world, gateway) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["current", "previous"])
async def report(request: pytest.FixtureRequest, site: Site) -> dict[str, Any]:
    """What one interpreter reports of all scenarios, and which majors it is expected to have."""
    cache = request.config.cache
    assert cache is not None
    back = int(request.param == "previous")
    python = await asyncio.to_thread(previous_sdks, cache.mkdir("sdks")) if back else Path(sys.executable)
    found = await asyncio.to_thread(run_scenarios, python, site)
    return {**found, "expected": [major(openai.__version__) - back, major(anthropic.__version__) - back]}


def run_scenarios(python: Path, site: Site) -> dict[str, Any]:
    """The report of `python`. Its environment holds no variable by which an SDK could be configured otherwise."""
    done = subprocess.run(
        [str(python), "-m", "tests.sdk_scenarios"],
        cwd=ROOT,
        env={},
        input=json.dumps(dataclasses.asdict(site)),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def major(version: str) -> int:
    """The first number of a version."""
    return int(version.partition(".")[0])


def test_the_majors_are_the_current_ones_and_the_ones_before(report: dict[str, Any]) -> None:
    """The second lock follows the first: when a new major comes into requirements.lock, this one has to move."""
    assert [major(report[name]) for name in ("openai", "anthropic")] == report["expected"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(report: dict[str, Any], scenario: str) -> None:
    """The scenario's own first line says what it protects."""
    failure = report["failures"][scenario]
    assert failure is None, failure
