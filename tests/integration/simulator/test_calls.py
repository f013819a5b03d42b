"""How faults are asked for, and the log of calls, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from simulator.faults import FAULTS
from simulator.server import running
from simulator.state import SimulatorConfig

pytestmark = pytest.mark.asyncio

CHAT = "/v1/chat/completions"


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a simulator that answers at once, on a real port."""
    async with running(SimulatorConfig(latency_ms=0)) as url, aiohttp.ClientSession(url) as session:
        yield session


def _body(model: str, prompt: str = "Explain routers", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


async def _status(http: aiohttp.ClientSession, model: str, **more: Any) -> int:
    async with http.post(CHAT, json=_body(model, **more)) as answer:
        return answer.status


async def _wait_for(http: aiohttp.ClientSession, **query: Any) -> Any:
    """Return the log as soon as it has `min` calls of the outcome."""
    async with http.get("/_sim/calls", params={"wait_ms": 5000, **query}) as answer:
        return await answer.json()


async def test_ways_to_status(http: aiohttp.ClientSession) -> None:
    """Body field, header and admin endpoint do what the suffix does; a mistake is a 400."""
    assert await _status(http, "small", simulator={"status": 503, "times": 1}) == 503
    assert await _status(http, "small", simulator={"faults": "502"}) == 502
    async with http.post(CHAT, json=_body("small"), headers={"x-sim-faults": "500"}) as answer:
        assert answer.status == 500
    assert await _status(http, "small+nonsense") == 400
    rule = {"model": "large", "match": "bad", "faults": {"status": 503, "times": 1}}
    async with http.post("/_sim/faults", json=rule) as answer:
        assert (await answer.json())["rules"][0]["model"] == "large"
    assert [await _status(http, "large", prompt=text) for text in ("good", "bad", "bad")] == [200, 503, 200]
    async with http.delete("/_sim/faults") as answer:
        assert (await answer.json()) == {"rules": []}
    async with http.post("/_sim/faults", json={"model": "x", "faults": {"nonsense": 1}}) as answer:
        assert answer.status == 400
    async with http.get("/_sim/faults") as answer:
        assert list((await answer.json())["known"]) == list(FAULTS)


async def test_calls_are_counted(http: aiohttp.ClientSession) -> None:
    """The log counts calls by tag, model, outcome and status, and how many ran at once for one prompt."""
    slow = [asyncio.create_task(_status(http, "small+hang", prompt="tag-a same")) for _ in range(3)]
    await _wait_for(http, tag="tag-a", outcome="running", min=3)
    await asyncio.gather(_status(http, "small+503", prompt="tag-b"), _status(http, "large", simulator={"tag": "tag-b"}))
    for task in slow:
        task.cancel()
    first = (await _wait_for(http, tag="tag-a", outcome="disconnected", min=3))["counts"]
    assert (first["total"], first["maxConcurrent"]) == (3, 3)
    second = (await _wait_for(http, tag="tag-b"))["counts"]
    assert (second["completed"], second["failed"], second["byStatus"]) == (1, 1, {"503": 1, "200": 1})
    assert (await _wait_for(http, model="large"))["counts"]["total"] == 1
    async with http.delete("/_sim/calls"):
        pass
    async with http.get("/_sim/calls") as answer:
        assert (await answer.json())["counts"]["total"] == 0


async def test_disconnect_in_mid_stream_is_seen(http: aiohttp.ClientSession) -> None:
    """A client that leaves while tokens flow is logged as disconnected."""
    body = _body("small", simulator={"firsttoken": 60_000}, stream=True)
    async with http.post(CHAT, json=body, headers={"x-request-id": "req-7"}):
        pass
    assert (await _wait_for(http, outcome="disconnected"))["calls"][0]["requestId"] == "req-7"


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("small+tokens60", 60),
        ("small+cut40", 40),
        ("small+truncated+tokens60", 30),
        ("small+html", 0),
        ("small+503", 0),
    ],
)
async def test_calls_count_the_tokens_that_were_produced(http: aiohttp.ClientSession, model: str, tokens: int) -> None:
    """What a provider would bill can be compared with what the gateway says it cost."""
    async with http.post(CHAT, json=_body(model, "three words here", stream=True)) as answer:
        await answer.content.readany()
    call = (await _wait_for(http))["calls"][0]
    assert (call["promptTokens"], call["tokens"]) == (3, tokens)
