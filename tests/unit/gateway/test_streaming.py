"""Server-sent events: chunks as they come, our object on the last one, an error event instead of a lie."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from temporalio.testing import ActivityEnvironment

from api.gateway.answer import ChatStream
from api.http.errors import describe, openai_envelope
from modelpilot.errors import DependencyUnavailable, ModelPilotError
from modelpilot.requests.route_request import FallbackInput
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.failures import too_large
from tests.support.core import A, B, Core, failure, received, routed
from tests.support.processes import until
from tests.support.routing_samples import stream

WORDS = stream("one two three")


class Served:
    """A core behind HTTP. The query says what the client asked for."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.left = asyncio.Event()
        self.options: dict[str, Any] = {}  # of every stream
        app = web.Application()
        app.router.add_post("/", self._handle)
        self.client: TestClient[web.Request, web.Application] = TestClient(TestServer(app, handler_cancellation=True))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = request.query
        changes: dict[str, Any] = {"idempotency_key": asked.get("key")}
        try:
            submission = await self.core.submissions.submit(received(fields={"stream": True}, **changes))
            chat = ChatStream(
                request,
                self.core.submissions,
                submission,
                include_usage="usage" in asked,
                explain="explain" in asked,
                **self.options,
            )
            try:
                return await chat.run()
            except BaseException:
                await self.core.submissions.abandon(submission)
                self.left.set()
                raise
        except ModelPilotError as error:
            return web.json_response(openai_envelope(describe(error)), status=500)

    async def post(self, **asked: str) -> ClientResponse:
        """Begin a request."""
        return await self.client.post("/", params=asked)

    async def events(self, **asked: str) -> list[Any]:
        """The data of all events of a whole stream; "[DONE]" stays text."""
        text = (await (await self.post(**asked)).read()).decode()
        data = [block.removeprefix("data: ") for block in text.split("\n\n") if block.startswith("data: ")]
        return [block if block == "[DONE]" else json.loads(block) for block in data]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A gateway whose router falls back to sim/b."""
    server = Served(Core(routed("sim/b")))
    async with server.client:
        yield server


def text_of(events: list[Any]) -> str:
    """What a client shows."""
    chunks = [event for event in events if event != "[DONE]" and event.get("choices")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_a_whole_stream(served: Served) -> None:
    """All chunks, our object on the last one before [DONE], no usage chunk that was not asked for."""
    response = await served.post()
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    events = await served.events()
    assert text_of(events) == "Hello there"
    assert events[-1] == "[DONE]"
    described = events[-2]["modelpilot"]
    assert (described["selectedModel"], len(described["attempts"]), described["routerId"]) == ("sim/a", 1, "support")
    assert "decision" not in described
    assert not any("usage" in event for event in events[:-1])
    assert not any("modelpilot" in event for event in events[:-2])


async def test_usage_and_explanation_are_given_when_asked_for(served: Served) -> None:
    """`stream_options.include_usage` and `x-modelpilot-explain`."""
    events = await served.events(usage="1", explain="1")
    assert events[-2]["usage"]["total_tokens"] == 15
    assert events[-2]["choices"] == []
    assert events[-2]["modelpilot"]["decision"]["selectedModel"] == "sim/a"


async def test_chunks_leave_as_they_come(served: Served) -> None:
    """The client reads the first words while the provider is still writing."""
    gate = asyncio.Event()
    served.core.providers.will(A, [*WORDS[:3], gate, *WORDS[3:]])
    response = await served.post()
    first = await response.content.readuntil(b"one")
    assert b"data: " in first
    assert not gate.is_set()
    gate.set()
    assert b"[DONE]" in await response.read()


async def test_a_provider_of_the_same_format_is_passed_on_as_it_came(served: Served) -> None:
    """Every byte but for id and model: numbers, spaces and repeated names included. Our object stands behind what the
    last chunk holds."""
    theirs = b'{"id":"c", "model": "m", '
    raws = [
        theirs + b'"n":12345678901234567890123, "n":1, "choices":[{"index":0,"delta":{"content":"a\\u00e9"}}]}',
        theirs + b'"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}] }',
    ]
    served.core.providers.will(A, [Chunk(json.loads(raw), raw) for raw in raws])
    body = await (await served.post()).read()
    (request_id,) = {made.call.request_id for made in served.core.providers.made}
    ours = f'{{"id":"chatcmpl-{request_id}", "model":"{A.id}", '.encode()
    first, second = (raw.replace(theirs, ours) for raw in raws)
    assert body.startswith(b"data: " + first + b"\n\ndata: " + second[:-1] + b',"modelpilot":{')
    assert body.endswith(b"}}\n\ndata: [DONE]\n\n")


async def test_an_answer_beyond_all_bounds_ends_in_an_error_and_is_paid(served: Served) -> None:
    """The client is told, nobody is asked again, and the row has the cost without the text."""
    served.core.providers.will(A, [*WORDS[:3], too_large(100)])
    events = await served.events()
    assert events[-1]["error"]["code"] == "provider_rejected"
    assert "[DONE]" not in events
    await until(lambda: bool(served.core.ledger.rows))
    (row,) = served.core.ledger.rows.values()
    assert (row.outcome.status, row.outcome.error_code, row.outcome.answer) == ("failed", "answer_too_large", None)
    assert row.outcome.cost_usd
    assert served.core.providers.models == ["a"]


async def test_nothing_leaves_before_the_request_is_accepted(served: Served) -> None:
    """Strict: an answer that nobody could recover is not begun."""
    core = served.core
    core.ledger.accept_gate.clear()
    core.workflows.gate.clear()
    answering = asyncio.create_task(served.post())
    await until(lambda: bool(core.providers.made) and core.providers.made[0].completed)
    assert not answering.done()
    core.ledger.accept_gate.set()
    core.workflows.gate.set()
    assert b"[DONE]" in await (await answering).read()


async def test_a_stream_of_a_relaxed_router_does_not_wait_for_that(served: Served) -> None:
    """Its first words leave before the commit."""
    core, gate = served.core, asyncio.Event()
    core.configuration.shot = routed(durability="relaxed")
    core.providers.will(A, [*WORDS[:3], gate, *WORDS[3:]])
    core.ledger.accept_gate.clear()
    core.workflows.gate.clear()
    response = await served.post()
    assert b"data: " in await response.content.readuntil(b"one")
    core.ledger.accept_gate.set()
    core.workflows.gate.set()
    gate.set()
    assert b"[DONE]" in await response.read()


async def test_a_refused_request_is_an_ordinary_error(served: Served) -> None:
    """No event stream is begun."""
    served.core.ledger.accept_refusals = [DependencyUnavailable("Postgres did not answer in time")]
    response = await served.post(key="k")
    assert (response.status, (await response.json())["error"]["code"]) == (500, "dependency_unavailable")


async def handed_over(core: Core) -> FallbackInput:
    """What the workflow asks for once the first phase has failed."""
    await until(lambda: bool(core.workflows.handed_over))
    (key,) = core.workflows.handed_over
    accepted = core.ledger.open[key]
    return FallbackInput(accepted, await core.recovery.first_phase(accepted))


async def fall_back(core: Core) -> None:
    """`call_fallback` on the gateway's own queue."""
    await ActivityEnvironment().run(core.own_steps.call_fallback, await handed_over(core))


