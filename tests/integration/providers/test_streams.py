"""Streams of providers that misbehave, over real HTTP: cut, held open, silent, left by their reader."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.providers.clients import ProviderRegistry
from infra.providers.http import Patience
from modelpilot.requests.outcome import ProviderError
from tests.support.provider_calls import UP, USAGE, ask, call, failure, part, scripted, sse


@pytest.mark.parametrize(
    ("events", "idle_ms"), [((USAGE, b"[DONE]"), 60_000), ((USAGE,), 60_000), ((), 100)], ids=["done", "usage", "bare"]
)
async def test_an_open_connection_does_not_hold_up_a_whole_answer(
    registry: ProviderRegistry, events: Any, idle_ms: int
) -> None:
    """A server that ends neither the stream nor the connection delays nobody who knows the usage for long. Without the
    usage, more may follow until the idle timeout."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="Hi"), part("stop"), *events))
        await reader.read()

    async with scripted(script) as base:
        answer = await ask(registry, call(base, idle_ms=idle_ms))
    assert (answer.text, answer.finish_reason, answer.reported is not None) == ("Hi", "stop", bool(events))


@pytest.mark.parametrize("usage", [{}, {"usage": USAGE["usage"]}], ids=["bare", "counted"])
@pytest.mark.parametrize("kind", ["openai", "google", "anthropic"])
async def test_an_early_finish_reason_and_a_pause_end_nothing(
    registry: ProviderRegistry, kind: str, usage: dict[str, Any]
) -> None:
    """A finish reason with the reasoning, silence beyond what a whole answer is given, then the answer itself."""
    early, late, last = _paused(kind, usage)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(*early))
        await asyncio.wait([asyncio.create_task(reader.read())], timeout=1.2)
        writer.write(sse(*late, *last).partition(b"\r\n\r\n")[2] + b"0\r\n\r\n")

    async with scripted(script) as base:
        answer = await ask(registry, call(base, kind=kind))
    assert (answer.text, answer.finish_reason) == ("The answer is 42.", "stop")


def _paused(kind: str, usage: dict[str, Any]) -> tuple[list[Any], list[Any], list[Any]]:
    text = "The answer is 42."
    if kind == "openai":
        return [{**part("stop", reasoning_content="Hm"), **usage}], [part(content=text)], [part("stop"), b"[DONE]"]
    if kind == "google":
        counts = {"usageMetadata": {"promptTokenCount": 3}} if usage else {}
        event = {"candidates": [{"content": {"parts": [{"text": text}]}}]}
        return [{"candidates": [{"finishReason": "STOP"}], **counts}], [event], []
    counts = {"usage": {"output_tokens": 1}} if usage else {}
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3}}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": text}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **counts}
    return [start, end], [block], [{"type": "message_stop"}]


@pytest.mark.parametrize("ending", ["silence", "reset"])
async def test_a_finish_reason_on_every_chunk_hides_no_cut(registry: ProviderRegistry, ending: str) -> None:
    """Where finish reasons were no end before, neither silence nor a reset makes a part the whole."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(*({**part("stop", content=word), "usage": USAGE["usage"]} for word in ("one", "two"))))
        await writer.drain()
        if ending == "reset":
            writer.transport.abort()
        else:
            await reader.read()

    async with scripted(script) as base:
        error = await failure(registry, call(base, idle_ms=100))
    assert error.error_type == ("timeout_idle" if ending == "silence" else "stream_cut")


async def test_a_gemini_connection_that_stays_open_is_left_after_a_second(registry: ProviderRegistry) -> None:
    """Gemini says nothing at its end but closing the stream."""
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    event = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1}}

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(event))
        await reader.read()

    async with scripted(script) as base:
        answer = await ask(registry, call(base, kind="google", idle_ms=60_000))
    assert (answer.text, answer.finish_reason, answer.usage.total_tokens) == ("Hi", "stop", 4)


@pytest.mark.parametrize(("size", "error_type"), [(12 * 2**20, None), (33 * 2**20, "answer_too_large")])
async def test_a_picture_in_one_event(registry: ProviderRegistry, size: int, error_type: str | None) -> None:
    """An event may be as large as a whole answer; a larger one is paid, so that nobody asks for it again."""
    url = "data:image/png;base64," + "A" * size
    picture = part(images=[{"type": "image_url", "image_url": {"url": url}}])

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(picture, part("stop"), b"[DONE]") + b"0\r\n\r\n")
        await writer.drain()

    async with scripted(script) as base:
        if error_type is None:
            message = (await ask(registry, call(base))).result()["choices"][0]["message"]
            assert message["images"][0]["image_url"]["url"] == url
        else:
            error = await failure(registry, call(base))
            assert (error.error_type, error.remedy) == (error_type, UP)


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


@pytest.mark.parametrize("sign", [part(), part(role="assistant", content=""), {"choices": []}])
async def test_empty_deltas_do_not_keep_a_stalled_stream_alive(registry: ProviderRegistry, sign: Any) -> None:
    """Idle is who sends no output, however many chunks without any come."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="Hi")))
        gone = asyncio.create_task(reader.read())
        while not gone.done():
            writer.write(sse(sign).partition(b"\r\n\r\n")[2])
            await asyncio.wait([gone], timeout=0.01)

    async with scripted(script) as base:
        error = await failure(registry, call(base, idle_ms=100))
    assert error.error_type == "timeout_idle"


