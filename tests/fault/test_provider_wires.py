"""The faults that look different in Anthropic's and Gemini's wire formats, through the same table and judgement."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from bench.faults.runs import FaultLab, open_lab_session
from bench.faults.scenarios import ACCOUNTING, CONTEXT, FILTER, FOR_EVER, SCENARIOS, Scenario
from tests.support.world import Gateway, World

ANTHROPIC, GOOGLE = "native-anthropic", "native-google"
KINDS = {ANTHROPIC: "anthropic", GOOGLE: "google"}
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
# Those whose statuses, envelopes or events are the wire format's own.
NAMES = {
    "429-fallback", "503-fallback-stream", "cut-same", "cut-whole", "malformed-same", "malformed-fallback",
    "no-done-stream", "no-done-open", "stall-resumed", "context-fallback", "context-alone", "filter-fallback",
    "filter-alone-stream", "filter-midway", "filter-midway-stream", "200-errorbody", "200-comments-stream",
    "200-truncated-stream", "prefill-averse", "accounting",
}  # fmt: skip
SAYS = {
    ANTHROPIC: {CONTEXT: "prompt is too long", FILTER: "content filtering policy"},
    GOOGLE: {CONTEXT: "input token count", FILTER: "blocked the prompt: SAFETY"},
}


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    """One gateway for all of these tests."""
    with world.gateway() as running:
        yield running


@pytest.fixture(params=KINDS)
async def lab(world: World, gateway: Gateway, request: pytest.FixtureRequest) -> AsyncIterator[FaultLab]:
    """A client of it, whose models are called through the native client of that kind."""
    async with open_lab_session(world.admin_key) as session:
        lab = FaultLab(session, gateway.url, world.simulator_url, provider=request.param)
        provider = {"kind": KINDS[request.param], "baseUrl": world.simulator_url, "apiKey": "sk-test-0123"}
        await lab.put("providers", lab.provider, provider)
        yield lab


@pytest.mark.parametrize("name", sorted(NAMES))
async def test_a_fault_is_survived_in_another_wire_format(lab: FaultLab, name: str) -> None:
    """What failed is recognized by that provider's own status, envelope and events."""
    result = await lab.run(_as_written_by(lab.provider, BY_NAME[name]))
    assert result.judgement.verdict == "pass", result.judgement


def _as_written_by(provider: str, scenario: Scenario) -> Scenario:
    """The same scenario with that provider's words for it."""
    says = SAYS[provider].get(scenario.fault, "") if scenario.says else ""
    if provider == ANTHROPIC:
        return replace(scenario, says=says)
    # Gemini calls a 503 UNAVAILABLE.
    named = "overloaded" if scenario.fault in (FOR_EVER, ACCOUNTING) else "server_error"
    calls = tuple(replace(call, error=named) if call.error == "server_error" else call for call in scenario.calls)
    return replace(scenario, says=says, calls=calls)
