"""The simulator's wire formats, over real HTTP, with the official SDKs as oracles."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from simulator.server import running
from simulator.state import SimulatorConfig

pytestmark = pytest.mark.asyncio

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
SUM = [{"role": "user", "content": "What is 12 * 7?"}]
ASK = [{"role": "user", "content": "Explain how a router picks a model"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
TWO_CITIES = [{"role": "user", "content": "What is the weather in Paris and Rome?"}]


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """A simulator that answers at once, on a real port."""
    async with running(SimulatorConfig(latency_ms=0)) as base:
        yield base


@pytest_asyncio.fixture
async def oai(url: str) -> AsyncIterator[Any]:
    """The stock OpenAI client (untyped here: the tests send what a type checker would refuse)."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def claude(url: str) -> AsyncIterator[Any]:
    """The stock Anthropic client."""
    async with anthropic.AsyncAnthropic(base_url=url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client."""
    async with aiohttp.ClientSession(url) as session:
        yield session


async def test_openai_answer(oai: Any) -> None:
    """A whole answer has the text, the finish reason and a consistent usage."""
    answer = await oai.chat.completions.create(model="small", messages=SUM)
    assert answer.choices[0].message.content == "12 * 7 = 84."
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "small")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 5, 10)


@pytest.mark.parametrize("model", ["small", "gpt-4"])
async def test_openai_stream_equals_answer(oai: Any, model: str) -> None:
    """The stream adds up to the whole answer; usage comes last and only if asked for; any model name works."""
    whole = await oai.chat.completions.create(model=model, messages=ASK, seed=3)
    for options in ({}, {"stream_options": {"include_usage": True}}):
        stream = await oai.chat.completions.create(model=model, messages=ASK, seed=3, stream=True, **options)
        chunks = [chunk async for chunk in stream]
        told = [chunk.usage for chunk in chunks if chunk.usage]
        assert told == ([whole.usage] if options else [])
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


async def test_openai_choices(oai: Any) -> None:
    """`n` choices are streamed interleaved and add up to those of the whole answer."""
    whole = await oai.chat.completions.create(model="small", messages=ASK, n=3)
    texts: defaultdict[int, str] = defaultdict(str)
    async for chunk in await oai.chat.completions.create(model="small", messages=ASK, n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert [texts[index] for index in range(3)] == [choice.message.content for choice in whole.choices]
    assert len(set(texts.values())) == 3


async def test_openai_parallel_tools(oai: Any) -> None:
    """Parallel tool calls are whole in the answer and come in argument deltas in the stream."""
    whole = await oai.chat.completions.create(model="small", messages=TWO_CITIES, tools=TOOLS)
    calls = whole.choices[0].message.tool_calls
    assert whole.choices[0].finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    async with oai.chat.completions.stream(model="small", messages=TWO_CITIES, tools=TOOLS) as stream:
        deltas = [event async for event in stream if event.type == "tool_calls.function.arguments.delta"]
        final = await stream.get_final_completion()
    streamed = final.choices[0].message.tool_calls
    assert [(call.id, call.function.arguments) for call in streamed] == [
        (call.id, call.function.arguments) for call in calls
    ]
    assert len(deltas) > 2


async def test_openai_answers_after_a_tool_result(oai: Any) -> None:
    """Once the tool has answered, the model says what came back."""
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "get_weather"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    answer = await oai.chat.completions.create(model="small", messages=messages, tools=TOOLS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == "get_weather returned sunny"


class Place(BaseModel):
    """What the structured answer must look like."""

    city: str
    people: int
    tags: list[str]


async def test_openai_structured_output(oai: Any) -> None:
    """`json_schema` answers satisfy the schema, `json_object` answers are JSON objects."""
    parsed = await oai.chat.completions.parse(model="small", messages=ASK, response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)
    loose = await oai.chat.completions.create(model="small", messages=ASK, response_format={"type": "json_object"})
    assert "answer" in json.loads(loose.choices[0].message.content)


async def test_openai_limits(oai: Any) -> None:
    """`max_tokens`, `max_completion_tokens` and `stop` end the answer with the right reason."""
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = await oai.chat.completions.create(model="small", messages=ASK, **limit)
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)
    answer = await oai.chat.completions.create(model="small", messages=SUM, stop=["= "])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("12 * 7 ", "stop")


async def test_openai_logprobs(oai: Any) -> None:
    """Log probabilities come for every token, streamed or not, with the alternatives that were asked for."""
    asked = {"model": "small", "messages": SUM, "logprobs": True, "top_logprobs": 2}
    whole = (await oai.chat.completions.create(**asked)).choices[0].logprobs.content
    assert "".join(each.token for each in whole) == "12 * 7 = 84."
    assert all(len(each.top_logprobs) == 2 and each.logprob < 0 for each in whole)
    stream = await oai.chat.completions.create(**asked, stream=True)
    parts = [chunk.choices[0].logprobs async for chunk in stream]
    assert [each for part in parts if part for each in part.content] == whole


async def test_openai_vision_and_unknown_fields(oai: Any) -> None:
    """Image parts and fields nobody knows are accepted; an image costs tokens."""
    parts = [
        {"type": "text", "text": "What is 12 * 7?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    answer = await oai.chat.completions.create(
        model="small", messages=[{"role": "user", "content": parts}], extra_body={"brand_new": {"field": 1}}
    )
    assert (answer.choices[0].message.content, answer.usage.prompt_tokens) == ("12 * 7 = 84.", 90)


async def test_repeated_prefixes_are_counted_as_cached(oai: Any, http: aiohttp.ClientSession) -> None:
    """A long prompt that comes again, with more behind it, is read from the cache; another key has its own."""
    long = {"role": "user", "content": "handbook " * 1_500}
    counts = []
    for turns in ([long], [long, {"role": "assistant", "content": "ok"}, *SUM]):
        usage = (await oai.chat.completions.create(model="large", messages=turns)).usage
        counts.append(usage.prompt_tokens_details.cached_tokens)
    assert counts == [0, 1_408]
    other = oai.with_options(api_key="sk-other")
    usage = (await other.chat.completions.create(model="large", messages=[long])).usage
    assert usage.prompt_tokens_details.cached_tokens == 0
    body = {"contents": [{"role": "user", "parts": [{"text": long["content"]}]}]}
    found = [(await _gemini(http, "generateContent", body, "large"))[1]["usageMetadata"] for _ in range(2)]
    assert [usage.get("cachedContentTokenCount") for usage in found] == [None, 1_408]


async def test_content_beside_tool_calls_is_null(oai: Any) -> None:
    """As at OpenAI, whole and streamed: some clients take an empty text for an answer."""
    asked = {"model": "small", "messages": TWO_CITIES, "tools": TOOLS}
    whole = await oai.chat.completions.create(**asked)
    assert whole.choices[0].message.content is None
    chunks = [chunk async for chunk in await oai.chat.completions.create(**asked, stream=True)]
    assert chunks[0].choices[0].delta.content is None


async def test_tools_and_results_in_every_dialect(claude: Any, http: aiohttp.ClientSession) -> None:
    """A step after the other, until the text states what came back, at Anthropic's and Gemini's endpoints as well."""
    task = 'call get_weather {"city": "Oslo"}\nReply with exactly: done'
    tools = [{"name": "get_weather", "input_schema": PARAMETERS}]
    asked: list[Any] = [{"role": "user", "content": [{"type": "text", "text": task}]}]
    first = await claude.messages.create(model="small", max_tokens=99, messages=asked, tools=tools)
    use = first.content[0]
    assert (use.name, use.input) == ("get_weather", {"city": "Oslo"})
    reminder = {"type": "text", "text": "<system-reminder>Be kind</system-reminder>"}
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "12 degrees"}]}
    asked += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result, reminder]}]
    assert (await claude.messages.create(model="small", max_tokens=99, messages=asked, tools=tools)).content[
        0
    ].text == ("done")
    declared = {"name": "get_weather", "parameters": PARAMETERS}
    turns = [{"role": "user", "parts": [{"text": "Weather in Rome?"}]}]
    body = {"contents": turns, "tools": [{"functionDeclarations": [declared]}]}
    _, called = await _gemini(http, "generateContent", body)
    turns += [called["candidates"][0]["content"]]
    answer = {"name": "get_weather", "response": {"result": "20 degrees"}}
    turns += [{"role": "user", "parts": [{"functionResponse": answer}]}]
    _, last = await _gemini(http, "generateContent", body)
    assert last["candidates"][0]["content"]["parts"] == [{"text": "get_weather returned 20 degrees"}]


async def test_refusals_in_each_envelope(oai: Any, claude: Any, http: aiohttp.ClientSession) -> None:
    """The SDKs raise what they raise for the real providers; the log shows the refused call."""
    with pytest.raises(openai.BadRequestError) as caught:
        await oai.chat.completions.create(model="small", messages=SUM, tool_choice="auto")
    assert (caught.value.param, caught.value.type) == ("tool_choice", "invalid_request_error")
    with pytest.raises(anthropic.BadRequestError, match=r"range: 0\.\.1"):
        await claude.messages.create(model="small", max_tokens=9, messages=SUM, extra_body={"temperature": 2})
    body = {"contents": [{"role": "robot", "parts": [{"text": "x"}]}]}
    status, error = await _gemini(http, "generateContent", body)
    assert (status, error["error"]["status"]) == (400, "INVALID_ARGUMENT")
    async with http.get("/_sim/calls", params={"tag": "12 * 7", "outcome": "failed"}) as seen:
        assert (await seen.json())["counts"]["total"] == 2


async def test_echo_is_byte_exact(oai: Any) -> None:
    """What tests ask to be repeated comes back exactly, streamed too."""
    text = "\u05e9\u05dc\u05d5\u05dd \U0001f600\u0000 <b> \"q\" \\ 'x'\n\n  end "
    messages = [{"role": "user", "content": f"Reply with exactly: {text}"}]
    stream = await oai.chat.completions.create(model="small", messages=messages, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text


async def test_openai_embeddings(oai: Any) -> None:
    """Embeddings work in the SDK's own base64 and in floats, and have the asked dimensions."""
    packed = await oai.embeddings.create(model="small", input=["reset my password", "hello"], dimensions=64)
    plain = await oai.embeddings.create(
        model="small", input="reset my password", dimensions=64, encoding_format="float"
    )
    assert [len(item.embedding) for item in packed.data] == [64, 64]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.usage.prompt_tokens == 4
    with pytest.raises(openai.BadRequestError):
        await oai.embeddings.create(model="small", input=[])


async def test_models_and_health(oai: Any, http: aiohttp.ClientSession) -> None:
    """The list names the models with their prices; the health check answers."""
    listed = {model.id: model.model_extra async for model in oai.models.list()}
    assert list(listed) == ["small", "medium", "large"]
    assert listed["small"]["costPerInputToken"] < listed["large"]["costPerInputToken"]
    assert (await oai.models.retrieve("openai/gpt-4")).id == "openai/gpt-4"
    async with http.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_anthropic_answer_and_stream(claude: Any) -> None:
    """A message, and the same message from its stream of events."""
    asked = {"model": "small", "max_tokens": 200, "messages": ASK, "system": "Be brief"}
    whole = await claude.messages.create(**asked)
    assert (whole.stop_reason, whole.usage.input_tokens) == ("end_turn", 9)
    async with claude.messages.stream(**asked) as stream:
        final = await stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)
    names = [event.type async for event in await claude.messages.create(**asked, stream=True)]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_anthropic_tools(claude: Any) -> None:
    """Tool use blocks, whole and from input JSON deltas."""
    tools = [{"name": "get_weather", "input_schema": PARAMETERS}]
    asked = {"model": "small", "max_tokens": 200, "messages": TWO_CITIES, "tools": tools}
    whole = await claude.messages.create(**asked)
    assert whole.stop_reason == "tool_use"
    assert [block.input for block in whole.content] == [{"city": "Paris"}, {"city": "Rome"}]
    async with claude.messages.stream(**asked) as stream:
        final = await stream.get_final_message()
    assert [(block.id, block.input) for block in final.content] == [(block.id, block.input) for block in whole.content]


