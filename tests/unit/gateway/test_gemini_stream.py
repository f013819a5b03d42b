"""Streams in Google's format over HTTP: as events and as an array, and an end that says what happened."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from api.gateway.receive import Submission
from api.routes.gemini import ArrayStream, EventStream
from modelpilot.wire.gemini_front_answer import ResponseEncoder
from tests.support.core import A, Client, Core, failure, streaming
from tests.support.routing_samples import stream

WORDS = stream("one two three")
KEEP_ALIVE_S = 0.01


@pytest.fixture
async def client(core: Core) -> AsyncIterator[Client]:
    """An HTTP client of it; every request is the same streamed one."""

    def made(request: web.Request, core: Core, submission: Submission) -> EventStream | ArrayStream:
        kind = EventStream if request.query.get("alt") == "sse" else ArrayStream
        encoder = ResponseEncoder(with_thoughts=False)
        return kind(request, core.submissions, submission, encoder=encoder, keep_alive_s=KEEP_ALIVE_S)

    async with streaming(core, made) as client:
        yield client


async def responses(client: Client, query: str) -> list[dict[str, Any]]:
    """All responses of a stream, read as its clients read it."""
    answer = await client.post(f"/{query}")
    text = await answer.text()
    if not query:
        assert answer.content_type == "application/json"
        made: list[dict[str, Any]] = json.loads(text)
        return made
    assert answer.content_type == "text/event-stream"
    lines = [line for line in text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("query", ["", "?alt=sse"])
async def test_a_whole_stream_has_our_object_at_its_end(client: Client, core: Core, query: str) -> None:
    """Text as it comes; reason, counts and our object with the last response."""
    core.providers.will(A, [*WORDS])
    *some, last = await responses(client, query)
    texts = [each["candidates"][0]["content"]["parts"][0]["text"] for each in (*some, last)]
    assert "".join(texts) == "one two three"
    assert len(texts) > 2
    assert (last["candidates"][0]["finishReason"], last["usageMetadata"]["candidatesTokenCount"]) == ("STOP", 5)
    assert last["modelpilot"]["selectedModel"] == "sim/a"
    assert {each["responseId"] for each in some} == {last["responseId"]}


@pytest.mark.parametrize("query", ["", "?alt=sse"])
async def test_a_cut_stream_ends_in_an_error(client: Client, core: Core, query: str) -> None:
    """In Google's envelope, first of its object, as google-genai looks for it; and the array is closed."""
    core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    *_, last = await responses(client, query)
    assert next(iter(last)) == "error"
    assert (last["error"]["code"], last["error"]["status"]) == (502, "UNAVAILABLE")
    assert last["error"]["details"][-1]["attempts"][-1]["errorType"] == "stream_cut"
    assert last["modelpilot"]["requestId"]


@pytest.mark.parametrize("query", ["", "?alt=sse"])
async def test_silence_is_filled_with_empty_lines(client: Client, core: Core, query: str) -> None:
    """Whatever reads the stream skips them."""
    gate = asyncio.Event()
    core.providers.will(A, [*WORDS[:2], gate, *WORDS[2:]])
    response = await client.post(f"/{query}")
    await response.content.readuntil(b"\n\n\n" if query else b"}\n\n")
    gate.set()
    assert b"STOP" in await response.read()
