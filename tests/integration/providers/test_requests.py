"""What provider clients send over real HTTP and to whom, and that nothing shows a key."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.providers.addresses import AddressRule
from infra.providers.clients import ProviderRegistry
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from tests.support.provider_calls import (
    BACK,
    KEY,
    SAME,
    USAGE,
    ask,
    assert_secret_free,
    call,
    failure,
    part,
    scripted,
    sse,
)


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
    assert (error.error_type, error.refused) == ("authentication", "key")
