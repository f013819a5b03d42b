"""Paths as clients spell them, and what answers at the root."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from yarl import URL

from api.http.bodies import read_json
from api.http.registry import RouteSpec, add_routes
from api.http.responses import json_response
from api.http.spellings import spellings
from tests.support.management_fakes import FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


async def _echo(request: web.Request) -> web.Response:
    return json_response({"route": request.match_info.route.resource.canonical, **(await read_json(request))})  # type: ignore[union-attr]


async def _named(request: web.Request) -> web.Response:
    return json_response({"id": request.match_info["id"]})


def _routes(app: web.Application) -> None:
    add_routes(
        app,
        [
            *(RouteSpec("POST", path, _echo, "route", "", "") for path in ("/v1/chat/completions", "/v1/embeddings")),
            RouteSpec("POST", "/v1beta/models/{model:.+}:generateContent", _echo, "route", "", ""),
            RouteSpec("GET", "/api/things/{id:.*[^/]}", _named, "route", "", ""),
        ],
    )


async def _send(client: TestClient[web.Request, web.Application], method: str, path: str, **more: Any) -> Any:
    """`path` exactly as it is spelled."""
    server = client.server.make_url("/")
    return await client.session.request(method, URL(f"{str(server).rstrip('/')}{path}", encoded=True), **more)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/chat/completions/", "/v1/chat/completions"),
        ("//chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completions//", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions?a=b", "/v1/chat/completions"),
        ("/embeddings", "/v1/embeddings"),
        ("/v1/models/x/y:generateContent", "/v1beta/models/{model}:generateContent"),
        ("/models/x%2Fy:generateContent", "/v1beta/models/{model}:generateContent"),
        ("/v1alpha/models/x:generateContent", "/v1beta/models/{model}:generateContent"),
        ("/v1beta/v1beta/models/x:generateContent", "/v1beta/models/{model}:generateContent"),
        ("/v1/v1beta/models/x:generateContent", "/v1beta/models/{model}:generateContent"),
        ("/v1beta/v1/models/x:generateContent", "/v1beta/models/{model}:generateContent"),
    ],
)
async def test_other_spellings_are_served_with_their_body(aiohttp_client: Client, path: str, route: str) -> None:
    """A redirect would lose the body of a POST in many clients."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_routes]))
    headers = bearer(stores.keys.add("a"))
    response = await _send(client, "POST", path, json={"asked": 1}, headers=headers, allow_redirects=False)
    assert (response.status, await response.json()) == (200, {"route": route, "asked": 1})


@pytest.mark.parametrize("path", ["/chat/completions", "//v1/models", "/models/", "/api/things/a/"])
async def test_other_spellings_need_the_same_key(aiohttp_client: Client, path: str) -> None:
    """The scope is that of the route."""
    client = await aiohttp_client(FakeStores().app(extra_routes=[_routes]))
    method = "POST" if path.startswith("/chat") else "GET"
    assert (await _send(client, method, path)).status == 401


async def test_a_trailing_slash_is_no_part_of_an_id(aiohttp_client: Client) -> None:
    """Ids may contain slashes, and end with none."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_routes]))
    response = await _send(client, "GET", "/api/things/sim/small/", headers=bearer(stores.keys.add("a")))
    assert await response.json() == {"id": "sim/small"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/x", 404), ("POST", "/x/", 404), ("GET", "/v1/v2/models", 404), ("HEAD", "/x", 404),
        ("POST", "/v1/models", 405), ("POST", "/models", 405), ("GET", "/chat/completions", 405),
        ("HEAD", "/chat/completions", 405), ("DELETE", "/", 405),
    ],
)  # fmt: skip
async def test_what_is_nowhere_is_refused(aiohttp_client: Client, method: str, path: str, status: int) -> None:
    """404 and 405 are as they were."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_routes]))
    assert (await _send(client, method, path, headers=bearer(stores.keys.add("a")))).status == status


@pytest.mark.parametrize("path", ["/", "/v1/models", "/models", "/healthz", "/docs"])
async def test_head_is_get_without_a_body(aiohttp_client: Client, path: str) -> None:
    """Claude Code and monitors ask so whether somebody is there."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app())
    response = await client.head(path, headers=bearer(stores.keys.add("a")))
    assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/models", "GET"), ("/models/", "GET"), ("/chat/completions", "POST"), ("/", "GET")]
)
async def test_options_tells_the_methods(aiohttp_client: Client, path: str, allowed: str) -> None:
    """Without a key, as a browser asks; a path that does not exist stays a 404."""
    client = await aiohttp_client(FakeStores().app(extra_routes=[_routes]))
    response = await client.options(path)
    assert (response.status, response.headers["allow"]) == (204, ", ".join(sorted({allowed, "OPTIONS"})))
    assert (await client.options("/nowhere")).status == 404


def test_the_path_itself_comes_first() -> None:
    """Only then what it may mean."""
    assert list(spellings("//a//b/")) == ["/a/b", "/v1/a/b"]
    assert list(spellings("/")) == ["/", "/v1/"]
    assert list(spellings("/v1/v1/models/x")) == ["/v1/models/x", "/v1beta/models/x"]


async def test_the_root_leads_on(aiohttp_client: Client) -> None:
    """A person gets a page without anything from elsewhere, a program the same links as JSON."""
    client = await aiohttp_client(FakeStores().app(site_url="http://127.0.0.1:8050"))
    page = await client.get("/", headers={"accept": "text/html,application/xhtml+xml"})
    text = await page.text()
    assert page.content_type == "text/html"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for link in ("http://127.0.0.1:8050", "/docs", "/openapi.json"):
        assert f'href="{link}"' in text
    assert "/router/demo" in text
    links = (await (await client.get("/")).json())["links"]
    assert (links["site"], links["reference"]) == ("http://127.0.0.1:8050", "/docs")


async def test_the_root_names_no_site_that_is_not_there(aiohttp_client: Client) -> None:
    """And no host that is none, whatever a client puts into its header."""
    client = await aiohttp_client(FakeStores().app())
    for host in ("a&b", "[", "a b", "x.example:8080"):
        page = await client.get("/", headers={"accept": "text/html", "host": host})
        text = await page.text()
        assert page.status == 200
        assert "Analytics" not in text
        assert ("http://x.example:8080/v1" if host.startswith("x") else "http://HOST/v1") in text
    assert (await (await client.get("/")).json())["links"]["site"] is None
