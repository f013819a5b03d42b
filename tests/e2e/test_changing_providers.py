"""Conversations that change their provider at every turn, over real HTTP: the simulator behind plays strict providers,
and the stock SDKs send back what they got."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from tests.support.requests import put_model
from tests.support.world import Gateway, World

# Model → the kind of its provider, and the model's name there.
MODELS = {
    "turn/openai": ("openai", "gpt-5-mini+strict+thinks+latency0"),
    "turn/compatible": ("openai", "llama-3.3-70b+strict=compatible+thinks+latency0"),
    "turn/mistral": ("openai", "mistral-large+strict=mistral+latency0"),
    "turn/moonshot": ("openai", "kimi-k2-thinking+strict=moonshot+thinks+latency0"),
    "turn/openrouter": ("openrouter", "anthropic/claude-sonnet-4.5+strict=openrouter+thinks+latency0"),
    "turn/claude": ("anthropic", "claude-sonnet-4-5+strict+thinks+latency0"),
    "turn/newer-claude": ("anthropic", "claude-opus-4-8+strict+thinks+latency0"),
    "turn/google": ("google", "gemini-3-pro+strict+thinks+latency0"),
}
NAMES = sorted(MODELS)
# Every model follows every other one once, itself included.
ROUNDS = [list(itertools.chain(*((first, second) for second in NAMES))) for first in NAMES]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
async def models(world: World, client: aiohttp.ClientSession) -> None:
    """The strict models."""
    for kind in {kind for kind, _ in MODELS.values()}:
        base = world.simulator_url + ("/v1" if kind in ("openai", "openrouter") else "")
        body = {"kind": kind, "baseUrl": base, "apiKey": "k"}
        async with client.put(f"/api/providers/turn-{kind}", json=body) as answer:
            assert answer.status in (200, 201), await answer.text()
    for model, (kind, name) in MODELS.items():
        await put_model(client, model, name, provider=f"turn-{kind}", limits={"maxTokens": 8_000})


@pytest.fixture
async def chat(world: World, gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's SDK without retries."""
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=world.admin_key, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def claude(world: World, gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's SDK without retries."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=world.admin_key, max_retries=0) as sdk:
        yield sdk


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("order", ROUNDS, ids=NAMES)
@pytest.mark.parametrize("exclude_none", [False, True])
async def test_chat(chat: openai.AsyncOpenAI, order: list[str], exclude_none: bool) -> None:
    """Each answer is appended as the SDK dumps it, its calls get their results, and the next provider goes on."""
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]
    messages: list[Any] = []
    for turn, model in enumerate(order):
        if not messages or messages[-1]["role"] == "assistant":
            messages.append({"role": "user", "content": f"Weather in Paris and Rome, {turn}"})
        answer = await chat.chat.completions.create(model=model, messages=messages, tools=tools)
        message = answer.choices[0].message
        messages.append(message.model_dump(exclude_none=exclude_none))
        calls = message.tool_calls or ()
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
    assert sum(len(message.get("tool_calls") or ()) for message in messages) == len(order)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("order", ROUNDS, ids=NAMES)
@pytest.mark.parametrize("streamed", [False, True])
async def test_messages(claude: anthropic.AsyncAnthropic, order: list[str], streamed: bool) -> None:
    """The same on the Messages route with thinking, whole and streamed."""
    fields: dict[str, Any] = {
        "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
        "max_tokens": 4_000,
    }
    messages: list[Any] = []
    used = 0
    for turn, model in enumerate(order):
        if not messages or messages[-1]["role"] == "assistant":
            messages.append({"role": "user", "content": f"Weather in Paris and Rome, {turn}"})
        if streamed:
            async with claude.messages.stream(model=model, messages=messages, **fields) as stream:
                answer = await stream.get_final_message()
        else:
            answer = await claude.messages.create(model=model, messages=messages, **fields)
        messages.append({"role": "assistant", "content": answer.content})
        calls = [block.id for block in answer.content if block.type == "tool_use"]
        if calls:
            results = [{"type": "tool_result", "tool_use_id": call_id, "content": "sunny"} for call_id in calls]
            messages.append({"role": "user", "content": results})
        used += len(calls)
    assert used == len(order)
