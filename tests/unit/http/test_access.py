"""Who may call what: the route x role matrix from the route table, key transport, CORS, request ids."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.http.openapi import documented_path
from api.http.registry import ROUTES, RouteSpec
from modelpilot.management.resources import ALL_SCOPES
from tests.support.management_fakes import FakeStores, bearer, secret_of

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
SPECS: list[RouteSpec] = FakeStores().app(metrics_public=False)[ROUTES].specs()
ROLES = ["nobody", "stranger", *ALL_SCOPES]
ORIGIN = "https://app.example"


def _expected(spec: RouteSpec, role: str) -> int | None:
    """The status of a refusal; None where the role is let in."""
    if spec.scope in ("public", role):
        return None
    return 403 if role in ALL_SCOPES else 401


def _headers(stores: FakeStores, role: str) -> dict[str, str]:
    if role == "nobody":
        return {}
    if role == "stranger":
        return bearer(secret_of("stranger"))
    return bearer(stores.keys.add(role, scopes=frozenset({role})))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.method} {spec.path}")
async def test_route_by_role_matrix(aiohttp_client: Client, spec: RouteSpec, role: str) -> None:
    """A key does what its scope says and nothing else; without a key only the public routes answer."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(metrics_public=False))
    path = documented_path(spec.path).replace("{id}", "some")
    response = await client.request(spec.method, path, headers=_headers(stores, role))
    expected = _expected(spec, role)
    if expected is None:
        assert response.status not in (401, 403)
    else:
        assert response.status == expected
        assert response.headers.get("www-authenticate") == ("Bearer" if expected == 401 else None)


def test_only_these_routes_are_public() -> None:
    """Making another route public is a decision that this list records."""
    public = {spec.path for spec in FakeStores().app()[ROUTES].specs() if spec.scope == "public"}
    assert public == {"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"}


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


def test_an_undeclared_route_stops_the_start() -> None:
    """A route without a scope is a mistake of ours; it shows at once."""
    with pytest.raises(RuntimeError, match="/hello"):
        FakeStores().app(extra_routes=[lambda app: app.router.add_get("/hello", _hello)])


async def test_an_undeclared_route_is_denied(aiohttp_client: Client) -> None:
    """Even one that is added behind our back."""
    stores = FakeStores()
    app = stores.app()
    app.router.add_get("/hello", _hello)
    client = await aiohttp_client(app)
    assert (await client.get("/hello", headers=bearer(stores.keys.add("a")))).status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer {}"}, 200), ({"authorization": "bearer  {}"}, 200), ({"x-api-key": "{}"}, 200),
        ({"x-goog-api-key": "{}"}, 200), ({"authorization": "Basic {}", "x-api-key": "{}"}, 200),
        ({"authorization": "{}"}, 401),
        ({"authorization": "Basic {}"}, 401), ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer {}x"}, 401),
        ({"authorization": "Bearer ' OR 1=1 --"}, 401), ({}, 401),
    ],
)  # fmt: skip
async def test_where_the_key_is_read(aiohttp_client: Client, headers: dict[str, str], status: int) -> None:
    """Bearer, or a header as the SDKs of Anthropic and Google send it."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app())
    secret = stores.keys.add("a")
    sent = {name: value.format(secret) for name, value in headers.items()}
    response = await client.get("/v1/models", headers=sent)
    assert response.status == status
    assert secret not in await response.text()


async def test_database_down_is_503_for_unknown_keys(aiohttp_client: Client) -> None:
    """Not 401: the key may be good."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app())
    headers = bearer(stores.keys.add("a"))
    stores.keys.down = True
    response = await client.get("/v1/models", headers=headers)
    assert (response.status, response.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("origin", [ORIGIN + ".evil.example", ORIGIN + "/", "http://app.example", "null", "*"])
async def test_other_origins_get_no_cors_headers(aiohttp_client: Client, origin: str) -> None:
    """Origins match exactly or not at all."""
    client = await aiohttp_client(FakeStores().app(cors_origins=frozenset({ORIGIN})))
    asked = {"origin": origin, "access-control-request-method": "POST"}
    simple = await client.get("/healthz", headers={"origin": origin})
    for response in (simple, await client.options("/healthz", headers=asked)):
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
        assert response.headers["vary"] == "Origin"


async def test_a_configured_origin_may_ask_and_read(aiohttp_client: Client) -> None:
    """Preflight without a key, then headers on every answer, errors included."""
    client = await aiohttp_client(FakeStores().app(cors_origins=frozenset({ORIGIN})))
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    preflight = await client.options("/api/routers", headers=asked)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "access-control-allow-credentials" not in preflight.headers
    refused = await client.get("/api/routers", headers={"origin": ORIGIN})
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in refused.headers["access-control-expose-headers"]
