"""The provider clients over real HTTP, against the simulator and against servers that misbehave."""

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from infra.providers.addresses import AddressRule
from infra.providers.answer import Patience
from infra.providers.registry import ProviderRegistry
from infra.simulator.server import running
from infra.simulator.state import SimulatorConfig
from modelpilot.errors import InvalidRequest
from modelpilot.ports import ProviderCall
from modelpilot.provider_errors import ProviderError, Remedy
from modelpilot.records import ProviderEndpoint
from modelpilot.wire.openai import ChunkAssembler

pytestmark = pytest.mark.asyncio

KEY = "sk-canary-0123456789"
SUM = [{"role": "user", "content": "What is 12 * 7?"}]
PARAMETERS = {"type": "object", "properties": {"x": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]
KINDS = ["openai", "anthropic", "google", "openrouter", "simulator"]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    async with ProviderRegistry(AddressRule.of(allow_internal=True)) as registry:
        yield registry


@pytest_asyncio.fixture
async def simulator() -> AsyncIterator[str]:
    """A simulator that answers at once."""
    async with running(SimulatorConfig(latency_ms=0)) as base:
        yield base


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """A server that reads a request's head and body and then does as the script says."""

    running_scripts: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running_scripts.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            await script(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in running_scripts:
            task.cancel()
        await asyncio.gather(*running_scripts)


def call(base: str, kind: str = "openai", model: str = "small", **body: Any) -> ProviderCall:
    url = base if kind in ("anthropic", "google") else f"{base}/v1"
    endpoint = ProviderEndpoint("p", kind, url, KEY)  # type: ignore[arg-type]
    limits = {"first_token_ms": body.pop("first_token_ms", 20_000), "idle_ms": body.pop("idle_ms", 20_000)}
    return ProviderCall(endpoint, model, {"messages": SUM, **body}, **limits, request_id="r1")


async def ask(registry: ProviderRegistry, wanted: ProviderCall) -> ChunkAssembler:
    assembler = ChunkAssembler()
    async for chunk in registry.client_for(wanted.endpoint.kind).stream_chat(wanted):
        assembler.add(chunk)
    return assembler


async def failure(registry: ProviderRegistry, wanted: ProviderCall) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(registry, wanted)
    return caught.value


def sse(*events: Any, head: bytes = b"Transfer-Encoding: chunked\r\n") -> bytes:
    """The head of a streamed answer and its first events as HTTP chunks, the body not ended."""
    pieces = [
        b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n" for event in events
    ]
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + head + b"\r\n" + body


def part(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_answers(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """The same request gives the same text, finish reason and usage through every wire format."""
    answer = await ask(registry, call(simulator, kind))
    assert (answer.text, answer.finish_reason) == ("12 * 7 = 84.", "stop")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 5)
    assert answer.result()["id"]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_official_sdk_understands_every_kind(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """Chunks and completions have the types that OpenAI's own SDK declares for them."""
    bodies: list[dict[str, Any]] = [{}, {"tools": TOOLS, "tool_choice": "required"}]
    for body in bodies:
        wanted = call(simulator, kind, **body)
        chunks = [chunk async for chunk in registry.client_for(kind).stream_chat(wanted)]
        assembler = ChunkAssembler()
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk, strict=True)
            assembler.add(chunk)
        ChatCompletion.model_validate(assembler.result(), strict=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_calls_tools(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """Tool calls arrive with an id, a name and valid arguments."""
    answer = await ask(registry, call(simulator, kind, tools=TOOLS, tool_choice="required"))
    assert answer.finish_reason == "tool_calls"
    tool_call = answer.result()["choices"][0]["message"]["tool_calls"][0]
    assert tool_call["id"]
    assert tool_call["function"]["name"] == "f"
    assert isinstance(json.loads(tool_call["function"]["arguments"]), dict)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_gives_structured_output(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """A JSON schema is honoured."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    answer = await ask(registry, call(simulator, kind, response_format=wanted))
    assert isinstance(json.loads(answer.text)["n"], int)


@pytest.mark.parametrize("kind", ["openai", "google"])
async def test_several_choices(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """All choices are waited for."""
    choices = (await ask(registry, call(simulator, kind, n=3))).result()["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["stop"] * 3


SAME, BACK, UP = Remedy.RETRY_SAME, Remedy.FALL_BACK, Remedy.GIVE_UP
FAULTS = [
    ("429", "rate_limited", SAME), ("429+retryafter2", "rate_limited", SAME), ("500", "server_error", SAME),
    ("429+retryafter9999", "rate_limited", BACK), ("429+retryafter-1", "rate_limited", SAME),
    ("429+retryaftergarbage", "rate_limited", SAME), ("502", "server_error", SAME), ("401", "authentication", BACK),
    ("403", "permission", BACK), ("404", "not_found", BACK), ("422", "bad_request", UP),
    ("context", "context_length", BACK), ("filter", "content_filter", BACK), ("reset", "connection_error", SAME),
    ("cut", "stream_cut", SAME), ("malformed", "malformed_response", SAME), ("streamerror", "server_error", SAME),
    ("errorbody", "server_error", SAME), ("html", "malformed_response", SAME), ("truncated", "stream_cut", SAME),
    ("comments", "malformed_response", SAME),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["openai", "anthropic", "google"])
@pytest.mark.parametrize(("fault", "error_type", "remedy"), FAULTS)
async def test_faults(
    registry: ProviderRegistry, simulator: str, kind: str, fault: str, error_type: str, remedy: Remedy
) -> None:
    """Every fault of a provider is classified alike through every wire format, and never shows the key."""
    error = await failure(registry, call(simulator, kind, f"small+tokens60+{fault}"))
    assert (error.error_type, error.remedy) == (error_type, remedy)
    assert_secret_free(error)


@pytest.mark.parametrize(
    ("fault", "error_type"),
    [("hang", "timeout_first_token"), ("firsttoken60000", "timeout_first_token"), ("stall", "timeout_idle")],
)
@pytest.mark.parametrize("kind", ["openai", "anthropic", "google"])
async def test_silence(registry: ProviderRegistry, simulator: str, kind: str, fault: str, error_type: str) -> None:
    """A silent provider is given up after the limit of its phase, and is not asked again."""
    limits = (
        {"first_token_ms": 20_000, "idle_ms": 50} if fault == "stall" else {"first_token_ms": 50, "idle_ms": 20_000}
    )
    error = await failure(registry, call(simulator, kind, f"small+tokens60+{fault}", **limits))
    assert (error.error_type, error.remedy) == (error_type, BACK)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "google"])
async def test_a_missing_end_marker_is_no_failure(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """Without [DONE] the answer is whole, usage included."""
    answer = await ask(registry, call(simulator, kind, "small+nodone"))
    assert (answer.finish_reason, answer.usage.output_tokens) == ("stop", 5)


@pytest.mark.parametrize("events", [(USAGE, b"[DONE]"), (USAGE,), ()])
async def test_an_open_connection_does_not_hold_up_a_whole_answer(registry: ProviderRegistry, events: Any) -> None:
    """A server that ends neither the stream nor the connection delays nobody until the idle timeout."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="Hi"), part("stop"), *events))
        await reader.read()

    async with scripted(script) as base:
        answer = await ask(registry, call(base, idle_ms=60_000))
    assert (answer.text, answer.finish_reason, answer.has_usage) == ("Hi", "stop", bool(events))


@pytest.mark.parametrize(
    ("events", "error_type"),
    [((part(content="Hi"), part("stop")), None), ((part(content="Hi"),), "stream_cut"), ((), "stream_cut")],
)
async def test_resets_in_the_stream(registry: ProviderRegistry, events: Any, error_type: str | None) -> None:
    """A reset cuts the answer, unless every choice had its finish reason already."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(*events))
        await writer.drain()
        writer.transport.abort()

    async with scripted(script) as base:
        if error_type is None:
            assert (await ask(registry, call(base))).text == "Hi"
        else:
            assert (await failure(registry, call(base))).error_type == error_type


async def test_comments_do_not_keep_a_stalled_stream_alive(registry: ProviderRegistry) -> None:
    """A proxy's keep-alive comments are no tokens: both timeouts run on through them."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse())
        gone = asyncio.create_task(reader.read())
        while not gone.done():
            writer.write(b"8\r\n: wait\n\n\r\n")
            await asyncio.wait([gone], timeout=0.01)

    async with scripted(script) as base:
        error = await failure(registry, call(base, first_token_ms=100))
    assert error.error_type == "timeout_first_token"


async def test_closing_the_generator_cancels_the_call(registry: ProviderRegistry) -> None:
    """A client that goes away stops the provider's work, and what it costs, at once."""
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="Hi")))
        assert await reader.read() == b""
        gone.set()

    async with scripted(script) as base:
        chunks = registry.client_for("openai").stream_chat(call(base))
        assert (await anext(chunks))["choices"][0]["delta"] == {"content": "Hi"}
        await chunks.aclose()
        await asyncio.wait_for(gone.wait(), 10)


async def test_cancelling_the_reader_cancels_the_call(registry: ProviderRegistry) -> None:
    """So does cancelling the task that waits for the first token."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        assert await reader.read() == b""
        gone.set()

    async with scripted(script) as base:
        task = asyncio.create_task(ask(registry, call(base)))
        await asyncio.wait_for(asked.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 10)


async def test_a_slow_reader_is_no_silent_provider(registry: ProviderRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only waiting for the provider counts, so backpressure from our own client never trips a timeout."""
    loop, skipped_s = asyncio.get_running_loop(), 0.0
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + skipped_s)
    proceed = asyncio.Event()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(role="assistant")))
        await proceed.wait()
        writer.write(sse(part(content="Hi"), part("stop"), USAGE, b"[DONE]").partition(b"\r\n\r\n")[2] + b"0\r\n\r\n")

    async with scripted(script) as base:
        texts = []
        async for chunk in registry.client_for("openai").stream_chat(call(base, first_token_ms=2_000, idle_ms=2_000)):
            skipped_s += 100.0  # the reader takes its time
            proceed.set()
            texts += [choice["delta"].get("content") for choice in chunk["choices"]]
    assert texts == [None, "Hi", None]


