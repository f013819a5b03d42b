"""Every provider fault, over real HTTP, by the table and the judgement of `modelpilot bench faults`.

Each test counts the calls that the simulator saw, holds every attempt's cost against the simulator's token counts, and
looks at what the client got and at the request's one terminal row (bench/faults/verdicts.py).
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from bench.faults.runs import FaultLab, open_lab_session
from bench.faults.scenarios import SCENARIOS, Scenario
from tests.support.world import Gateway, World


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    """One gateway for all faults: every scenario has models, and so breakers, of its own."""
    with world.gateway() as running:
        yield running


@pytest.fixture
async def lab(world: World, gateway: Gateway) -> AsyncIterator[FaultLab]:
    """A client of it."""
    async with open_lab_session(world.admin_key) as session:
        yield FaultLab(session, gateway.url, world.simulator_url)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_a_provider_fault_is_survived(lab: FaultLab, scenario: Scenario) -> None:
    """The right answer or the right error, by exactly these calls, billed for what was produced, in one row."""
    result = await lab.run(scenario)
    assert result.judgement.verdict == "pass", result.judgement
