"""The management API on a real Postgres: what the fakes of the unit tests cannot promise."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.app import create_app
from api.http.auth import CachedAuthenticator
from api.services import HealthCheck, Services
from infra.db.engine import Database
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.management.changes import PostgresAuditRepository
from infra.db.management.models import PostgresModelRepository
from infra.db.management.providers import PostgresProviderRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import ensure_operator, seed_catalogue
from modelpilot.providers.catalogue import ModelSpec
from tests.support.management_fakes import bearer
from tests.support.samples import keyring

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
Call = Callable[..., Awaitable[tuple[int, Any]]]

CATALOGUE = [ModelSpec(id=name, provider="simulator", provider_model=name) for name in ("sim/small", "sim/large")]
ROUTER = {"id": "support", "name": "Ü\u202e👩‍👩‍👧 'quoted'; DROP TABLE routers", "availableModels": ["sim/small"]}


@asynccontextmanager
async def _services(url: str) -> AsyncIterator[Services]:
    async with Database(url) as database:
        keys = PostgresApiKeyRepository(database)
        try:
            yield Services(
                authenticator=CachedAuthenticator(keys),
                routers=PostgresRouterRepository(database),
                models=PostgresModelRepository(database),
                providers=PostgresProviderRepository(database, keyring()),
                keys=keys,
                audit=PostgresAuditRepository(database),
                health_checks=[HealthCheck("postgres", database.ping)],
            )
        finally:
            await keys.close()


@pytest.fixture
async def admin_key(migrated_url: str) -> str:
    """A seeded database's operator key."""
    async with Database(migrated_url) as database:
        await seed_catalogue(database, CATALOGUE)
        secret = await ensure_operator(database)
    assert secret is not None
    return secret


@pytest.fixture
async def call(migrated_url: str, admin_key: str, aiohttp_client: Client) -> AsyncIterator[Call]:
    """`call(method, path, body, key=admin)` gives status and body."""
    async with _services(migrated_url) as services:
        client = await aiohttp_client(create_app(services))

        async def request(method: str, path: str, body: Any = None, key: str = admin_key) -> tuple[int, Any]:
            response = await client.request(method, path, json=body, headers=bearer(key))
            return response.status, await response.json() if await response.read() else None

        yield request


async def _tenant(call: Call, user: str) -> str:
    status, made = await call("POST", "/api/keys", {"userId": user, "scopes": ["admin", "route"]})
    assert status == 201
    return str(made["key"])


async def test_router_life(call: Call) -> None:
    """Create, replace, versions, delete; the text comes back byte for byte."""
    status, made = await call("POST", "/api/routers", ROUTER)
    assert (status, made["version"], made["name"]) == (201, 1, ROUTER["name"])
    assert await call("GET", "/api/routers/support") == (200, made)
    assert (await call("POST", "/api/routers", ROUTER))[0] == 409
    status, same = await call("PUT", "/api/routers/support", made)
    assert (status, same["version"]) == (200, 1)
    _, changed = await call("PUT", "/api/routers/support", {**ROUTER, "exploration": 0.1})
    assert changed["version"] == 2
    assert await call("DELETE", "/api/routers/support") == (204, None)
    assert (await call("GET", "/api/routers/support"))[0] == 404
    _, versions = await call("GET", "/api/routers/support/versions")
    assert [item["version"] for item in versions["items"]] == [2, 1]


async def test_models_with_slashes_over_the_shared_catalogue(call: Call) -> None:
    """Own models hide shared ones and cannot go while a router needs them."""
    body = {"id": "own/one", "provider": "simulator", "providerModel": "one", "carbonGPer1kTokens": 0.5}
    status, made = await call("POST", "/api/models", body)
    assert (status, made["carbonGPer1kTokens"]) == (201, 0.5)
    assert (await call("POST", "/api/routers", {**ROUTER, "availableModels": ["own/one", "sim/huge"]}))[0] == 422
    await call("POST", "/api/routers", {**ROUTER, "availableModels": ["own/one", "sim/small"]})
    assert (await call("DELETE", "/api/models/own/one"))[0] == 409
    assert (await call("DELETE", "/api/models/sim/small"))[0] == 403
    assert (await call("PUT", "/api/models/sim/small", {**body, "id": "sim/small"}))[1]["shared"] is False
    assert (await call("DELETE", "/api/models/sim/small"))[0] == 204
    _, page = await call("GET", "/api/models")
    assert [(item["id"], item["shared"]) for item in page["items"]] == [
        ("own/one", False), ("sim/large", True), ("sim/small", True),
    ]  # fmt: skip
    _, listed = await call("GET", "/v1/models")
    assert {item["id"] for item in listed["data"]} == {"router/support", "own/one", "sim/large", "sim/small"}


