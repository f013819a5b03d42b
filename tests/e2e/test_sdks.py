"""The stock `openai` and `anthropic` SDKs against a real gateway: nothing but base URL and key changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.support.client_relay import client_relay
from tests.support.requests import put_model, put_router
from tests.support.sdk_samples import IMAGE_URL, NAMES, PIXEL, QUESTION, functions, put_failing, said, tools
from tests.support.world import Gateway, World, eventually


class City(BaseModel):
    """The shape of a structured answer."""

    city: str


@pytest.fixture
async def oai(world: World, gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's SDK without retries."""
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=world.admin_key, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def claude(world: World, gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's SDK without retries; it sends `x-api-key`."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=world.admin_key, max_retries=0) as sdk:
        yield sdk


async def test_openai_chat(oai: openai.AsyncOpenAI) -> None:
    """A completion parses, and our object is an extra field of it."""
    answer = await oai.chat.completions.create(model="router/demo", messages=said("What is 12 * 7?"))
    assert "84" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    assert answer.model_extra is not None
    assert answer.model_extra["modelpilot"]["routerId"] == "demo"


async def test_openai_stream(oai: openai.AsyncOpenAI) -> None:
    """Chunks parse, the usage comes when asked for, and the last one has our object."""
    stream = await oai.chat.completions.create(
        model="sim/small", messages=said("What is 12 * 7?"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "84" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage is not None
    assert (chunks[-1].model_extra or {})["modelpilot"]["selectedModel"] == "sim/small"


@pytest.mark.parametrize("streamed", [False, True])
async def test_openai_tools_round_trip(oai: openai.AsyncOpenAI, streamed: bool) -> None:
    """Parallel calls come out, their results go back in by id, and text comes out."""
    messages = said(QUESTION)
    request: dict[str, Any] = {"model": "router/demo", "messages": messages, "tools": functions()}
    if streamed:
        async with oai.chat.completions.stream(**request) as stream:
            message: Any = (await stream.get_final_completion()).choices[0].message
    else:
        message = (await oai.chat.completions.create(**request)).choices[0].message
    calls = message.tool_calls or []
    assert [call.function.name for call in calls] == list(NAMES)
    assert all("city" in json.loads(call.function.arguments) for call in calls)
    messages.append(message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "12"} for call in calls]
    answer = await oai.chat.completions.create(**request)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) != (None, "tool_calls")


@pytest.mark.parametrize("url", [f"data:image/png;base64,{PIXEL}", IMAGE_URL], ids=["base64", "url"])
async def test_openai_vision(world: World, oai: openai.AsyncOpenAI, url: str) -> None:
    """Images are passed on, by value and by address; nothing is fetched by us (the address does not exist)."""
    parts: Any = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = await oai.chat.completions.create(model="router/demo", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens >= 85  # what the simulator counts for an image


async def test_openai_structured_output(oai: openai.AsyncOpenAI) -> None:
    """`parse` with a pydantic model: the schema reaches the provider, the answer fits."""
    answer = await oai.chat.completions.parse(
        model="router/demo", messages=said("A city, please"), response_format=City
    )
    assert isinstance(answer.choices[0].message.parsed, City)


async def test_openai_embeddings(oai: openai.AsyncOpenAI) -> None:
    """Vectors in order, in the base64 encoding that the SDK asks for by itself."""
    answer = await oai.embeddings.create(model="sim/embed", input=["a red house", "a red house", "tax law"])
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert len(answer.data[0].embedding) == 256
    assert answer.data[0].embedding == answer.data[1].embedding != answer.data[2].embedding
    assert (answer.model_extra or {})["modelpilot"]["costUsd"] > 0
    short = await oai.embeddings.create(model="sim/embed", input="x", dimensions=8, encoding_format="float")
    assert len(short.data[0].embedding) == 8


async def test_openai_embeddings_errors(client: aiohttp.ClientSession, oai: openai.AsyncOpenAI) -> None:
    """A chat model is no embeddings model; an unknown one is a 404; a provider's failure is a 502."""
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await oai.embeddings.create(model="sim/small", input="x")
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        await oai.embeddings.create(model="sim/nothing", input="x")
    with pytest.raises(openai.UnprocessableEntityError):
        await oai.embeddings.create(model="sim/embed", input=[])
    await put_model(client, "own/embed-503", "embed+fail503", capabilities=["embeddings"])
    with pytest.raises(openai.InternalServerError) as failed:
        await oai.embeddings.create(model="own/embed-503", input="x")
    assert failed.value.status_code == 502


async def test_openai_errors(world: World, client: aiohttp.ClientSession, oai: openai.AsyncOpenAI) -> None:
    """Each of our errors is the SDK's own exception for it, with our code and field."""
    ask = oai.chat.completions.create
    with pytest.raises(openai.AuthenticationError):
        await oai.with_options(api_key="wrong").chat.completions.create(model="router/demo", messages=said("x"))
    with pytest.raises(openai.NotFoundError):
        await ask(model="router/nothing", messages=said("x"))
    with pytest.raises(openai.NotFoundError):
        await ask(model="nothing", messages=said("x"))
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await ask(model="router/demo", messages=said("x"), temperature=9)
    assert (caught.value.param, caught.value.code) == ("temperature", "invalid_request")
    await put_failing(client, "sdk-503", "small+fail503")
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(model="router/sdk-503", messages=said("always fails"))
    assert (failed.value.status_code, failed.value.code) == (502, "provider_failed")


async def test_openai_stream_that_fails(client: aiohttp.ClientSession, oai: openai.AsyncOpenAI) -> None:
    """A stream that ends in an error raises; it never looks like a short answer."""
    await put_failing(client, "sdk-cut", "small+streamerror5")
    stream = await oai.chat.completions.create(model="router/sdk-cut", messages=said("cut me off"), stream=True)
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass


async def test_openai_retries_join_the_running_request(world: World, client: aiohttp.ClientSession) -> None:
    """The connection breaks unnoticed by us while the provider works: the SDK's own retry gets the same request's
    answer, and the provider is called once."""
    await put_model(client, "own/sdk-slow", "small+latency3000")
    await put_router(client, "sdk-slow", ["own/sdk-slow"])
    with world.gateway() as running:
        async with (
            client_relay(running.url) as relay,
            openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key=world.admin_key) as sdk,
        ):
            asking = asyncio.create_task(
                sdk.chat.completions.create(model="router/sdk-slow", messages=said("slow sdk retry"))
            )

            async def called() -> bool:
                return bool((await world.provider_calls("slow sdk retry"))["total"])

            await eventually(called, "the provider was not called")
            relay.lose_clients()
            answer = await asking
            assert answer.choices[0].message.content
            assert relay.connections > 1
    assert (await world.provider_calls("slow sdk retry"))["total"] == 1


async def test_anthropic_message(claude: anthropic.AsyncAnthropic) -> None:
    """A Message parses, with text, stop reason, counts and our object; the system prompt is accepted."""
    answer = await claude.messages.create(
        model="router/demo", max_tokens=200, system="Be brief", messages=said("What is 12 * 7?")
    )
    assert "84" in answer.content[0].text  # type: ignore[union-attr]
    assert (answer.type, answer.stop_reason) == ("message", "end_turn")
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    described = (answer.model_extra or {})["modelpilot"]
    assert described["workflowId"] == f"route/admin/{described['requestId']}"
    assert answer._request_id == described["requestId"]


async def test_anthropic_request_is_recorded_like_any_other(
    client: aiohttp.ClientSession, claude: anthropic.AsyncAnthropic
) -> None:
    """The same row: `GET /v1/requests/{id}` has the answer in OpenAI's shape."""
    answer = await claude.messages.create(model="sim/small", max_tokens=200, messages=said("Name a river"))
    request_id = (answer.model_extra or {})["modelpilot"]["requestId"]

    async def stored() -> Any:
        async with client.get(f"/v1/requests/{request_id}") as response:
            view = await response.json()
            return view if view.get("status") == "completed" else None

    view = await eventually(stored, "the row did not appear")
    assert view["answer"]["choices"][0]["message"]["content"] == answer.content[0].text  # type: ignore[union-attr]


async def test_anthropic_stream(claude: anthropic.AsyncAnthropic) -> None:
    """The SDK puts our events together; our object is on `message_delta`."""
    async with claude.messages.stream(model="router/demo", max_tokens=200, messages=said("What is 12 * 7?")) as stream:
        events = [event async for event in stream]
        message = await stream.get_final_message()
    assert "84" in message.content[0].text  # type: ignore[union-attr]
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0
    ended: Any = next(event for event in events if event.type == "message_delta")
    assert ended.model_extra["modelpilot"]["routerId"] == "demo"


@pytest.mark.parametrize("streamed", [False, True])
async def test_anthropic_tools_round_trip(claude: anthropic.AsyncAnthropic, streamed: bool) -> None:
    """Parallel calls come out, their results go back in by id, and text comes out."""
    messages = said(QUESTION)
    request: dict[str, Any] = {"model": "router/demo", "max_tokens": 300, "messages": messages, "tools": tools()}
    if streamed:
        async with claude.messages.stream(**request) as stream:
            message: Any = await stream.get_final_message()
    else:
        message = await claude.messages.create(**request)
    assert message.stop_reason == "tool_use"
    uses = [block for block in message.content if block.type == "tool_use"]
    assert [use.name for use in uses] == list(NAMES)
    assert all("city" in use.input for use in uses)
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "12"} for use in uses]
    messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    answer = await claude.messages.create(**request)
    assert answer.stop_reason == "end_turn"
    assert answer.content[0].text


