"""Streams in Anthropic's format over HTTP: named events, signs of life, and an end that says what happened."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from api.gateway.receive import Submission
from api.routes.messages import MessagesStream
from modelpilot.wire.anthropic_front_answer import MessageEncoder
from tests.support.core import A, Client, Core, failure, streaming
from tests.support.routing_samples import stream

WORDS = stream("one two three")
KEEP_ALIVE_S = 0.01  # pings may come anywhere in between


@pytest.fixture
async def client(core: Core) -> AsyncIterator[Client]:
    """An HTTP client of it; every request is the same streamed one."""

    def made(request: web.Request, core: Core, submission: Submission) -> MessagesStream:
        encoder = MessageEncoder(with_thinking=False)
        return MessagesStream(request, core.submissions, submission, encoder=encoder, keep_alive_s=KEEP_ALIVE_S)

    async with streaming(core, made) as client:
        yield client


def read(text: str) -> list[dict[str, Any]]:
    """The data of all events; each event has the name that its data says."""
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


async def test_a_whole_stream_has_our_object_at_its_end(client: Client) -> None:
    """The events of a Message in their order, the object on `message_delta`, and no `[DONE]`."""
    events = read(await (await client.post("/")).text())
    assert [events[0]["type"], events[-2]["type"], events[-1]["type"]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert events[-2]["modelpilot"]["selectedModel"] == "sim/a"
    assert events[-2]["usage"]["output_tokens"] == 5


async def test_silence_is_filled_with_pings(client: Client, core: Core) -> None:
    """Anthropic's SDKs skip pings; proxies see that the connection lives."""
    gate = asyncio.Event()
    core.providers.will(A, [*WORDS[:2], gate, *WORDS[2:]])
    response = await client.post("/")
    await response.content.readuntil(b'event: ping\ndata: {"type":"ping"}\n\n')
    gate.set()
    assert b"message_stop" in await response.read()


async def test_a_cut_stream_ends_in_an_error_event(client: Client, core: Core) -> None:
    """Without `message_stop`, in Anthropic's envelope, with the request's id and the attempts."""
    core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    events = read(await (await client.post("/")).text())
    last = events[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert last["request_id"] == last["modelpilot"]["requestId"]
    assert last["error"]["attempts"][-1]["errorType"] == "stream_cut"
    assert "message_stop" not in [event["type"] for event in events]
