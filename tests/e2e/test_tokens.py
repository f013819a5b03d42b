"""A model that counts otherwise than we do, over real HTTP: the simulator counts words."""

from typing import Any

import aiohttp
import pytest

from tests.support.requests import ask, chat, put_model, put_router
from tests.support.world import Gateway, World, eventually

MODEL = "counts/words"
# Its tokens are twice as many as its words.
PROMPT = "measure, compare; decide: " * 60


async def _explained(client: aiohttp.ClientSession, prompt: str) -> dict[str, Any]:
    async with client.post("/router/counts/explain", json=chat(prompt)) as answer:
        assert answer.status == 200, await answer.text()
        candidate: dict[str, Any] = (await answer.json())["decision"]["candidates"][0]
        return candidate


async def _counted(client: aiohttp.ClientSession, prompt: str) -> int:
    body = {"model": "router/counts", "messages": [{"role": "user", "content": prompt}]}
    async with client.post("/v1/messages/count_tokens", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return int((await answer.json())["input_tokens"])


async def test_what_a_model_counts_is_learnt_and_kept(world: World, gateway: Gateway) -> None:
    """From its answers' usage into costs, candidates and `count_tokens`; a gateway that starts later knows it, too."""
    async with world.client(gateway) as client:
        await put_model(client, MODEL, "small+latency1", costPerInputToken=1e-3, costPerOutputToken=0.0)
        await put_router(client, "counts", [MODEL])
        before, reported = await _explained(client, PROMPT), 0
        for number in range(24):
            status, answer = await ask(client, "counts", chat(f"{PROMPT}{number}"))
            assert status == 200, answer
            reported = answer["usage"]["prompt_tokens"]
        after = await _explained(client, PROMPT)
        assert before["promptTokens"] > 1.5 * reported
        assert after["promptTokens"] == pytest.approx(reported, rel=0.1)
        assert after["cost"]["raw"] == pytest.approx(reported * 1e-3, rel=0.1)
        assert await _counted(client, PROMPT) == pytest.approx(reported, rel=0.1)
    with world.gateway() as later:
        async with world.client(later) as client:

            async def known() -> bool:
                return bool((await _explained(client, PROMPT))["promptTokens"] == pytest.approx(reported, rel=0.1))

            await eventually(known, "the second gateway has not read what was reported")