async def test_anthropic_stop_and_length(claude: Any) -> None:
    """Stop sequences and the token limit have their own reasons."""
    stopped = await claude.messages.create(model="small", max_tokens=99, messages=SUM, stop_sequences=["="])
    assert (stopped.stop_reason, stopped.stop_sequence, stopped.content[0].text) == ("stop_sequence", "=", "12 * 7 ")
    cut = await claude.messages.create(model="small", max_tokens=2, messages=SUM)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)


async def test_anthropic_errors(claude: Any, http: aiohttp.ClientSession) -> None:
    """Errors come in Anthropic's envelope; a missing `max_tokens` is one."""
    with pytest.raises(anthropic.RateLimitError) as caught:
        await claude.messages.create(model="small+429+retryafter2", max_tokens=9, messages=SUM)
    assert caught.value.response.json()["error"]["type"] == "rate_limit_error"
    assert caught.value.response.headers["retry-after"] == "2"
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        await claude.messages.create(model="small+529", max_tokens=9, messages=SUM)
    assert overloaded.value.response.json()["error"]["type"] == "overloaded_error"
    assert overloaded.value.status_code == 529
    async with http.post("/v1/messages", json={"model": "small", "messages": SUM}) as answer:
        assert (answer.status, (await answer.json())["error"]["message"]) == (400, "max_tokens: Field required")


