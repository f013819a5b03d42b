"""Providers behind a real little proxy: absolute URIs, tunnels, passwords, and the guard of addresses on the way."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from infra.local.environment import python_environment
from infra.local.ports import free_port
from infra.providers.addresses import AddressRule
from infra.providers.clients import ProviderRegistry
from infra.providers.proxies import ProxyRule
from modelpilot.requests.outcome import ProviderError
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.assembler import ChunkAssembler
from tests.integration.providers.test_connections import LoopbackNames
from tests.support.proxies import Proxy, certificate, running_proxy

NAME, KEY, PASSWORD = "models.example", "key-canary-0123456789", "proxy-canary"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}
# Neither loopback nor anything private: what a provider has in production.
PRODUCTION = AddressRule.of(allow_internal=False)


class Upstream:
    """A provider that goes on with its answer when it is told to."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.go_on = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Two pieces of a stream."""
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        head = '"id":"c","object":"chat.completion.chunk","created":1,"model":"m"'
        await response.write(f'data: {{{head},"choices":[{{"index":0,"delta":{{"content":"One"}}}}]}}\n\n'.encode())
        await self.go_on.wait()
        end = '{"index":0,"delta":{"content":" two"},"finish_reason":"stop"}'
        await response.write(f'data: {{{head},"choices":[{end}]}}\n\ndata: [DONE]\n\n'.encode())
        return response


@pytest.fixture
def upstream() -> Upstream:
    """The provider."""
    return Upstream()


