"""Text completions over HTTP: several prompts are several requests, which live and end together."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from api.gateway.answer import SUBMISSIONS
from api.http.registry import add_routes
from api.routes import completions
from tests.support.core import COST_USD, A, Core, failure
from tests.support.management_fakes import FakeStores, bearer
from tests.support.routing_samples import stream

Client = TestClient[web.Request, web.Application]
QUESTION: dict[str, Any] = {"model": "router/support", "prompt": ["one", "two"]}


@pytest.fixture
async def client(core: Core) -> AsyncIterator[Client]:
    """An HTTP client of it, with a key that may route."""

    def register(app: web.Application) -> None:
        app[SUBMISSIONS] = core.submissions
        add_routes(app, completions.routes())

    stores = FakeStores()
    app = stores.app(extra_routes=[register])
    async with TestClient(TestServer(app), headers=bearer(stores.keys.add("a"))) as made:
        yield made


async def test_several_prompts_are_several_requests(client: Client, core: Core) -> None:
    """One answer in their order, with the cost of all and the object of each."""
    core.providers.will(A, stream("first"), stream("second"))
    response = await client.post("/v1/completions", json=QUESTION)
    answer = await response.json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert sorted(choice["text"] for choice in answer["choices"]) == ["first", "second"]
    tokens = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    assert answer["usage"] == {**tokens, "cost": pytest.approx(2 * COST_USD)}
    described = answer["modelpilot"]
    ids = [each["requestId"] for each in described["requests"]]
    assert (len(set(ids)), described["requestId"], response.headers["x-request-id"]) == (2, ids[0], ids[0])
    assert described["costUsd"] == pytest.approx(2 * COST_USD)


async def test_one_that_fails_ends_the_others(client: Client, core: Core) -> None:
    """Nobody would read their answers: their calls are canceled, and what they cost is recorded."""
    gate = asyncio.Event()  # which never opens
    core.providers.will(A, [gate], [failure()])
    response = await client.post("/v1/completions", json=QUESTION)
    assert response.status == 502
    await core.background.drain(1.0)
    assert [(made.closed, made.completed) for made in core.providers.made] == [(True, False), (True, False)]


async def test_several_prompts_have_names_of_their_own(client: Client, core: Core) -> None:
    """The same key with the same body is answered from what was recorded, and nobody is called again."""
    core.providers.will(A, stream("same"))
    headers = {"Idempotency-Key": "k"}
    first, second = [await (await client.post("/v1/completions", json=QUESTION, headers=headers)).json() for _ in "ab"]
    assert [choice["text"] for choice in second["choices"]] == ["same", "same"]
    ids = [[each["requestId"] for each in answer["modelpilot"]["requests"]] for answer in (first, second)]
    assert ids[0] == ids[1]
    assert len(core.providers.made) == 2


async def test_a_stream_of_text_ends_as_a_stream_does(client: Client, core: Core) -> None:
    """With our object on the last chunk, and an error instead of `[DONE]` where it is cut."""
    core.providers.will(A, stream("one two three"), [*stream("one two three")[:3], failure("stream_cut")])
    asked = {"model": "router/support", "prompt": "x", "stream": True, "echo": True}
    whole = await (await client.post("/v1/completions", json=asked)).text()
    assert whole.startswith('data: {"id":')
    assert '"text":"xone' in whole
    assert '"modelpilot":{' in whole
    assert whole.endswith("data: [DONE]\n\n")
    cut = await (await client.post("/v1/completions", json=asked)).text()
    assert '"stream_cut"' in cut
    assert "[DONE]" not in cut