@pytest.mark.parametrize("gather_ms", [0, 5])
async def test_a_stream_that_falls_silent_is_given_up(registry: ProviderRegistry, gather_ms: int) -> None:
    """The idle limit holds from the first token on, and begins anew with every chunk: together they take longer."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="Hi")))
        gone = asyncio.create_task(reader.read())
        for _ in range(10):
            await asyncio.wait([gone], timeout=0.03)
            writer.write(sse(part(content="Hi")).partition(b"\r\n\r\n")[2])
        assert not gone.done()
        await gone

    async with scripted(script) as base:
        error = await failure(registry, call(base, idle_ms=200, gather_ms=gather_ms))
    assert (error.error_type, "200 ms" in error.message) == ("timeout_idle", True)


async def test_an_answer_that_nobody_watches_is_read_at_intervals_and_to_its_end_at_once(
    registry: ProviderRegistry,
) -> None:
    """What came together is one batch, and the end of the body waits for no interval."""
    begun = asyncio.Event()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="one")))
        await begun.wait()
        for piece in (b" two", b" three"):
            writer.write(sse(part(content=piece.decode())).partition(b"\r\n\r\n")[2])
            await writer.drain()
        rest = sse(part("stop"), USAGE, b"[DONE]").partition(b"\r\n\r\n")[2]
        writer.write(rest + b"0\r\n\r\n")

    batches = []
    async with scripted(script) as base:
        async for chunks in registry.client_for("openai").stream_chat(call(base, gather_ms=60_000)):
            batches.append([chunk.text for chunk in chunks])
            begun.set()
    assert batches == [["one"], [" two", " three", None, None]]


async def test_a_stream_without_end_is_bounded(registry: ProviderRegistry) -> None:
    """The call is closed when more has come than a whole answer may have, and is not repeated."""
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        event = sse(part(content="x" * 1_000_000)).partition(b"\r\n\r\n")[2]
        writer.write(sse())
        while not reader.at_eof():
            writer.write(event)
            sent += 1
            await writer.drain()

    async with scripted(script) as base:
        error = await failure(registry, call(base))
    assert (error.error_type, error.remedy) == ("answer_too_large", UP)
    assert sent < 60


async def test_an_event_stream_that_answers_a_whole_request_is_read(registry: ProviderRegistry) -> None:
    """Some servers know streams only."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="Hi"), part("stop"), USAGE, b"[DONE]") + b"0\r\n\r\n")

    async with scripted(script) as base:
        assert (await ask(registry, call(base, whole=True))).text == "Hi"


async def test_closing_the_generator_cancels_the_call(registry: ProviderRegistry) -> None:
    """A client that goes away stops the provider's work, and what it costs, at once."""
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sse(part(content="Hi")))
        assert await reader.read() == b""
        gone.set()

    async with scripted(script) as base:
        chunks = registry.client_for("openai").stream_chat(call(base))
        assert (await anext(chunks))[0].text == "Hi"
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
        async for chunks in registry.client_for("openai").stream_chat(call(base, first_token_ms=2_000, idle_ms=2_000)):
            skipped_s += 100.0  # the reader takes its time
            proceed.set()
            texts += [choice["delta"].get("content") for chunk in chunks for choice in chunk.data["choices"]]
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