async def test_patience_adds_up_while_nothing_is_heard() -> None:
    """Many short silences before the first token are one long one."""
    patience = Patience(first_token_ms=50, idle_ms=60_000)
    never = asyncio.Event()
    with pytest.raises(ProviderError) as caught:
        await patience.wait(never.wait())
    assert caught.value.error_type == "timeout_first_token"
    with pytest.raises(ProviderError):
        await patience.wait(never.wait())


async def test_a_plain_completion_is_accepted(registry: ProviderRegistry) -> None:
    """A server that ignores `stream: true` still serves."""
    completion = {
        "id": "c",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": USAGE["usage"],
    }

    async def answer(_: web.Request) -> web.Response:
        response = web.json_response(completion)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        found = await ask(registry, call(str(server.make_url("")).rstrip("/")))
    assert (found.text, found.usage.total_tokens) == ("Hi", 4)


async def test_connections_are_kept(registry: ProviderRegistry) -> None:
    """Calls in sequence share one connection, also where the body's end comes after [DONE]."""
    peers: set[Any] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        response = web.StreamResponse()
        await response.prepare(request)
        for event in (part(content="Hi"), part("stop"), USAGE):
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        for _ in range(5):
            await ask(registry, call(str(server.make_url("")).rstrip("/")))
            await asyncio.gather(*registry._http._draining)
    assert len(peers) == 1


