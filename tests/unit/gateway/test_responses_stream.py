"""Streams in OpenAI's Responses format over HTTP: named events, and an end that says what happened."""

import json
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
from aiohttp import web

from api.gateway.receive import Submission
from api.routes.responses import Exchange, ResponsesStream
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.records import RequestKey
from modelpilot.wire.responses_chain import KeptResponse
from modelpilot.wire.responses_front_answer import Asked
from modelpilot.wire.responses_stream import ResponseEncoder
from modelpilot.wire.responses_tools import Toolbox
from tests.support.core import A, Client, Core, failure, streaming
from tests.support.routing_samples import stream

WORDS = stream("one two three")


@pytest.fixture
async def client(core: Core) -> AsyncIterator[Client]:
    """An HTTP client of it; every request is the same streamed one."""

    def made(request: web.Request, core: Core, submission: Submission) -> ResponsesStream:
        encoder = ResponseEncoder(Asked(submission.key.request_id, {"model": "router/a"}, 0, lambda kept: ""))
        return ResponsesStream(request, core.submissions, submission, encoder=encoder)

    async with streaming(core, made) as client:
        yield client


def read(text: str) -> list[dict[str, Any]]:
    """The data of all events but `[DONE]`; each event has the name that its data says."""
    events = []
    for block in text.strip().split("\n\n"):
        if block == "data: [DONE]":
            continue
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


async def test_a_whole_stream_ends_with_the_response_and_our_object(client: Client) -> None:
    """`response.completed` has all of it, then `[DONE]`; the id is that of the request."""
    text = await (await client.post("/")).text()
    assert text.endswith("data: [DONE]\n\n")
    events = read(text)
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    response = events[-1]["response"]
    assert response["id"] == f"resp_{response['modelpilot']['requestId']}"
    assert response["modelpilot"]["selectedModel"] == "sim/a"
    assert response["output"][0]["content"][0]["text"] == "Hello there"


async def test_a_cut_stream_ends_in_an_error_and_a_failed_response(client: Client, core: Core) -> None:
    """In that order, without `[DONE]`, with the attempts."""
    core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    text = await (await client.post("/")).text()
    events = read(text)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["modelpilot"]["attempts"][-1]["errorType"] == "stream_cut"
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert "[DONE]" not in text


async def test_without_the_database_the_answer_says_that_it_is_not_kept() -> None:
    """It was paid for, so it leaves all the same, and nobody counts on going on from it."""

    class Away:
        async def put(self, key: RequestKey, kept: KeptResponse) -> None:
            raise DependencyUnavailable("away")

        async def find(self, user_id: str, request_ids: Collection[str]) -> dict[str, KeptResponse]:
            return {}

    exchange = Exchange(Away(), lambda kept: "", KeptResponse({"model": "router/a"}, 0), Toolbox())
    await exchange.begun(RequestKey("alice", "r1"))
    assert exchange.whole({"choices": []})["store"] is False
