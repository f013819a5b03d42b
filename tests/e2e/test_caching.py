"""Prompt caching over real HTTP: a conversation with marks costs through the gateway what it costs without it."""

from decimal import Decimal
from functools import partial
from typing import Any

import aiohttp
import pytest

from tests.support.requests import ended, put_model
from tests.support.world import World, eventually

JsonObject = dict[str, Any]
FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
# USD per token: input, read, written for five minutes and for an hour (Anthropic's multiples), output.
PRICES = [Decimal(price) for price in ("0.000003", "0.0000003", "0.00000375", "0.000006", "0.000015")]
HANDBOOK = "handbook " * 1_500
TOOLS = [{"name": "get_weather", "description": "The weather", "input_schema": {"type": "object", "properties": {}}}]
TURNS = 5


async def put_claude(client: aiohttp.ClientSession, world: World, model: str, key: str) -> None:
    """A model at a provider of Anthropic's kind: the simulator, with a cache of its own for this key."""
    provider = {"kind": "anthropic", "baseUrl": world.simulator_url, "apiKey": key}
    async with client.put(f"/api/providers/{key}", json=provider) as answer:
        assert answer.status in (200, 201), await answer.text()
    prices = {"costPerInputToken": 3e-6, "costPerCachedInputToken": 3e-7, "costPerOutputToken": 15e-6}
    await put_model(client, model, "small", provider=key, **prices)


async def posted(client: aiohttp.ClientSession, url: str, body: JsonObject) -> JsonObject:
    async with client.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: JsonObject = await answer.json()
        return found


def messages_body(turns: list[JsonObject]) -> JsonObject:
    """What an agent sends: a handbook marked for an hour, and the newest block marked."""
    *earlier, last = turns
    *blocks, newest = last["content"]
    marked = {**last, "content": [*blocks, {**newest, "cache_control": FIVE}]}
    system = [{"type": "text", "text": HANDBOOK, "cache_control": HOUR}]
    return {"model": "small", "max_tokens": 300, "system": system, "tools": TOOLS, "messages": [*earlier, marked]}


def asked(turn: int) -> JsonObject:
    return {"role": "user", "content": [{"type": "text", "text": f"Weather in town {turn}? {'detail ' * 200}"}]}


async def messages_conversation(client: aiohttp.ClientSession, url: str, **more: Any) -> list[JsonObject]:
    """The answers of five turns in Anthropic's shape: each other turn brings a tool's result."""
    turns, answers = [asked(0)], []
    for turn in range(TURNS):
        answers.append(await posted(client, url, {**messages_body(turns), **more}))
        turns.append({"role": "assistant", "content": answers[-1]["content"]})
        uses = [block["id"] for block in answers[-1]["content"] if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": use, "content": "sunny " * 100} for use in uses]
        turns.append({"role": "user", "content": results} if results else asked(turn + 1))
    return answers


def result_of(call: JsonObject) -> JsonObject:
    return {"role": "tool", "tool_call_id": call["id"], "content": "sunny " * 100}


async def chat_conversation(client: aiohttp.ClientSession, model: str) -> list[JsonObject]:
    """The same conversation in OpenAI's shape, with marks on parts, on tool messages and on the tool."""
    system = {"role": "system", "content": [{"type": "text", "text": HANDBOOK, "cache_control": HOUR}]}
    tool = dict(TOOLS[0])
    tools = [{"type": "function", "function": {"parameters": tool.pop("input_schema"), **tool}}]
    turns, answers = [asked(0)], []
    for turn in range(TURNS):
        *earlier, last = turns
        if last["role"] == "tool":
            last = {**last, "cache_control": FIVE}
        else:
            last = {**last, "content": [{**last["content"][0], "cache_control": FIVE}]}
        body = {"model": model, "max_tokens": 300, "tools": tools, "messages": [system, *earlier, last]}
        answers.append(await posted(client, "/v1/chat/completions", body))
        message = answers[-1]["choices"][0]["message"]
        turns.append(message)
        turns += [result_of(call) for call in message.get("tool_calls") or []] or [asked(turn + 1)]
    return answers


def direct_usd(usage: JsonObject) -> Decimal:
    """What Anthropic charges for a call."""
    written = usage["cache_creation"]
    counts = [usage["input_tokens"], usage["cache_read_input_tokens"]]
    counts += [written["ephemeral_5m_input_tokens"], written["ephemeral_1h_input_tokens"], usage["output_tokens"]]
    return sum((count * price for count, price in zip(counts, PRICES, strict=True)), Decimal())


@pytest.mark.parametrize("front", ["messages", "chat"])
async def test_five_turns_cost_what_they_cost_without_the_gateway(
    world: World, client: aiohttp.ClientSession, front: str
) -> None:
    """To the last digit, turn by turn: the marks arrive, prefixes are the same from turn to turn, reads and writes are
    counted and priced, and the same costs are stored."""
    async with aiohttp.ClientSession(headers={"x-api-key": f"direct-{front}"}) as outside:
        direct = await messages_conversation(outside, f"{world.simulator_url}/v1/messages")
    for answer in direct[1:]:
        assert answer["usage"]["cache_read_input_tokens"] > 1_024
    await put_claude(client, world, f"own/cached-{front}", f"cached-{front}")
    if front == "chat":
        answers = await chat_conversation(client, f"own/cached-{front}")
    else:
        answers = await messages_conversation(client, "/v1/messages", model=f"own/cached-{front}")
    costs = [Decimal(repr(answer["modelpilot"]["costUsd"])) for answer in answers]
    assert costs == [direct_usd(answer["usage"]) for answer in direct]
    if front == "messages":
        counted = [{name: count for name, count in answer["usage"].items() if name != "cost"} for answer in answers]
        assert counted == [answer["usage"] for answer in direct]
    ids = [answer["modelpilot"]["requestId"] for answer in answers]
    views = [await eventually(partial(ended, client, name), "it does not end") for name in ids]
    assert [Decimal(repr(view["costUsd"])) for view in views] == costs