async def test_what_is_sent(registry: ProviderRegistry) -> None:
    """The key, the client's own fields and a body of several megabytes arrive; cookies are not kept."""
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization"), request.headers.get("Cookie"), await request.json()))
        response = web.json_response({"error": {"message": "m"}}, status=400)
        response.set_cookie("a", "b")
        return response

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", answer)
    content = "x" * 3_000_000 + "\ud800"
    async with TestServer(app) as server:
        for _ in range(2):
            wanted = call(
                str(server.make_url("")).rstrip("/"), messages=[{"role": "user", "content": content}], x_new=2**70
            )
            assert (await failure(registry, wanted)).error_type == "bad_request"
    assert {entry[:2] for entry in seen} == {(f"Bearer {KEY}", None)}
    assert seen[0][2]["messages"][0]["content"] == content
    assert seen[0][2]["x_new"] == 2**70


async def test_redirects_are_not_followed(registry: ProviderRegistry) -> None:
    """A provider cannot send us, and the key, elsewhere."""
    visited: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        visited.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        error = await failure(registry, call(str(server.make_url("")).rstrip("/")))
    assert (error.error_type, error.remedy, visited) == ("malformed_response", BACK, ["/v1/chat/completions"])


def assert_secret_free(error: ProviderError) -> None:
    """Neither the error nor anything that hangs on it knows the key."""
    link: BaseException | None = error
    while link is not None:
        assert KEY not in f"{link} {link!r} {link.args} {vars(link)}"
        link = link.__cause__ or link.__context__
    assert KEY not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 401 No\r\nContent-Length: 53\r\n\r\n"
        + json.dumps({"error": {"message": f"bad {KEY}!!!!"}}).encode(),
        b"HTTP/1.1 500 No\r\nContent-Length: 26\r\n\r\nfailed: " + KEY.encode(),
        b"NOT HTTP AT ALL " + KEY.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        sse({"error": {"message": f"upstream refused {KEY}"}}),
    ],
)
async def test_an_echoed_key_never_shows(registry: ProviderRegistry, reply: bytes) -> None:
    """Whatever a provider does with our key, no exception repeats it."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()

    async with scripted(script) as base:
        assert_secret_free(await failure(registry, call(base)))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://localhost:1/v1", "http://user:pw@h.example/v1"])
async def test_forbidden_addresses_are_not_called(url: str) -> None:
    """A base URL that was saved under looser rules is checked again at each call."""
    async with ProviderRegistry(AddressRule.of(allow_internal=False)) as registry:
        wanted = ProviderCall(ProviderEndpoint("p", "openai", url, KEY), "m", {}, 1_000, 1_000, "r")
        error = await failure(registry, wanted)
    assert (error.error_type, error.remedy) == ("connection_error", BACK)


async def test_nobody_listens(registry: ProviderRegistry) -> None:
    """A refused connection is transient."""
    async with scripted(lambda _, __: asyncio.sleep(0)) as base:
        closed = base
    error = await failure(registry, call(closed))
    assert (error.error_type, error.remedy) == ("connection_error", SAME)


@pytest.mark.parametrize("key", ["sk-bad\r\nX-Evil: 1", "sk-büd"])
async def test_a_key_that_no_header_may_hold(registry: ProviderRegistry, key: str) -> None:
    """A broken key is the operator's business and injects no header."""
    endpoint = ProviderEndpoint("p", "openai", "http://127.0.0.1:1/v1", key)
    error = await failure(registry, ProviderCall(endpoint, "m", {}, 1_000, 1_000, "r"))
    assert (error.error_type, error.unhealthy_key) == ("authentication", True)


async def test_what_a_provider_cannot_do_is_said(registry: ProviderRegistry, simulator: str) -> None:
    """Nothing is dropped silently: the call is refused, and another model may take it."""
    error = await failure(registry, call(simulator, "anthropic", n=2, seed=1))
    assert (error.error_type, error.remedy) == ("bad_request", BACK)
    assert "n, seed" in error.message


async def test_embeddings(registry: ProviderRegistry, simulator: str) -> None:
    """The embeddings endpoint of OpenAI's format, whole or as a classified failure."""
    endpoint = ProviderEndpoint("p", "simulator", f"{simulator}/v1", None)
    client = registry.embedder_for("simulator")
    answer = await client.embed(endpoint, "embedding", {"input": ["a", "b"]})
    assert [item["index"] for item in answer["data"]] == [0, 1]
    with pytest.raises(ProviderError):
        await client.embed(endpoint, "embedding", {"input": 5})


async def test_unknown_kinds(registry: ProviderRegistry) -> None:
    """A kind without a client is the caller's mistake."""
    for find in (registry.client_for, registry.embedder_for):
        with pytest.raises(InvalidRequest):
            find("carrier-pigeon")
