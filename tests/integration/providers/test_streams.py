"""Streams of providers that misbehave, over real HTTP: cut, held open, silent, left by their reader."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.providers.clients import ProviderRegistry
from infra.providers.http import Patience
from modelpilot.requests.outcome import ProviderError
from tests.support.provider_calls import USAGE, ask, call, failure, part, scripted, sse


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
