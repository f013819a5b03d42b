"""A flapping model: its breaker opens, the fallback serves, a probe finds it well again, the breaker closes."""

from typing import Any

import aiohttp

from tests.support.requests import ask, chat, put_model, put_router
from tests.support.world import World, eventually

TAG = "flapping-breaker"
ROUTER = "flapping"


async def _switch(world: World, faults: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as session:
        body = {"model": "flappy", "faults": faults, "match": TAG}
        async with session.post(f"{world.simulator_url}/_sim/faults", json=body) as answer:
            assert answer.status < 300, await answer.text()


async def _calls_of_flappy(world: World) -> int:
    return int((await world.provider_calls(TAG))["byModel"].get("flappy", 0))


async def _answered_by(client: aiohttp.ClientSession) -> str:
    status, answer = await ask(client, ROUTER, chat(TAG))
    assert status == 200, answer
    return str(answer["modelpilot"]["selectedModel"])


async def _seen(client: aiohttp.ClientSession) -> dict[str, Any]:
    async with client.get("/api/health/deployments") as answer:
        items = (await answer.json())["items"]
    return next(item for item in items if item["model"] == "my/flappy")


async def _skips_flappy(client: aiohttp.ClientSession) -> bool:
    """Whether a request leaves the model out for its breaker; then it must not have called it either."""
    _, answer = await ask(client, ROUTER, chat(TAG), x_modelpilot_explain="true")
    details = answer["modelpilot"]
    reasons = {c["model"]: c["excludedBecause"] or "" for c in details["decision"]["candidates"]}
    if "circuit breaker open since" not in reasons["my/flappy"]:
        return False
    assert [attempt["model"] for attempt in details["attempts"]] == ["sim/small"]
    return True


async def test_a_flapping_model_is_left_alone_and_comes_back(world: World) -> None:
    """Every client is answered throughout; while open the model is not called; the probe brings it back."""
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            await put_model(client, "my/flappy", "flappy", costPerInputToken=1e-9, costPerOutputToken=1e-9)
            strategy = {"fallbackModels": ["sim/small"], "retryAttempts": 2}
            await put_router(client, ROUTER, ["my/flappy", "sim/small"], fallbackStrategy=strategy)
            assert await _answered_by(client) == "my/flappy"

            await _switch(world, {"status": 503})
            assert [await _answered_by(client) for _ in range(5)] == ["sim/small"] * 5
            assert (await _seen(client))["state"] != "closed"

            async def skipped() -> bool:
                return await _skips_flappy(client)

            # Not at once: on a slow machine the breaker may be half-open again by now.
            await eventually(skipped, "an open breaker does not exclude its model")
            before = await _calls_of_flappy(world)

            async def probed() -> bool:
                assert await _answered_by(client) == "sim/small"
                return await _calls_of_flappy(world) > before

            await eventually(probed, "an open breaker is never probed")

            await _switch(world, {})

            async def back() -> bool:
                return await _answered_by(client) == "my/flappy"

            await eventually(back, "the model does not come back")
            assert (await _seen(client))["state"] == "closed"
