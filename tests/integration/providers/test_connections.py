"""Reaching a provider over real sockets: a peer that takes no connection, Azure's addresses, Google's embeddings."""

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from infra.providers.addresses import AddressRule
from infra.providers.clients import ProviderRegistry
from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.assembler import ChunkAssembler
from tests.support.servers import deaf_server

KEY = "azure-canary-0123456789"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}
RULE = AddressRule.of(allow_internal=True)


async def test_a_peer_that_takes_no_connection_is_given_up_at_the_connect_timeout() -> None:
    """Its own, short limit: another model can answer long before the wait for a first token is over."""
    with deaf_server() as address:
        endpoint = ProviderEndpoint("p", "openai", f"http://{address}/v1", KEY)
        call = ProviderCall(endpoint, "m", BODY, 60_000, 60_000, request_id="r1", connect_ms=100)
        async with ProviderRegistry(RULE) as registry:
            with pytest.raises(ProviderError) as caught:
                await anext(registry.client_for("openai").stream_chat(call))
    assert (caught.value.error_type, caught.value.remedy) == ("timeout_connect", Remedy.FALL_BACK)
    assert "100 ms" in caught.value.message


class LoopbackNames(AbstractResolver):
    """Every name is this machine, so that a client can be sent to a real host name without leaving."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """127.0.0.1."""
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0),
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Recorder:
    """Records what came in and answers like Azure: the first chunk has the filter's verdict and no choice."""

    def __init__(self) -> None:
        self.seen: list[web.BaseRequest] = []
        self.bodies: list[Any] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """A short stream, or an embedding."""
        self.seen.append(request)
        self.bodies.append(await request.json())
        if request.path.endswith("/embeddings"):
            vector = {"object": "embedding", "index": 0, "embedding": [1.0]}
            return web.json_response({"object": "list", "data": [vector], "model": "e", "usage": {"prompt_tokens": 1}})
        known = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}
        empty = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        verdict = {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
        text = {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None}
        end = {"index": 0, "delta": {}, "finish_reason": "stop", "content_filter_results": {}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chunks = [
            {**empty, "prompt_filter_results": [verdict]},
            {**known, "choices": [text]},
            {**known, "choices": [end]},
            {**known, "choices": [], "usage": usage},
        ]
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return web.Response(text=body, content_type="text/event-stream")


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Recorder, int]]:
    """The server and its port."""
    recorder = Recorder()
    app = web.Application()
    app.router.add_route("POST", "/{path:.*}", recorder.answer)
    async with TestServer(app) as server:
        yield recorder, server.port or 0


@pytest.mark.parametrize(
    ("base", "chat", "embeddings"),
    [
        (
            "/openai/deployments/my-gpt?api-version=2024-10-21",
            "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
            "/openai/deployments/my-gpt/embeddings?api-version=2024-10-21",
        ),
        ("/openai/v1/", "/openai/v1/chat/completions", "/openai/v1/embeddings"),
    ],
    ids=["deployment path", "v1"],
)
async def test_azure(upstream: tuple[Recorder, int], base: str, chat: str, embeddings: str) -> None:
    """Both kinds of base URL: the path is joined in front of the query, and the key goes into `api-key` alone."""
    recorder, port = upstream
    endpoint = ProviderEndpoint("azure", "openai", f"http://name.openai.azure.com:{port}{base}", KEY)
    assembler = ChunkAssembler()
    async with ProviderRegistry(RULE, LoopbackNames()) as registry:
        call = ProviderCall(endpoint, "gpt-4o", BODY, 20_000, 20_000, request_id="r1")
        async for chunks in registry.client_for("openai").stream_chat(call):
            assembler.extend(chunks)
        vectors = await registry.embedder_for("openai").embed(endpoint, "text-embedding-3-small", {"input": "x"})
    assert [request.path_qs for request in recorder.seen] == [chat, embeddings]
    assert [request.headers["api-key"] for request in recorder.seen] == [KEY, KEY]
    assert not any("authorization" in request.headers for request in recorder.seen)
    assert [body["model"] for body in recorder.bodies] == ["gpt-4o", "text-embedding-3-small"]
    assert (assembler.text, assembler.finish_reason, assembler.usage.output_tokens) == ("Hi", "stop", 1)
    assert assembler.result()["id"] == "chatcmpl-1"
    assert vectors["data"][0]["embedding"] == [1.0]


@pytest.mark.parametrize("base", ["", "/v1beta", "/v1beta/"])
async def test_gemini_embeddings(upstream: tuple[Recorder, int], base: str) -> None:
    """Google's OpenAI-compatible path, below the version, whether or not the base URL names that."""
    recorder, port = upstream
    endpoint = ProviderEndpoint("google", "google", f"http://127.0.0.1:{port}{base}", KEY)
    async with ProviderRegistry(RULE) as registry:
        vectors = await registry.embedder_for("google").embed(endpoint, "gemini-embedding-001", {"input": ["x"]})
    (request,) = recorder.seen
    assert (request.path, request.headers["authorization"]) == ("/v1beta/openai/embeddings", f"Bearer {KEY}")
    assert recorder.bodies == [{"input": ["x"], "model": "gemini-embedding-001"}]
    assert vectors["data"][0]["embedding"] == [1.0]
