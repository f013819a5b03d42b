"""Streams that are cut, stall or lie, over real HTTP: a part of an answer is never presented as the answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.requests import chat, ended, put_model, put_router
from tests.support.world import Gateway, World, eventually

WHOLE = "small+tokens60"


@pytest.fixture(scope="module")
def gateway(world: World) -> Any:
    """One gateway for all of these tests: nothing here kills it."""
    with world.gateway() as running:
        yield running


@pytest.fixture
async def client(world: World, gateway: Gateway) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of it."""
    async with world.client(gateway) as session:
        yield session


async def routed(client: aiohttp.ClientSession, name: str, *provider_models: str, **fields: Any) -> str:
    """A router whose first model is called, with the others as fallbacks in this order."""
    models = [f"{name}/{position}" for position in range(len(provider_models))]
    for position, (model, provider_model) in enumerate(zip(models, provider_models, strict=True)):
        await put_model(client, model, provider_model, costPerOutputToken=2e-6 * (position + 1))
    strategy = {"fallbackModels": models[1:], "retryAttempts": max(len(models) - 1, 0)}
    plain = {"fallbackStrategy": strategy, "mode": "preferredModel", "preferredModel": models[0]}
    await put_router(client, name, models, **{**plain, **fields})
    return name


async def events(client: aiohttp.ClientSession, router: str, tag: str) -> list[Any]:
    """The data of all events; "[DONE]" stays text."""
    body = chat(tag, stream=True, stream_options={"include_usage": True})
    async with client.post(f"/router/{router}", json=body, headers={"x-request-id": tag}) as answer:
        assert answer.status == 200, await answer.text()
        text = (await answer.read()).decode()
    data = [block.removeprefix("data: ") for block in text.split("\n\n") if block.startswith("data: ")]
    return [block if block == "[DONE]" else json.loads(block) for block in data]


def text_of(stream: list[Any]) -> str:
    """What a client shows."""
    chunks = [event for event in stream if event != "[DONE]"]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", []))


async def whole_text(world: World, tag: str, model: str = WHOLE) -> str:
    """The simulator's own undisturbed answer."""
    url = f"{world.simulator_url}/v1/chat/completions"
    body = {"model": model, **chat(tag)}
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        text: str = (await answer.json())["choices"][0]["message"]["content"]
        return text


async def calls_of(world: World, tag: str) -> dict[str, Any]:
    """What the simulator has counted, once no call runs any more."""

    async def settled() -> dict[str, Any] | None:
        counts = await world.provider_calls(tag)
        return None if counts["running"] else counts

    counts: dict[str, Any] = await eventually(settled, "a provider call goes on")
    return counts


async def test_a_cut_stream_is_resumed_by_the_same_model(world: World, client: aiohttp.ClientSession) -> None:
    """Cut at 40 of 60 tokens: the client gets the whole identical text; two attempts, both segments paid."""
    router = await routed(client, "cut-same", f"{WHOLE}+cut40x1", sameModelRetries=1)
    stream = await events(client, router, "cut-same")
    assert stream[-1] == "[DONE]"
    assert text_of(stream) == await whole_text(world, "cut-same")
    described = stream[-2]["modelpilot"]
    assert [attempt["errorType"] for attempt in described["attempts"]] == ["stream_cut", None]
    segments = described["segments"]
    assert [part["attempt"] for part in segments] == [0, 1]
    assert sum(part["characters"] for part in segments) == len(text_of(stream))
    assert all(part["costUsd"] > 0 for part in segments)
    assert described["costUsd"] == pytest.approx(sum(part["costUsd"] for part in segments))
    assert len({chunk["id"] for chunk in stream[:-1]}) == 1
    view = await eventually(lambda: ended(client, "cut-same"), "no terminal row")
    assert view["segments"] == segments
    assert view["answer"]["choices"][0]["message"]["content"] == text_of(stream)


@pytest.mark.parametrize("fault", ["cut40", "malformed40", "streamerror40", "stall40", "truncated"])
async def test_a_broken_stream_is_resumed_by_the_durable_fallback(
    world: World, client: aiohttp.ClientSession, fault: str
) -> None:
    """Cut, malformed chunk, error event, silence beyond `idleMs`, end within a chunk: another deployment goes on."""
    timeouts = {"firstTokenMs": 10_000, "idleMs": 400, "totalMs": 60_000}
    router = await routed(client, f"back-{fault}", f"{WHOLE}+{fault}", WHOLE, timeouts=timeouts)
    stream = await events(client, router, f"back-{fault}")
    assert stream[-1] == "[DONE]", stream[-1]
    assert text_of(stream) == await whole_text(world, f"back-{fault}")
    described = stream[-2]["modelpilot"]
    assert described["selectedModel"] == f"back-{fault}/1"
    assert [part["model"] for part in described["segments"]] == [f"back-{fault}/0", f"back-{fault}/1"]
    assert (await calls_of(world, f"back-{fault}"))["total"] == 3  # one of them is `whole_text`


