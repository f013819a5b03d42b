"""Health, metrics, and the documentation that is made from the route table."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry, Counter

from api.http.openapi import build_openapi, documented_path
from api.http.registry import ROUTES, RouteSpec
from api.services import HealthCheck
from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.routing.router import Router
from modelpilot.wire.json_model import WireModel
from tests.support.management_fakes import FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


async def _up() -> None:
    """Answers."""


async def _down() -> None:
    raise OSError("postgresql://user:canary@host")


@pytest.mark.parametrize(
    ("postgres", "temporal", "milvus", "draining", "status", "verdict"),
    [
        (_up, _up, _up, False, 200, "ready"),
        (_up, _up, _down, False, 200, "degraded"),
        (_down, _up, _up, False, 200, "degraded"),
        (_up, _down, _up, False, 200, "degraded"),
        (_down, _down, _up, False, 503, "unready"),
        (_down, _down, _down, False, 503, "unready"),
        (_up, _up, _up, True, 503, "draining"),
    ],
)
async def test_readiness(
    aiohttp_client: Client, postgres: Any, temporal: Any, milvus: Any, draining: bool, status: int, verdict: str
) -> None:
    """One of the required dependencies is enough; what is away is named; a draining process takes no more; no secret is
    told."""
    stores = {"postgres": postgres, "temporal": temporal}
    checks = [HealthCheck(name, probe) for name, probe in stores.items()]
    checks.append(HealthCheck("milvus", milvus, required=False))
    client = await aiohttp_client(FakeStores().app(health_checks=checks, draining=lambda: draining))
    response = await client.get("/readyz")
    body = await response.json()
    assert (response.status, body["status"]) == (status, verdict)
    assert body["dependencies"]["milvus"] == {"status": "up" if milvus is _up else "down", "required": False}
    assert body["degraded"] == [name for name, probe in {**stores, "milvus": milvus}.items() if probe is _down]
    assert ("retry-after" in response.headers) == (status == 503)
    assert "canary" not in await response.text()


async def test_readiness_tells_the_backlog(aiohttp_client: Client) -> None:
    """How many accepted requests wait for their workflow, and for how long: no reason to take fewer."""
    details = {"backlog": 7.0, "backlogAgeSeconds": 1.5}
    client = await aiohttp_client(FakeStores().app(details=lambda: details))
    response = await client.get("/readyz")
    assert (response.status, (await response.json())["details"]) == (200, details)


async def test_liveness_needs_nothing(aiohttp_client: Client) -> None:
    """A process whose dependencies are away must not be killed for it."""
    client = await aiohttp_client(FakeStores().app(health_checks=[HealthCheck("postgres", _down)]))
    response = await client.get("/healthz")
    assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_metrics_are_prometheus_text_and_can_be_closed(aiohttp_client: Client) -> None:
    """Public by default, for admins only where configured."""
    registry = CollectorRegistry()
    Counter("routed", "Routed requests.", registry=registry).inc()
    stores = FakeStores()
    client = await aiohttp_client(stores.app(metrics_registry=registry))
    response = await client.get("/metrics")
    assert response.content_type == "text/plain"
    assert "routed_total 1.0" in await response.text()
    closed = await aiohttp_client(stores.app(metrics_registry=registry, metrics_public=False))
    assert (await closed.get("/metrics")).status == 401
    assert (await closed.get("/metrics", headers=bearer(stores.keys.add("a")))).status == 200


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in _references(value)]
    return [ref for value in node for ref in _references(value)] if isinstance(node, list) else []


async def test_openapi_describes_every_route(aiohttp_client: Client) -> None:
    """Each declared route with its parameters, bodies, scope and errors; every reference leads somewhere."""
    app = FakeStores().app()
    client = await aiohttp_client(app)
    document = await (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    specs = {(spec.method, documented_path(spec.path)): spec for spec in app[ROUTES].specs()}
    assert operations.keys() == specs.keys()
    for key, operation in operations.items():
        spec = specs[key]
        assert operation.get("x-scope", "public") == spec.scope
        assert ("requestBody" in operation) == (spec.request is not None)
        assert operation["responses"].keys() == {str(spec.status), "default"}
        in_path = [item["name"] for item in operation["parameters"] if item["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", key[1])
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_openapi_speaks_the_wire_language() -> None:
    """camelCase fields, no secrets in answers, and an id that PUT may leave out."""
    document = build_openapi(FakeStores().app()[ROUTES].specs(), "1.0")
    schemas = document["components"]["schemas"]
    assert {"availableModels", "fallbackStrategy"} <= schemas["Router"]["properties"].keys()
    assert {"version", "createdAt", "updatedAt"} <= schemas["RouterView"]["properties"].keys()
    assert "apiKey" not in schemas["ProviderView"]["properties"]
    assert "key" not in schemas["KeyView"]["properties"]
    put = document["paths"]["/api/routers/{id}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert "id" not in put.get("required", [])
    assert "id" in schemas["Router"]["required"]
    assert json.dumps(document)


async def test_docs_page_is_self_contained(aiohttp_client: Client) -> None:
    """It works without any other host, and lists every route."""
    app = FakeStores().app()
    client = await aiohttp_client(app)
    response = await client.get("/docs")
    page = await response.text()
    assert response.content_type == "text/html"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"(src|href)=\"(https?:)?//|<script|@import|url\(", page)
    for spec in app[ROUTES].specs():
        assert f"{spec.method} {documented_path(spec.path)}" in page


DOCUMENT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("spec", FakeStores().app()[ROUTES].specs(), ids=lambda spec: f"{spec.method} {spec.path}")
def test_every_route_is_in_the_document(spec: RouteSpec) -> None:
    """A new route fails here until docs/api.md names it with its scope."""
    assert re.search(rf"`{spec.method} {re.escape(documented_path(spec.path))}` \| {spec.scope}\b", DOCUMENT)


@pytest.mark.parametrize("example", re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL))
def test_examples_in_the_document_are_json(example: str) -> None:
    """They can be pasted."""
    assert json.loads(example)


@pytest.mark.parametrize(
    ("model", "field"), [(Router, "availableModels"), (ModelSpec, "providerModel"), (ProviderSpec, "baseUrl")]
)
def test_example_bodies_in_the_document_are_accepted(model: type[WireModel], field: str) -> None:
    """They are bodies that the API takes."""
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)]
    assert [model.model_validate(example) for example in examples if field in example]