@pytest.mark.parametrize(
    "source",
    [{"type": "base64", "media_type": "image/png", "data": PIXEL}, {"type": "url", "url": IMAGE_URL}],
    ids=["base64", "url"],
)
async def test_anthropic_vision(claude: anthropic.AsyncAnthropic, source: Any) -> None:
    """Images are passed on, by value and by address."""
    blocks: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    answer = await claude.messages.create(
        model="router/demo", max_tokens=100, messages=[{"role": "user", "content": blocks}]
    )
    assert answer.usage.input_tokens >= 85


async def test_anthropic_errors(world: World, client: aiohttp.ClientSession, claude: anthropic.AsyncAnthropic) -> None:
    """Each of our errors is the SDK's own exception for it, in Anthropic's envelope."""
    ask = claude.messages.create
    with pytest.raises(anthropic.AuthenticationError) as refused:
        await claude.with_options(api_key="wrong").messages.create(model="m", max_tokens=1, messages=said("x"))
    assert refused.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
    with pytest.raises(anthropic.NotFoundError) as unknown:
        await ask(model="router/nothing", max_tokens=1, messages=said("x"))
    body: Any = unknown.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert body["request_id"]
    search: Any = [{"type": "web_search_20250305", "name": "web_search"}]
    with pytest.raises(anthropic.UnprocessableEntityError, match=r"tools\[0\].type"):
        await ask(model="router/demo", max_tokens=1, messages=said("x"), tools=search)
    with pytest.raises(anthropic.UnprocessableEntityError, match="max_tokens"):
        await ask(model="router/demo", max_tokens=0, messages=said("x"))
    await put_failing(client, "claude-503", "small+fail503")
    with pytest.raises(anthropic.InternalServerError) as failed:
        await ask(model="router/claude-503", max_tokens=9, messages=said("always fails here"))
    assert failed.value.status_code == 502


async def test_anthropic_stream_that_fails(client: aiohttp.ClientSession, claude: anthropic.AsyncAnthropic) -> None:
    """A stream that ends in an error raises; it never looks like a short answer."""
    await put_failing(client, "claude-cut", "small+streamerror5")
    with pytest.raises(anthropic.APIError):
        async with claude.messages.stream(
            model="router/claude-cut", max_tokens=200, messages=said("cut me off too")
        ) as stream:
            await stream.get_final_message()