async def test_another_answer_is_never_spliced(world: World, client: aiohttp.ClientSession) -> None:
    """Cut, then another model with another answer: an error event, no [DONE], the second call cancelled."""
    router = await routed(client, "diverge", f"{WHOLE}+cut40", "medium+tokens2000")
    stream = await events(client, router, "diverge")
    assert "[DONE]" not in stream
    assert stream[-1]["error"]["code"] == "stream_diverged"
    attempts = stream[-1]["modelpilot"]["attempts"]
    assert [attempt["errorType"] for attempt in attempts] == ["stream_cut", "stream_diverged"]
    assert (await whole_text(world, "diverge")).startswith(text_of(stream))
    view = await eventually(lambda: ended(client, "diverge"), "no terminal row")
    assert (view["status"], view["error"]["code"]) == ("failed", "stream_diverged")

    async def cancelled() -> bool:
        return bool((await world.provider_calls("diverge"))["disconnected"])

    await eventually(cancelled, "the divergent call goes on")


async def test_a_restart_is_marked(world: World, client: aiohttp.ClientSession) -> None:
    """`onStreamCut: restart`: the mark, then the whole other answer, and [DONE]."""
    router = await routed(client, "restart", f"{WHOLE}+cut40", "medium+tokens30", onStreamCut="restart")
    stream = await events(client, router, "restart")
    assert stream[-1] == "[DONE]"
    mark = next(place for place, event in enumerate(stream) if event.get("modelpilot", {}).get("restart"))
    assert stream[mark]["modelpilot"] == {"restart": True, "model": "restart/1"}
    assert text_of(stream[mark:]) == await whole_text(world, "restart", "medium+tokens30")
    assert stream[-2]["modelpilot"]["selectedModel"] == "restart/1"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_empty_answer_is_mended_by_another_model(
    world: World, client: aiohttp.ClientSession, stream: bool
) -> None:
    """Nothing is no answer: the next model is asked, and the one that said nothing not again."""
    tag = f"empty-{stream}"
    router = await routed(client, tag, "small+empty", WHOLE, sameModelRetries=1)
    if stream:
        found = await events(client, router, tag)
        text, described = text_of(found), found[-2]["modelpilot"]
    else:
        async with client.post(f"/router/{router}", json=chat(tag)) as answer:
            found = await answer.json()
        text, described = found["choices"][0]["message"]["content"], found["modelpilot"]
    assert text == await whole_text(world, tag)
    assert [attempt["errorType"] for attempt in described["attempts"]] == ["empty_answer", None]


async def test_an_empty_answer_that_nobody_mends_is_an_error(client: aiohttp.ClientSession) -> None:
    """Where no other model is left, the client is told, in one attempt."""
    router = await routed(client, "empty-end", "small+empty", sameModelRetries=1)
    async with client.post(f"/router/{router}", json=chat("empty-end")) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, "is empty" in error["message"]) == (502, True)
    assert [attempt["errorType"] for attempt in error["attempts"]] == ["empty_answer"]


async def test_a_stall_that_nobody_mends_is_an_error(world: World, client: aiohttp.ClientSession) -> None:
    """Without a fallback, silence beyond `idleMs` ends the stream with an error event; the silent one not retried."""
    timeouts = {"firstTokenMs": 10_000, "idleMs": 400, "totalMs": 60_000}
    router = await routed(client, "silent-end", "small+stall40", timeouts=timeouts, sameModelRetries=1)
    stream = await events(client, router, "silent-end")
    assert "[DONE]" not in stream
    assert stream[-1]["modelpilot"]["attempts"][0]["errorType"] == "timeout_idle"
    assert (await calls_of(world, "silent-end"))["total"] == 1


async def test_a_missing_done_is_no_fault(world: World, client: aiohttp.ClientSession) -> None:
    """The answer is whole without `[DONE]`: it finishes promptly, with its usage, in one call."""
    router = await routed(client, "nodone", f"{WHOLE}+nodone")
    stream = await events(client, router, "nodone")
    assert stream[-1] == "[DONE]"
    assert stream[-2]["usage"]["completion_tokens"] == 60
    assert text_of(stream) == await whole_text(world, "nodone")
    assert len(stream[-2]["modelpilot"]["attempts"]) == 1


async def test_a_slow_reader_costs_no_memory(client: aiohttp.ClientSession, gateway: Gateway) -> None:
    """A client that stops reading holds its provider back; the gateway does not keep the answer for it."""
    router = await routed(client, "slow-reader", "small+latency1+tokens100000")
    body = chat("slow-reader " + "x" * 10, stream=True)
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    async with client.post(f"/router/{router}", json=body) as answer:
        await answer.content.readuntil(b"\n\n")
        most = max([process.memory_info().rss async for _ in _beats(client)])
        async for _ in answer.content.iter_any():
            pass
    assert most - before < 64 * 1024 * 1024


async def _beats(client: aiohttp.ClientSession) -> AsyncIterator[None]:
    """Moments in which the gateway has had its turn many times."""
    for _ in range(50):
        async with client.get("/healthz") as answer:
            assert answer.status == 200
        yield