async def fall_back_elsewhere(core: Core) -> None:
    """`call_fallback` in a worker."""
    other = Core(like=core, instance="worker-1")
    await ActivityEnvironment().run(other.provider_steps.call_fallback, await handed_over(core))


async def fall_back_alone(core: Core) -> None:
    """No workflow asks: Temporal has gone away behind the hand-over."""
    await handed_over(core)
    core.workflows.up = False


@pytest.mark.parametrize("before", [[], WORDS[:1]])
async def test_a_fallback_before_the_first_byte_is_silent(served: Served, before: list[Any]) -> None:
    """The client sees one answer: that of the model which gave it."""
    served.core.providers.will(A, [*before, failure()])
    served.core.providers.will(B, stream("from b"))
    reading = asyncio.create_task(served.events())
    await fall_back(served.core)
    events = await reading
    assert text_of(events) == "from b"
    assert events[-2]["modelpilot"]["selectedModel"] == "sim/b"
    assert served.core.providers.models == ["a", "b"]


async def test_a_cut_that_nobody_may_repeat_ends_in_an_error(served: Served) -> None:
    """The stream ends with an error event and no [DONE]: a part of an answer is no answer."""
    served.core.configuration.shot = routed()
    served.core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    events = await served.events()
    assert text_of(events[:-1]) == "one two"
    assert "[DONE]" not in events
    assert events[-1]["error"]["code"] == "provider_failed"
    assert events[-1]["modelpilot"]["attempts"][0]["errorType"] == "stream_cut"
    assert served.core.providers.models == ["a"]