@pytest.fixture
async def server(upstream: Upstream) -> AsyncIterator[BaseTestServer]:
    """Where it listens."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream.answer)
    async with TestServer(app) as running:
        yield running


def rule_for(proxy: Proxy | int, password: str | None = None, no_proxy: str | None = None) -> ProxyRule:
    """What the variables would say."""
    port = proxy if isinstance(proxy, int) else proxy.port
    address = f"http://{f'user:{password}@' if password else ''}127.0.0.1:{port}"
    return ProxyRule.of(address, address, no_proxy)


def call_of(url: str, key: str | None = KEY) -> ProviderCall:
    """A streamed request to a provider at this base URL."""
    return ProviderCall(ProviderEndpoint("p", "openai", url, key), "m", BODY, 20_000, 20_000, request_id="r1")


async def failure_of(rule: ProxyRule, url: str) -> ProviderError:
    """How a call of this base URL fails."""
    async with ProviderRegistry(PRODUCTION, LoopbackNames(), rule) as registry:
        with pytest.raises(ProviderError) as caught:
            await anext(registry.client_for("openai").stream_chat(call_of(url)))
    return caught.value


@pytest.mark.parametrize("password", [None, PASSWORD], ids=["open", "with a password"])
async def test_a_stream_through_a_proxy(upstream: Upstream, server: BaseTestServer, password: str | None) -> None:
    """The proxy resolves the name; chunks come as they are sent, and again over the connection that is there."""
    async with running_proxy({NAME: ("127.0.0.1", server.port or 0)}, password) as proxy:
        async with ProviderRegistry(PRODUCTION, proxies=rule_for(proxy, password)) as registry:
            for _ in range(2):
                upstream.go_on.clear()
                assembler = ChunkAssembler()
                async for chunks in registry.client_for("openai").stream_chat(call_of(f"http://{NAME}/v1")):
                    assembler.extend(chunks)
                    assert upstream.go_on.is_set() or assembler.text == "One"
                    upstream.go_on.set()
                assert assembler.text == "One two"
        assert proxy.seen[0].startswith(f"POST http://{NAME}/v1/chat/completions HTTP/1.1\r\n")
    assert [headers["authorization"] for headers in upstream.headers] == [f"Bearer {KEY}"] * 2


async def test_a_proxy_that_refuses_us_is_named_and_its_password_is_not(server: BaseTestServer) -> None:
    """A wrong password, a name that the proxy does not know, no proxy at all, and no such name of a proxy."""
    async with running_proxy({NAME: ("127.0.0.1", server.port or 0)}, PASSWORD) as proxy:
        wrong = rule_for(proxy, f"{PASSWORD}-wrong")
        plain, tunnel = await failure_of(wrong, f"http://{NAME}/v1"), await failure_of(wrong, f"https://{NAME}/v1")
    gone = await failure_of(rule_for(free_port(), PASSWORD), f"https://{NAME}/v1")
    nowhere = ProxyRule.of(None, f"http://user:{PASSWORD}@proxy.invalid:3128", None)
    unknown = await failure_of(nowhere, f"https://{NAME}/v1")
    assert [(error.error_type, error.message) for error in (plain, tunnel, gone, unknown)] == [
        ("connection_error", "the proxy wants a user and a password"),
        ("connection_error", "the proxy answered 407 instead of connecting"),
        ("connection_error", "no connection to the proxy"),
        ("connection_error", "the proxy's host is unknown"),
    ]
    assert not any(PASSWORD in repr(error.__context__) + str(error) for error in (plain, tunnel, gone, unknown))


@pytest.mark.parametrize("url", ["http://10.1.2.3/v1", "https://169.254.169.254/latest", "http://[fd00::1]/v1"])
async def test_addresses_are_guarded_in_front_of_a_proxy(url: str) -> None:
    """What is private by its looks is not even asked for: the proxy may be able to reach it."""
    async with running_proxy({}) as proxy:
        error = await failure_of(rule_for(proxy), url)
        assert proxy.seen == []
    assert "MODELPILOT_PRIVATE_PROVIDER_HOSTS" in error.message


async def test_what_goes_past_the_proxy_has_the_whole_guard(server: BaseTestServer) -> None:
    """A name that leads to this machine is refused in production, as without a proxy."""
    async with running_proxy({NAME: ("127.0.0.1", server.port or 0)}) as proxy:
        error = await failure_of(rule_for(proxy, no_proxy=NAME), f"http://{NAME}:{server.port}/v1")
        assert proxy.seen == []
    assert "not allowed" in error.message


async def test_nothing_is_taken_from_netrc(
    upstream: Upstream, server: BaseTestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords that other programs keep there are neither for providers nor for proxies."""
    (tmp_path / "netrc").write_text(f"machine {NAME} login me password x\nmachine 127.0.0.1 login me password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    upstream.go_on.set()
    async with running_proxy({NAME: ("127.0.0.1", server.port or 0)}) as proxy:
        async with ProviderRegistry(PRODUCTION, proxies=rule_for(proxy)) as registry:
            async for _ in registry.client_for("openai").stream_chat(call_of(f"http://{NAME}/v1", None)):
                pass
        assert "authorization" not in proxy.seen[0].lower()
    assert "authorization" not in upstream.headers[0]


CLIENT = """
import asyncio, sys, uvloop
from infra.providers.clients import ProviderRegistry
from infra.providers.environment import address_rule, proxy_rule
from infra.settings import load_settings
from modelpilot.wire.assembler import ChunkAssembler
from tests.integration.providers.test_proxies import call_of

async def main():
    settings, assembler = load_settings(), ChunkAssembler()
    async with ProviderRegistry(address_rule(settings), proxies=proxy_rule(settings)) as registry:
        async for chunks in registry.client_for("openai").stream_chat(call_of(sys.argv[1])):
            assembler.extend(chunks)
    print(assembler.text)

uvloop.run(main())
"""


async def test_a_tunnel_to_an_https_provider(upstream: Upstream, tmp_path: Path) -> None:
    """The variables of the environment, TLS from end to end, and the provider's key for the provider alone.

    In a process of its own, since OpenSSL reads once whom it trusts."""
    authority, context = certificate(NAME, tmp_path)
    upstream.go_on.set()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream.answer)
    server = TestServer(app)
    await server.start_server(ssl=context)
    async with running_proxy({NAME: ("127.0.0.1", server.port or 0)}, PASSWORD) as proxy:
        variables = {
            "https_proxy": f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}",
            "MODELPILOT_ENV": "production",
            "MODELPILOT_ALLOW_EMBEDDED": "true",
            "SSL_CERT_FILE": str(authority),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, f"https://{NAME}/v1"),
            env=python_environment() | variables,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    await server.close()
    assert out.decode().strip() == "One two", err.decode()
    assert proxy.seen[0].startswith(f"CONNECT {NAME}:443 HTTP/1.1\r\n")
    assert KEY not in "".join(proxy.seen)
    assert upstream.headers[0]["authorization"] == f"Bearer {KEY}"
    assert "proxy-authorization" not in upstream.headers[0]
