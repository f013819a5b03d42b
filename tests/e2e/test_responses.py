"""The Responses format with the stock SDK over real gateways: reasoning that comes back, chains that last."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.requests import put_model, put_router
from tests.support.world import Gateway, World, eventually

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": False}
THOUGHT = {"type": "thinking", "thinking": "I must add.", "signature": "c2lnbmVk"}
SUMMARIZED: Any = {"effort": "low", "summary": "auto"}


def sdk(world: World, gateway: Gateway, key: str | None = None) -> openai.AsyncOpenAI:
    """The SDK without retries of its own."""
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key or world.admin_key, max_retries=0)


@asynccontextmanager
async def thinker(client: aiohttp.ClientSession) -> AsyncIterator[list[dict[str, Any]]]:
    """The router `thinker`, whose provider speaks Anthropic's format: it thinks and calls a tool, then says the
    result. Yields the bodies that it gets."""
    bodies: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
        asked = len(bodies[-1]["messages"]) == 1
        content = [THOUGHT, use] if asked else [{"type": "text", "text": "Three"}]
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content}
        usage = {"input_tokens": 5, "output_tokens": 5}
        return web.json_response({**message, "stop_reason": "tool_use" if asked else "end_turn", "usage": usage})

    app = web.Application()
    app.router.add_post("/v1/messages", handle)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        provider = {"id": "thinker", "kind": "anthropic", "baseUrl": url, "apiKey": "none"}
        async with client.put("/api/providers/thinker", json=provider) as put:
            assert put.status in (200, 201), await put.text()
        capabilities = ["chat", "functions", "reasoning"]
        await put_model(client, "own/thinker", "claude-sonnet-4-5", provider="thinker", capabilities=capabilities)
        await put_router(client, "thinker", ["own/thinker"])
        yield bodies


async def streamed(client: openai.AsyncOpenAI, **request: Any) -> Any:
    """The Response at the end of a stream, every event of which the SDK's types know."""
    response: Any = None
    async for event in await client.responses.create(stream=True, **request):
        EVENT.validate_python(event.to_dict())
        response = getattr(event, "response", response)
    return response


@pytest.mark.parametrize("carried", ["sealed", "stored", "named"])
async def test_signed_thinking_comes_back_to_its_provider(
    world: World, gateway: Gateway, client: aiohttp.ClientSession, carried: str
) -> None:
    """In the client's own hands, sealed; from the stored response; or by the item's name: the provider gets the very
    block that it signed, in front of its call."""
    async with thinker(client) as bodies, sdk(world, gateway) as asking:
        request: dict[str, Any] = {"model": "router/thinker", "tools": [TOOL], "reasoning": SUMMARIZED}
        question = {"role": "user", "content": "1+2?"}
        if carried == "sealed":
            request |= {"store": False, "include": ["reasoning.encrypted_content"]}
        first = await streamed(asking, input=[question], **request)
        reasoning, call = first.output
        assert (reasoning.summary[0].text, call.name) == ("I must add.", "add")
        assert (THOUGHT["signature"] in first.to_json(), reasoning.encrypted_content is None) == (
            False,
            carried != "sealed",
        )
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
        given: dict[str, Any] = {"input": [question, reasoning.to_dict(), call.to_dict(), result]}
        if carried == "stored":
            given = {"input": [result], "previous_response_id": first.id}
        second = await streamed(asking, **given, **request)
        assert second.output_text == "Three"
    turns = bodies[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    block = turns[1]["content"][0]
    assert {key: block.get(key) for key in THOUGHT} == THOUGHT
    assert turns[1]["content"][1]["type"] == "tool_use"


async def test_a_chain_outlives_its_gateway_and_belongs_to_its_owner(
    world: World, gateway: Gateway, client: aiohttp.ClientSession
) -> None:
    """Another gateway reads the response at once and goes on from it, also after the first is gone; another tenant
    learns nothing of it."""
    with world.gateway() as other:
        async with sdk(world, other) as asking:
            first = await asking.responses.create(model="sim/small", input="Name a river")
        async with sdk(world, gateway) as asking:
            assert (await asking.responses.retrieve(first.id)).output == first.output
        other.kill()
    async with sdk(world, gateway) as asking:
        second = await asking.responses.create(model="sim/small", input="Why?", previous_response_id=first.id)
    items = {item["role"] for item in await shown(client, f"/v1/responses/{second.id}/input_items")}
    assert items == {"user", "assistant"}
    bob = {"name": "bob", "scopes": ["route"], "userId": "bob"}
    async with client.post("/api/keys", json=bob) as made:
        key = (await made.json())["key"]
    async with sdk(world, gateway, key) as asking:
        with pytest.raises(openai.NotFoundError):
            await asking.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError, match="not found"):
            await asking.responses.create(model="sim/small", input="Why?", previous_response_id=first.id)


async def shown(client: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    """The data of a list."""
    async with client.get(path) as answer:
        listed: list[dict[str, Any]] = (await answer.json())["data"]
        return listed


async def test_it_is_recorded_like_any_other_request(gateway: Gateway, client: aiohttp.ClientSession) -> None:
    """One row, by the client's own name; the same name and body give the same response; what was left out is said."""
    tools = [TOOL, {"type": "web_search"}]
    body = {"model": "router/demo", "input": "Name a lake", "tools": tools, "modelpilot": {"tags": {"team": "a"}}}
    answers = []
    for _ in range(2):
        async with client.post("/v1/responses", json=body, headers={"Idempotency-Key": "responses-1"}) as answer:
            answers.append(json.loads(await answer.text()))
    assert answers[0]["output"] == answers[1]["output"]
    described = answers[0]["modelpilot"]
    assert [(each["field"], each["action"]) for each in described["adjusted"]] == [("tools[1]", "dropped")]
    async with client.get(f"/v1/requests/{answers[0]['id']}") as found:
        row = await found.json()
    assert (row["requestId"], row["tags"], row["status"]) == (described["requestId"], {"team": "a"}, "completed")


async def test_a_response_that_runs_is_shown_as_such(
    world: World, gateway: Gateway, client: aiohttp.ClientSession
) -> None:
    """In progress, and not to be deleted; whoever goes on from it waits for its end."""
    await put_model(client, "own/slow-response", "small+latency2000")
    path, name = "/v1/responses/resp_slow-response", {"x-request-id": "slow-response"}
    async with sdk(world, gateway) as asking:
        ask = asking.responses.create
        running = asyncio.create_task(ask(model="own/slow-response", input="Name a hill", extra_headers=name))

        async def shown_running() -> bool:
            async with client.get(path) as found:
                return found.status == 200 and (await found.json())["status"] == "in_progress"

        await eventually(shown_running, "it was never shown as running")
        async with client.delete(path) as refused:
            assert refused.status == 400
        second = await ask(model="sim/small", input="Why?", previous_response_id="resp_slow-response")
        first = await running
    assert second.previous_response_id == first.id
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