@pytest.mark.parametrize("fallback", [fall_back, fall_back_elsewhere, fall_back_alone])
async def test_a_cut_stream_goes_on_behind_the_same_text(served: Served, fallback: Any) -> None:
    """Whichever process repeats the call: one whole answer, and its last chunk names both segments."""
    served.core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    served.core.providers.will(B, WORDS)
    reading = asyncio.create_task(served.events())
    await fallback(served.core)
    events = await reading
    assert (text_of(events), events[-1]) == ("one two three", "[DONE]")
    segments = events[-2]["modelpilot"]["segments"]
    assert [(part["model"], part["characters"]) for part in segments] == [("sim/a", 7), ("sim/b", 6)]


@pytest.mark.parametrize("fallback", [fall_back, fall_back_elsewhere, fall_back_alone])
async def test_a_cut_stream_never_goes_on_with_another_text(served: Served, fallback: Any) -> None:
    """Whichever process repeats the call: an error event behind what was sent, and no [DONE]."""
    served.core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    served.core.providers.will(B, stream("one other answer"))
    reading = asyncio.create_task(served.events())
    await fallback(served.core)
    events = await reading
    assert text_of(events[:-1]) == "one two"
    assert "[DONE]" not in events
    assert events[-1]["error"]["code"] == "stream_diverged"


@pytest.mark.parametrize("fallback", [fall_back, fall_back_elsewhere, fall_back_alone])
async def test_a_router_may_ask_for_a_marked_restart(served: Served, fallback: Any) -> None:
    """`onStreamCut: restart`: the mark tells the client to forget what it has."""
    served.core.configuration.shot = routed("sim/b", on_stream_cut="restart")
    served.core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    served.core.providers.will(B, stream("one other answer"))
    reading = asyncio.create_task(served.events())
    await fallback(served.core)
    events = await reading
    mark = next(place for place, event in enumerate(events) if "modelpilot" in event)
    assert events[mark]["modelpilot"] == {"restart": True, "model": "sim/b"}
    assert (text_of(events[mark:]), events[-1]) == ("one other answer", "[DONE]")


async def test_a_failure_before_the_first_byte_is_an_ordinary_error(served: Served) -> None:
    """Stock clients understand a status; they do not understand an error in a stream as well."""
    served.core.configuration.shot = routed()
    served.core.providers.will(A, [failure()])
    response = await served.post()
    assert (response.status, (await response.json())["error"]["code"]) == (500, "provider_failed")


async def test_a_shutdown_in_the_middle_ends_the_stream_with_an_error(served: Served) -> None:
    """The connection is not cut in silence, and no row says how the request ended: another process goes on."""
    served.core.providers.will(A, [*WORDS[:3], asyncio.Event()])
    response = await served.post()
    await response.content.readuntil(b"one")
    served.core.controller.release()
    rest = (await response.read()).decode()
    assert "[DONE]" not in rest
    last = json.loads(rest.rstrip().rpartition("data: ")[2])
    assert last["error"]["code"] == "dependency_unavailable"
    assert last["modelpilot"]["requestId"]
    assert served.core.providers.made[0].closed
    assert served.core.ledger.rows == {}