async def _gemini(http: aiohttp.ClientSession, method: str, body: Any, model: str = "small") -> tuple[int, Any]:
    async with http.post(f"/v1beta/models/{model}:{method}", json=body) as answer:
        if answer.content_type != "text/event-stream":
            return answer.status, await answer.json()
        lines = (await answer.text()).split("\n\n")
        return answer.status, [json.loads(line.removeprefix("data: ")) for line in lines if line]


async def test_gemini_answer_and_stream(http: aiohttp.ClientSession) -> None:
    """A generateContent answer, and the same text from its stream."""
    body = {"contents": [{"role": "user", "parts": [{"text": "What is 12 * 7?"}]}]}
    status, whole = await _gemini(http, "generateContent", body)
    candidate = whole["candidates"][0]
    assert (status, candidate["content"]["parts"], candidate["finishReason"]) == (
        200,
        [{"text": "12 * 7 = 84."}],
        "STOP",
    )
    _, chunks = await _gemini(http, "streamGenerateContent?alt=sse", body)
    parts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks]
    assert "".join(parts) == "12 * 7 = 84."
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    assert chunks[-1]["usageMetadata"] == whole["usageMetadata"]


async def test_gemini_tools_schema_and_errors(http: aiohttp.ClientSession) -> None:
    """Function calls, schemas in Gemini's spelling, limits, and Gemini's error envelope."""
    contents = [{"parts": [{"text": "Weather in Paris"}]}]
    declared = {"name": "get_weather", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}
    _, called = await _gemini(
        http, "generateContent", {"contents": contents, "tools": [{"functionDeclarations": [declared]}]}
    )
    assert called["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == {"city": "Paris"}
    config = {"responseMimeType": "application/json", "responseSchema": declared["parameters"]}
    _, shaped = await _gemini(http, "generateContent", {"contents": contents, "generationConfig": config})
    assert json.loads(shaped["candidates"][0]["content"]["parts"][0]["text"]) == {"city": "Paris"}
    limited = {"contents": contents, "generationConfig": {"maxOutputTokens": 2}}
    _, cut = await _gemini(http, "generateContent", limited)
    assert cut["candidates"][0]["finishReason"] == "MAX_TOKENS"
    status, error = await _gemini(http, "generateContent", {"contents": contents}, model="small+fail503")
    assert (status, error["error"]["status"]) == (503, "UNAVAILABLE")
    status, error = await _gemini(http, "streamGenerateContent", {"contents": contents})
    assert (status, error["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"model": "small"}', b'{"model": 5, "messages": []}', b"[" * 99999]
)
async def test_bad_bodies_are_400(http: aiohttp.ClientSession, raw: bytes) -> None:
    """A broken body is a client's error in every dialect, and is logged as one."""
    paths = ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1beta/models/small:generateContent"]
    for path in paths:
        async with http.post(path, data=raw) as answer:
            assert (answer.status, answer.content_type) == (400, "application/json")
    async with http.get("/_sim/calls") as seen:
        assert (await seen.json())["counts"]["failed"] == len(paths)
