"""The routes for Google's clients and for old ones: rights, keys, documentation, and errors in the client's words."""

import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.errors import ErrorView
from api.http.openapi import build_openapi, documented_path
from api.http.registry import ROUTES, RouteSpec, add_routes
from api.routes import completions, gemini
from api.routes.gemini import google_envelope
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import ALL_SCOPES
from modelpilot.wire.jsonb import dump
from tests.support.gemini_bodies import FULL, RICH
from tests.support.management_fakes import FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
SPECS: list[RouteSpec] = [*completions.routes(), *gemini.routes()]
DOCUMENT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
OLD = {
    "model": "m", "prompt": ["a"], "suffix": "", "echo": True, "n": 1, "best_of": 1, "logprobs": 1, "max_tokens": 5,
    "stream": False, "stream_options": {}, "stop": ["x"], "temperature": 1.0, "modelpilot": {"tags": {"a": "b"}},
}  # fmt: skip
GENERATE = "/v1beta/models/router/x:generateContent"


def _register(app: web.Application) -> None:
    add_routes(app, SPECS)


def _path(spec: RouteSpec) -> str:
    return documented_path(spec.path).replace("{model}", "router%2Fx").replace("{id}", "some")


@pytest.mark.parametrize("role", [None, *ALL_SCOPES])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.method} {spec.path}")
async def test_only_keys_that_may_route_get_in(aiohttp_client: Client, spec: RouteSpec, role: str | None) -> None:
    """Every one of these routes may spend money, or tells what could."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_register]))
    headers = bearer(stores.keys.add("a", scopes=frozenset({role}))) if role else {}
    response = await client.request(spec.method, _path(spec), headers=headers)
    if role == "route":
        assert response.status in (400, 404, 200)
    else:
        assert response.status == (403 if role else 401)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.method} {spec.path}")
def test_every_route_is_in_the_document(spec: RouteSpec) -> None:
    """A new route fails here until docs/api.md names it with its scope."""
    assert re.search(rf"`{spec.method} {re.escape(documented_path(spec.path))}` \| {spec.scope}\b", DOCUMENT)


def test_openapi_names_them_once() -> None:
    """Paths, bodies in Google's spelling, and ids of operations that differ."""
    app = FakeStores().app(extra_routes=[_register])
    document = build_openapi(app[ROUTES].specs(), "1")
    operation = document["paths"]["/v1beta/models/{model}:streamGenerateContent"]["post"]
    assert [item["name"] for item in operation["parameters"]] == ["model", "alt", "key"]
    assert {"contents", "systemInstruction", "generationConfig"} <= document["components"]["schemas"][
        "GenerateContentBody"
    ]["properties"].keys()
    names = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("way", ["x-goog-api-key", "?key=", "bearer"])
async def test_google_clients_send_the_key_their_way(aiohttp_client: Client, way: str) -> None:
    """In a header of their own, or in the query."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_register]))
    secret = stores.keys.add("a")
    headers = {"bearer": bearer(secret), "x-goog-api-key": {"x-goog-api-key": secret}}.get(way, {})
    query = f"?key={secret}" if way == "?key=" else ""
    assert (await client.post(f"{GENERATE}{query}", headers=headers, json={})).status == 400
    assert (await client.get(f"/v1beta/models{query}", headers=headers)).status == 200


async def test_a_key_in_a_query_counts_on_googles_routes_only(aiohttp_client: Client) -> None:
    """Queries end up in logs of proxies: nobody else should learn to send it there."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_register]))
    secret = stores.keys.add("a")
    for path in ("/v1/models", "/api/routers", "/models"):
        assert (await client.get(f"{path}?key={secret}")).status == 401