async def test_a_client_that_leaves_cancels_the_upstream_call(served: Served) -> None:
    """And what had been generated is recorded."""
    served.core.providers.will(A, [*WORDS[:3], asyncio.Event()])
    response = await served.post()
    await response.content.readuntil(b"one")
    response.close()
    await served.left.wait()
    await until(lambda: served.core.providers.made[0].closed)
    await until(lambda: bool(served.core.ledger.rows))
    (row,) = served.core.ledger.rows.values()
    assert row.outcome.status == "canceled"
    assert row.outcome.cost_usd


async def test_a_keyed_client_that_leaves_can_collect_the_answer(served: Served) -> None:
    """The call goes on, its stream is replayed whole to the repeat, from the record."""
    gate = asyncio.Event()
    served.core.providers.will(A, [*WORDS[:3], gate, *WORDS[3:]])
    response = await served.post(key="k")
    await response.content.readuntil(b"one")
    response.close()
    await served.left.wait()
    gate.set()
    events = await served.events(key="k", usage="1")
    assert text_of(events) == "one two three"
    assert events[-1] == "[DONE]"
    assert len(served.core.providers.made) == 1


async def test_a_repeat_beside_the_running_stream_gets_the_whole_answer(served: Served) -> None:
    """One stream is read live, the other gets the same text when it is complete."""
    gate = asyncio.Event()
    served.core.providers.will(A, [*WORDS[:3], gate, *WORDS[3:]])
    first = await served.post(key="k")
    repeat = asyncio.create_task(served.events(key="k"))
    await first.content.readuntil(b"one")
    gate.set()
    assert text_of(await repeat) == "one two three"
    assert b"[DONE]" in await first.read()


async def test_idle_connections_are_kept_alive(served: Served) -> None:
    """Comment lines, which SSE clients ignore, while the provider thinks."""
    served.options["keep_alive_s"] = 0.01
    gate = asyncio.Event()
    served.core.providers.will(A, [gate, *WORDS])
    response = await served.post()
    for _ in range(3):
        await response.content.readuntil(b": keep-alive\n\n")
    gate.set()
    assert b"[DONE]" in await response.read()


async def test_a_slow_client_stalls_its_provider(served: Served) -> None:
    """Back-pressure: a provider that writes faster than its client reads is not buffered without bound."""
    many = stream("word " * 20_000)
    for chunk in many:
        chunk["padding"] = "x" * 2_000
    written = 0

    async def counting(call: Any) -> AsyncGenerator[list[Chunk], None]:
        nonlocal written
        for chunk in many:
            written += 1
            yield [Chunk(chunk)]

    served.core.providers.stream_chat = counting  # type: ignore[method-assign]
    response = await served.post()
    last = -1
    while written != last:
        last = written
        await asyncio.sleep(0.05)  # until the writer stands still
    assert 0 < written < 15_000
    assert b"[DONE]" in await response.read()
    assert written == len(many)


async def test_a_client_that_does_not_read_is_let_go(served: Served) -> None:
    """It keeps neither the connection nor the request: the provider's call ends, and its cost is recorded."""
    served.options["client_stalls_s"] = 0.1
    served.core.providers.will(
        A, [*stream("x" * 1_000_000 + " " + "y" * 1_000_000, tokens=None)[:2] * 40, asyncio.Event()]
    )
    response = await served.post()
    await served.left.wait()
    await until(lambda: len(served.core.ledger.rows) == 1)
    (row,) = served.core.ledger.rows.values()
    assert row.outcome.status == "canceled"
    assert row.outcome.cost_usd
    assert served.core.providers.made[0].closed
    response.close()
