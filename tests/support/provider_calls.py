"""Calls of providers over real HTTP, and servers that answer as a script says."""

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from infra.providers.clients import ProviderRegistry
from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.assembler import ChunkAssembler

KEY = "sk-canary-0123456789"
SUM = [{"role": "user", "content": "What is 12 * 7?"}]
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}
SAME, BACK, UP = Remedy.RETRY_SAME, Remedy.FALL_BACK, Remedy.GIVE_UP
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


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
    """A call of a provider; further fields of its body, and `first_token_ms`, `idle_ms` and others, may be given."""
    url = base if kind in ("anthropic", "google") else f"{base}/v1"
    endpoint = ProviderEndpoint("p", kind, url, KEY)  # type: ignore[arg-type]
    limits = {"first_token_ms": body.pop("first_token_ms", 20_000), "idle_ms": body.pop("idle_ms", 20_000)}
    further = {name: body.pop(name) for name in ("whole", "gather_ms") if name in body}
    return ProviderCall(endpoint, model, {"messages": SUM, **body}, **limits, request_id="r1", **further)


async def ask(registry: ProviderRegistry, wanted: ProviderCall) -> ChunkAssembler:
    """The whole answer to a call."""
    assembler = ChunkAssembler()
    async for chunks in registry.client_for(wanted.endpoint.kind).stream_chat(wanted):
        assembler.extend(chunks)
    return assembler


async def failure(registry: ProviderRegistry, wanted: ProviderCall) -> ProviderError:
    """The error of a call that fails."""
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
    """A chunk of one choice."""
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def assert_secret_free(error: ProviderError) -> None:
    """Neither the error nor anything that hangs on it knows the key."""
    link: BaseException | None = error
    while link is not None:
        assert KEY not in f"{link} {link!r} {link.args} {vars(link)}"
        link = link.__cause__ or link.__context__
    assert KEY not in "".join(traceback.format_exception(error))