async def test_provider_key_is_kept_and_hidden(call: Call) -> None:
    """An update without a key keeps it; neither answers nor the audit log show it."""
    body = {"id": "groq", "kind": "openai", "baseUrl": "https://groq.example/v1", "apiKey": "sk-canary"}
    assert (await call("POST", "/api/providers", body))[1]["hasKey"] is True
    without_key = {name: value for name, value in body.items() if name != "apiKey"}
    assert (await call("PUT", "/api/providers/groq", without_key))[1]["hasKey"] is True
    assert "canary" not in str([await call("GET", path) for path in ("/api/providers", "/api/audit")])


async def test_keys_rotate_and_revoke_at_once(call: Call) -> None:
    """Also for a key that this process had just admitted."""
    _, old = await call("POST", "/api/keys", {"name": "app", "expiresAt": "2099-01-01T00:00:00Z"})
    assert (await call("GET", "/v1/models", key=old["key"]))[0] == 200
    _, new = await call("POST", f"/api/keys/{old['id']}/rotate", {"overlapSeconds": 0})
    assert (new["rotatedFrom"], new["expiresAt"]) == (old["id"], "2099-01-01T00:00:00Z")
    assert (await call("GET", "/v1/models", key=old["key"]))[0] == 401
    assert (await call("GET", "/v1/models", key=new["key"]))[0] == 200
    assert (await call("PUT", f"/api/keys/{new['id']}", {"active": False}))[1]["active"] is False
    assert (await call("GET", "/v1/models", key=new["key"]))[0] == 401
    assert await call("DELETE", f"/api/keys/{new['id']}") == (204, None)
    assert (await call("GET", f"/api/keys/{new['id']}"))[0] == 404


async def test_tenants_are_apart(call: Call) -> None:
    """Every resource of one tenant is a 404 for another, whose own one of the same id is not touched."""
    await call("POST", "/api/routers", ROUTER)
    bob = await _tenant(call, "bob")
    assert (await call("GET", "/api/routers/support", key=bob))[0] == 404
    assert (await call("DELETE", "/api/routers/support", key=bob))[0] == 404
    assert (await call("GET", "/api/routers/support/versions", key=bob))[0] == 404
    assert (await call("POST", "/api/routers", ROUTER, key=bob))[0] == 201
    assert (await call("DELETE", "/api/routers/support", key=bob))[0] == 204
    assert (await call("GET", "/api/routers/support"))[0] == 200
    assert (await call("POST", "/api/keys", {"userId": "carol"}, key=bob))[0] == 403
    _, mine = await call("GET", "/api/audit", key=bob)
    assert {item["kind"] for item in mine["items"]} <= {"router", "api_key", "user"}
    assert "sim/" in str(mine)


async def test_audit_tells_who_did_what(call: Call) -> None:
    """One entry per change, newest first, with the states before and after, page by page."""
    await call("POST", "/api/routers", ROUTER)
    await call("PUT", "/api/routers/support", {**ROUTER, "name": "new"})
    await call("DELETE", "/api/routers/support")
    actions: list[str] = []
    path: str | None = "/api/audit?limit=2"
    while path:
        _, page = await call("GET", path)
        actions += [item["action"] for item in page["items"] if item["kind"] == "router"]
        path = page["nextCursor"] and f"/api/audit?limit=2&cursor={page['nextCursor']}"
    assert actions == ["delete", "update", "create"]


@pytest.mark.parametrize("path", ["/api/routers", "/api/models", "/api/providers", "/api/keys", "/api/audit"])
async def test_foreign_cursors_are_refused(call: Call, path: str) -> None:
    """A 422 that names the cursor, never a database error."""
    for cursor in ("x", "%00", "W10", "WyIyMDI2IiwgIlx1MDAwMCJd", "'%20OR%201=1"):
        status, answer = await call("GET", f"{path}?cursor={cursor}")
        assert (status, answer["error"]["param"]) == (422, "cursor")


async def test_extreme_values_are_stored_or_refused(call: Call) -> None:
    """Never a 500: the edges of what the types allow fit into the database."""
    extreme = {
        **ROUTER, "name": "🚀" * 200, "objective": {"costWeight": 1e6, "latencyWeight": 5e-324},
        "constraints": {"maxCostUsd": 1.7976931348623157e308},
    }  # fmt: skip
    status, made = await call("POST", "/api/routers", extreme)
    assert status == 201
    assert made["objective"]["latencyWeight"] == 5e-324
    assert (await call("POST", "/api/keys", {"expiresAt": "9998-12-31T23:59:59.999999-14:00"}))[0] in (201, 422)
    assert (await call("POST", "/api/keys", {"expiresAt": "1970-01-02T00:00:00+14:00"}))[0] == 201
    assert (await call("GET", "/api/keys"))[0] == 200


async def test_an_unreachable_database_is_503(admin_key: str, aiohttp_client: Client) -> None:
    """With retry-after, and unready."""
    async with _services("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1") as services:
        client = await aiohttp_client(create_app(services))
        response = await client.get("/v1/models", headers=bearer(admin_key))
        assert response.status == 503
        assert int(response.headers["retry-after"]) >= 1
        ready = await client.get("/readyz")
        assert (ready.status, (await ready.json())["dependencies"]["postgres"]["status"]) == (503, "down")
