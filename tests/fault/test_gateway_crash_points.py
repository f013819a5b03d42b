"""kill -9 of a gateway at every point between acceptance and the closed workflow: one row, one workflow, and no call
for an outcome that is recorded."""

from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.support.crash_runs import ask_in_vain, crash_router, crash_tag, is_whole
from tests.support.crashing import GATEWAY
from tests.support.world import World, running_world, wait_until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation with a worker; closers are the tests'."""
    with running_world(tmp_path_factory.mktemp("world"), attended=False) as running, running.role("worker"):
        yield running


# How many provider calls there may be in all: one, and another one where nobody had recorded the first one's outcome.
_GATEWAY_CALLS = {
    "accepted": {1},
    "about to call": {1},
    "calling": {2},
    "refused, the next call not claimed": {3},
    "refused, the next call claimed": {3},
    "answered, not recorded": {2},
    "recorded": {1},
    "first phase failed": {3},
    "handed over, Temporal not asked": {2},
    "handed over": {2, 3},
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", GATEWAY)
async def test_a_gateway_dies(world: World, point: str) -> None:
    """Whatever it had done by then."""
    tag, fails = crash_tag("gateway", point), "over" in point or "failed" in point
    refuses = "refused" in point
    async with AsyncExitStack() as stack:
        stack.enter_context(world.role("closer"))
        spectator = await stack.enter_async_context(world.client(stack.enter_context(world.gateway())))
        model = "small+503" if fails else "small+400" if refuses else "small+latency100"
        router = await crash_router(spectator, tag, model, falls_back=fails or refuses)
        with world.gateway(crash=point) as dying:
            async with world.client(dying) as client:
                await ask_in_vain(client, router, tag)
            wait_until(lambda: dying.process.poll() is not None, "it lives")
        view = await is_whole(world, spectator, tag, _GATEWAY_CALLS[point])
    assert view["selectedModel"] == ("sim/small" if fails or refuses else tag)