async def test_a_key_in_a_query_is_not_logged(aiohttp_client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Neither for an answer, nor for a defect of ours; the gateway runs without an access log, as here."""
    stores = FakeStores()
    app = stores.app(extra_routes=[_register])
    server = TestServer(app)
    await server.start_server(access_log=None)
    client = await aiohttp_client(server)
    secret = stores.keys.add("a")
    caplog.set_level(logging.DEBUG)
    assert (await client.get(f"/v1beta/models?key={secret}")).status == 200
    body = {"contents": [{"parts": [{"text": "x"}]}]}
    # There are no submissions here: that is a defect.
    assert (await client.post(f"{GENERATE}?key={secret}", json=body)).status == 500
    assert "unexpected KeyError" in caplog.text
    assert secret not in caplog.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": "x"}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": {"parts": []}, "generationConfig": 1}, "generationConfig"),
        ({"contents": [{"parts": [{"text": "x"}]}], "cached_content": "y"}, "cachedContent"),
    ],
)
async def test_a_bad_body_is_a_400_in_googles_envelope(aiohttp_client: Client, body: Any, param: str) -> None:
    """That names the field."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_register]))
    response = await client.post(GENERATE, json=body, headers=bearer(stores.keys.add("a")))
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert error["message"].startswith(param)
    assert error["details"][0]["metadata"]["param"] == param


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "type", "parts"]), inner, max_size=2)
    ),
    max_leaves=3,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], by)
    return copy


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(FULL, path) for path in _places(FULL)] + [(RICH, path) for path in _places(RICH)]), VALUES)
def test_no_value_in_any_place_is_a_defect(place: tuple[Any, tuple[Any, ...]], value: Any) -> None:
    """It is taken, or refused with a sentence; never a 500."""
    raw = dump(_replaced(*place, value))
    with suppress(InvalidRequest):
        gemini._translated(raw, "router/x", stream=False)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_places(OLD)[1:]), VALUES)
def test_no_value_in_an_old_request_is_a_defect(path: tuple[Any, ...], value: Any) -> None:
    """The same for text completions."""
    with suppress(InvalidRequest):
        completions._translated(dump(_replaced(OLD, path, value)))


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED"),
    ],
)  # fmt: skip
def test_errors_have_googles_words(status: int, word: str) -> None:
    """And say when to come back where that is known; our details never replace Google's fields."""
    view = ErrorView(
        status, "t", "some_code", "m", "p", {"attempts": [], "message": "x"}, {"retry-after": "7"}, request_id="r"
    )
    error = google_envelope(view)["error"]
    assert (error["code"], error["status"], error["message"]) == (status, word, "m")
    info, retry, own = error["details"]
    assert (info["reason"], info["metadata"]) == ("SOME_CODE", {"param": "p", "requestId": "r"})
    assert retry["retryDelay"] == "7s"
    assert own["attempts"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [({"model": "m"}, "prompt"), ({"prompt": "x"}, "model"), ({"model": "m", "prompt": [1]}, "prompt")],
)
async def test_a_bad_text_completion_is_a_400(aiohttp_client: Client, body: Any, param: str) -> None:
    """As at OpenAI."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(extra_routes=[_register]))
    response = await client.post("/v1/completions", json=body, headers=bearer(stores.keys.add("a")))
    assert (response.status, (await response.json())["error"]["param"]) == (400, param)


async def test_google_lists_what_the_key_may_call(aiohttp_client: Client) -> None:
    """With the names that its clients put into the path, on its own route and where its SDK's default version asks."""
    stores = FakeStores()
    stores.models.seed("sim/small")
    client = await aiohttp_client(stores.app(extra_routes=[_register]))
    headers = {"x-goog-api-key": stores.keys.add("alice")}
    await client.post("/api/routers", json={"id": "one", "availableModels": ["sim/small"]}, headers=headers)
    for version in ("v1beta", "v1"):
        listed = (await (await client.get(f"/{version}/models", headers=headers)).json())["models"]
        assert [each["name"] for each in listed] == ["models/router/one", "models/sim/small"]
        one = await (await client.get(f"/{version}/models/router/one", headers=headers)).json()
        assert (one, one["supportedGenerationMethods"][0]) == (listed[0], "generateContent")
