"""What an application does with OpenAI's SDK."""

import json
from typing import Any

import openai
from pydantic import BaseModel

from tests.sdk_scenarios.site import IMAGE_TOKENS, IMAGE_URL, NAMES, PIXEL, QUESTION, Site, functions, said


class City(BaseModel):
    """The shape of a structured answer."""

    city: str


def sdk(site: Site) -> openai.AsyncOpenAI:
    """The SDK without retries of its own."""
    return openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key=site.admin_key, max_retries=0)


async def chat(site: Site) -> None:
    """A completion parses, and our object is an extra field of it."""
    async with sdk(site) as client:
        answer = await client.chat.completions.create(model="router/demo", messages=said("What is 12 * 7?"))
    assert "84" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    assert (answer.model_extra or {})["modelpilot"]["routerId"] == "demo"


async def stream(site: Site) -> None:
    """Chunks parse, the usage comes when asked for, and the last one has our object."""
    async with sdk(site) as client:
        stream = await client.chat.completions.create(
            model="sim/small",
            messages=said("What is 12 * 7?"),
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert "84" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage is not None
    assert (chunks[-1].model_extra or {})["modelpilot"]["selectedModel"] == "sim/small"


async def tools_round_trip(site: Site) -> None:
    """Parallel calls come out, their results go back in by id, and text comes out."""
    await _round_trip(site, streamed=False)


async def streamed_tools_round_trip(site: Site) -> None:
    """The same with the calls put together by the SDK from deltas."""
    await _round_trip(site, streamed=True)


async def _round_trip(site: Site, *, streamed: bool) -> None:
    messages = said(QUESTION)
    request: dict[str, Any] = {"model": "router/demo", "messages": messages, "tools": functions()}
    async with sdk(site) as client:
        if streamed:
            async with client.chat.completions.stream(**request) as stream:
                message: Any = (await stream.get_final_completion()).choices[0].message
        else:
            message = (await client.chat.completions.create(**request)).choices[0].message
        calls = message.tool_calls or []
        assert [call.function.name for call in calls] == list(NAMES)
        assert all("city" in json.loads(call.function.arguments) for call in calls)
        messages.append(message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "12"} for call in calls]
        answer = await client.chat.completions.create(**request)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


async def text_completion(site: Site) -> None:
    """The old shape: one text or several, with the prompt before it and its tokens' probabilities."""
    questions = ["What is 12 * 7?", "What is 3 * 3?"]
    async with sdk(site) as client:
        one = await client.completions.create(model="router/demo", prompt=questions[0], echo=True, logprobs=1)
        both = await client.completions.create(model="sim/small", prompt=questions, n=2, max_tokens=50)
    assert one.choices[0].text.startswith(questions[0])
    assert "84" in one.choices[0].text
    assert one.choices[0].logprobs is not None
    assert one.choices[0].logprobs.text_offset[0] == len(questions[0])  # type: ignore[index]
    assert (one.model_extra or {})["modelpilot"]["routerId"] == "demo"
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert all(("84", "9")[choice.index // 2] in choice.text for choice in both.choices)
    assert both.usage is not None
    assert both.usage.total_tokens == both.usage.prompt_tokens + both.usage.completion_tokens
    assert len((both.model_extra or {})["modelpilot"]["requests"]) == 2


async def streamed_text_completion(site: Site) -> None:
    """Texts add up, the last chunk has our object and, when asked for, the usage."""
    async with sdk(site) as client:
        stream = await client.completions.create(
            model="router/demo", prompt="What is 12 * 7?", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "84" in "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert (chunks[-1].model_extra or {})["modelpilot"]["routerId"] == "demo"


async def vision(site: Site) -> None:
    """Images are passed on, by value and by address; nothing is fetched by us (the address does not exist)."""
    for url in (f"data:image/png;base64,{PIXEL}", IMAGE_URL):
        parts: Any = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        async with sdk(site) as client:
            answer = await client.chat.completions.create(
                model="router/demo", messages=[{"role": "user", "content": parts}]
            )
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.prompt_tokens >= IMAGE_TOKENS


async def structured_output(site: Site) -> None:
    """`parse` with a pydantic model: the schema reaches the provider, the answer fits."""
    async with sdk(site) as client:
        answer = await client.chat.completions.parse(
            model="router/demo", messages=said("A city, please"), response_format=City
        )
    assert isinstance(answer.choices[0].message.parsed, City)


async def embeddings(site: Site) -> None:
    """Vectors in order, in the base64 encoding that the SDK asks for by itself."""
    async with sdk(site) as client:
        answer = await client.embeddings.create(model="sim/embed", input=["a red house", "a red house", "tax law"])
        short = await client.embeddings.create(model="sim/embed", input="x", dimensions=8, encoding_format="float")
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert len(answer.data[0].embedding) == 256
    assert answer.data[0].embedding == answer.data[1].embedding != answer.data[2].embedding
    assert (answer.model_extra or {})["modelpilot"]["costUsd"] > 0
    assert len(short.data[0].embedding) == 8


async def models(site: Site) -> None:
    """The catalogue and the routers, in OpenAI's shape."""
    async with sdk(site) as client:
        found = {model.id async for model in client.models.list()}
        one = await client.models.retrieve("sim/small")
    assert {"router/demo", "sim/small", "openai/text-embedding-3-small"} <= found
    assert one.id == "sim/small"


SCENARIOS = (
    chat,
    stream,
    tools_round_trip,
    streamed_tools_round_trip,
    text_completion,
    streamed_text_completion,
    vision,
    structured_output,
    embeddings,
    models,
)
