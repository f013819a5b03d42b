"""The management routes over in-memory repositories."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.http.registry import ROUTES, RouteSpec
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import AuditEntry
from modelpilot.providers.resolution import ConfiguredProvider
from tests.support.management_fakes import NOW, Api, FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]

ROUTER = {"id": "support", "availableModels": ["sim/small", "sim/large"]}
MANNERS = {"parameters": {"omit": ["seed"], "temperature": [0.0, 1.0]}}
MODEL = {"id": "own/one", "provider": "openai", "providerModel": "one", **MANNERS}
PROVIDER = {"id": "groq", "kind": "openai", "baseUrl": "https://groq.example/v1", "apiKey": "sk-canary", **MANNERS}
SAMPLES = {"/api/routers": ROUTER, "/api/models": MODEL, "/api/providers": PROVIDER}


@pytest.fixture
def stores() -> FakeStores:
    """Fakes with a small shared catalogue."""
    made = FakeStores()
    made.models.seed("sim/small", "sim/large")
    return made


@pytest.fixture
async def api(stores: FakeStores, aiohttp_client: Client) -> Api:
    """Alice's admin key."""
    return Api(await aiohttp_client(stores.app(check_base_url=_https_only)), bearer(stores.keys.add("alice")))


@pytest.fixture
async def api_of(stores: FakeStores, aiohttp_client: Client) -> Callable[..., Awaitable[Api]]:
    """Other callers of the same stores."""

    async def make(user: str, **changes: Any) -> Api:
        return Api(await aiohttp_client(stores.app()), bearer(stores.keys.add(user, user=user, **changes)))

    return make


def _https_only(url: str) -> None:
    if not url.startswith("https://"):
        raise InvalidRequest("baseUrl: https was expected", param="baseUrl")


@pytest.mark.parametrize(("path", "body"), SAMPLES.items())
async def test_create_read_replace_list_delete(api: Api, stores: FakeStores, path: str, body: dict[str, Any]) -> None:
    """The life of a resource, with the caches of this process dropped after each write."""
    one = f"{path}/{body['id']}"
    status, made = await api("POST", path, body)
    assert status == 201
    visible = {name: value for name, value in body.items() if name != "apiKey"}
    assert visible.items() <= made.items()
    assert made["createdAt"].endswith("Z")
    assert await api("GET", one) == (200, made)
    status, page = await api("GET", path)
    assert (status, page["nextCursor"]) == (200, None)
    assert made in page["items"]
    # What was read can be written back, read-only fields included, and the id may be left out.
    assert (await api("PUT", one, made))[0] == 200
    assert (await api("PUT", one, {k: v for k, v in body.items() if k != "id"}))[0] == 200
    assert await api("DELETE", one) == (204, None)
    assert (await api("GET", one))[0] == 404
    assert (await api("DELETE", one))[0] == 404
    kind = path.removeprefix("/api/").removesuffix("s")
    assert stores.changes == [(kind, "alice", body["id"])] * 4


@pytest.mark.parametrize(("path", "body"), SAMPLES.items())
async def test_an_id_exists_once(api: Api, path: str, body: dict[str, Any]) -> None:
    """POST never replaces, PUT creates where there is nothing, and its two ids agree."""
    one = f"{path}/{body['id']}"
    assert (await api("PUT", one, body))[0] == 200
    status, answer = await api("POST", path, body)
    assert (status, answer["error"]["code"]) == (409, "conflict")
    status, answer = await api("PUT", one, {**body, "id": "other"})
    assert (status, answer["error"]["param"]) == (422, "id")


@pytest.mark.parametrize(("path", "body"), SAMPLES.items())
async def test_tenants_do_not_see_each_other(
    api: Api, api_of: Callable[..., Awaitable[Api]], path: str, body: dict[str, Any]
) -> None:
    """Another tenant's thing does not exist: 404 for each method, and the same id is free."""
    await api("POST", path, body)
    other, one = await api_of("bob"), f"{path}/{body['id']}"
    assert (await other("GET", one))[0] == 404
    assert (await other("DELETE", one))[0] == 404
    assert body["id"] not in [item["id"] for item in (await other("GET", path))[1]["items"]]
    assert (await other("POST", path, body))[0] == 201
    assert (await other("DELETE", one))[0] == 204
    assert (await api("GET", one))[0] == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a/eyes", "b/plain", "c/two", "sim/large", "sim/small"]),
        ("?provider=openai", ["a/eyes", "c/two"]),
        ("?capability=vision", ["a/eyes"]),
        ("?capability=vision&capability=json", []),
        ("?search=PLAIN", ["b/plain"]),
        ("?search=gpt", ["a/eyes"]),
        ("?available=true", ["b/plain", "c/two"]),
        ("?available=true&provider=openai", ["c/two"]),
        ("?available=false", ["a/eyes", "b/plain", "c/two", "sim/large", "sim/small"]),
    ],
)
async def test_some_of_the_models(stores: FakeStores, aiohttp_client: Client, query: str, expected: list[str]) -> None:
    """By provider, capability, name, and whether anything that serves it can be called: with a key of one's own, one of
    the environment, or none where none is needed."""
    environment = {
        "openai": ConfiguredProvider("openai", "https://api.openai.com/v1"),  # without a key
        "google": ConfiguredProvider("google", "https://generativelanguage.googleapis.com", ("key",)),
    }
    api = Api(await aiohttp_client(stores.app(configured=environment)), bearer(stores.keys.add("alice")))
    assert (await api("POST", "/api/providers", PROVIDER))[0] == 201
    for model in (
        {"id": "a/eyes", "provider": "openai", "providerModel": "gpt-9", "capabilities": ["chat", "vision"]},
        {"id": "b/plain", "provider": "groq", "providerModel": "llama"},
        {
            "id": "c/two",
            "provider": "openai",
            "providerModel": "x",
            "deployments": [{"provider": "openai"}, {"provider": "google"}],
        },
    ):
        assert (await api("POST", "/api/models", model))[0] == 201
    status, page = await api("GET", f"/api/models{query}")
    assert (status, [item["id"] for item in page["items"]]) == (200, expected)


async def test_a_filter_that_is_none_is_refused(api: Api) -> None:
    """A slip must not look like an empty catalogue."""
    status, answer = await api("GET", "/api/models?available=yes")
    assert (status, answer["error"]["param"]) == (422, "available")


async def test_router_answers_have_all_fields_and_versions(api: Api) -> None:
    """The router's body with its defaults, beside version and times."""
    _, made = await api("POST", "/api/routers", ROUTER)
    assert made["version"] == 1
    assert made["fallbackStrategy"] == {"fallbackModels": [], "retryAttempts": 3}
    assert made["timeouts"] == {"connectMs": 5000, "firstTokenMs": 30000, "idleMs": 30000, "totalMs": 120000}
    _, changed = await api("PUT", "/api/routers/support", {**ROUTER, "name": "Ü\u202e👩‍👩‍👧"})
    assert (changed["version"], changed["name"]) == (2, "Ü\u202e👩‍👩‍👧")
    status, versions = await api("GET", "/api/routers/support/versions")
    assert status == 200
    assert [item["version"] for item in versions["items"]] == [2, 1]
    assert (await api("GET", "/api/routers/nothing/versions"))[0] == 404


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"availableModels": ["sim/small", "sim/large", "sim/huge"]}, "availableModels[2]"),
        ({"fallbackStrategy": {"fallbackModels": ["nope"]}}, "fallbackStrategy.fallbackModels[0]"),
        ({"mode": "preferredModel", "preferredModel": "nope"}, "preferredModel"),
        ({"objective": {"costWeight": -0.1}}, "objective.costWeight"),
        ({"name": "a\x00"}, "name"),
        ({"availableModels": []}, None),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_a_bad_router_is_refused_naming_the_field(api: Api, changes: dict[str, Any], param: str | None) -> None:
    """422 with the field, on POST and PUT alike, and nothing is stored."""
    for method, path in (("POST", "/api/routers"), ("PUT", "/api/routers/support")):
        status, answer = await api(method, path, {**ROUTER, **changes})
        assert (status, answer["error"]["param"]) == (422, param)
    assert (await api("GET", "/api/routers/support"))[0] == 404


async def test_an_unknown_model_is_named(api: Api) -> None:
    """The message has the model's id; another tenant's model is unknown as well."""
    _, answer = await api("POST", "/api/routers", {**ROUTER, "availableModels": ["sim/huge"]})
    assert "'sim/huge'" in answer["error"]["message"]


@pytest.mark.parametrize("weight", [0, 0.0, 1, 1e6])
async def test_zero_weights_are_fine(api: Api, weight: float) -> None:
    """All zero means all equal."""
    objective = dict.fromkeys(("costWeight", "latencyWeight", "qualityWeight", "carbonWeight"), weight)
    assert (await api("POST", "/api/routers", {**ROUTER, "objective": objective}))[0] == 201


async def test_a_model_in_use_cannot_go(api: Api) -> None:
    """409 naming the router, until the router is changed."""
    await api("POST", "/api/models", MODEL)
    await api("POST", "/api/routers", {**ROUTER, "fallbackStrategy": {"fallbackModels": ["own/one"]}})
    status, answer = await api("DELETE", "/api/models/own/one")
    assert (status, answer["error"]["routers"]) == (409, ["support"])
    assert "'support'" in answer["error"]["message"]
    await api("PUT", "/api/routers/support", ROUTER)
    assert (await api("DELETE", "/api/models/own%2Fone"))[0] == 204


async def test_the_shared_catalogue_is_overridden_not_changed(api: Api, api_of: Callable[..., Awaitable[Api]]) -> None:
    """PUT makes an own copy, which nobody else sees; deleting it shows the shared one again, used or not."""
    await api("POST", "/api/routers", ROUTER)
    assert (await api("DELETE", "/api/models/sim/small"))[0] == 403
    status, own = await api("PUT", "/api/models/sim/small", {"provider": "sim", "providerModel": "mine"})
    assert (status, own["shared"]) == (200, False)
    assert (await (await api_of("bob"))("GET", "/api/models/sim/small"))[1]["providerModel"] == "sim/small"
    assert (await api("DELETE", "/api/models/sim/small"))[0] == 204
    assert (await api("GET", "/api/models/sim/small"))[1]["shared"] is True


async def test_provider_keys_go_in_and_never_come_out(api: Api) -> None:
    """Only `hasKey` tells of it, and an update without a key keeps it."""
    for answer in (
        await api("POST", "/api/providers", PROVIDER),
        await api("PUT", "/api/providers/groq", {"kind": "openai", "baseUrl": "https://groq.example/v1"}),
        await api("GET", "/api/providers/groq"),
    ):
        assert answer[1]["hasKey"] is True
        assert "canary" not in str(answer)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"baseUrl": "http://169.254.169.254/"}, "baseUrl"),
        ({"apiKey": "a\r\nx: y"}, "apiKey"),
        ({"apiKey": ""}, "apiKey"),
        ({"apiKey": "sk-canary é"}, "apiKey"),
        ({"apiKey": ["sk-canary"]}, "apiKey"),
        ({"kind": "carrier-pigeon"}, "kind"),
    ],
)
async def test_a_bad_provider_is_refused(api: Api, changes: dict[str, Any], param: str) -> None:
    """The address is checked, a key cannot smuggle headers, and neither is repeated in the answer."""
    status, answer = await api("POST", "/api/providers", {**PROVIDER, **changes})
    assert (status, answer["error"]["param"]) == (422, param)
    assert "canary" not in str(answer)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"costPerInputToken": 1e308}, "costPerInputToken"),
        ({"costPerCachedInputToken": 1_001}, "costPerCachedInputToken"),
        ({"costPerOutputToken": -1e-9}, "costPerOutputToken"),
        ({"avgLatencyMs": 1e308}, "avgLatencyMs"),
        ({"carbonGPer1kTokens": 1e308}, "carbonGPer1kTokens"),
        ({"limits": {"contextWindow": 10**30}}, "limits.contextWindow"),
        ({"limits": {"maxTokens": 10**10}}, "limits.maxTokens"),
    ],
)
async def test_numbers_of_models_are_bounded(api: Api, changes: dict[str, Any], param: str) -> None:
    """What is finite by itself must be so when it is multiplied by tokens and added up: no row can keep an infinity."""
    status, answer = await api("POST", "/api/models", {**MODEL, **changes})
    assert (status, answer["error"]["param"]) == (422, param)


@pytest.mark.parametrize("subject", ["%00", "a%00b", "%ED%A0%80", "a%0A", "..%2F..", "%27%20OR%201", "x" * 300])
@pytest.mark.parametrize("path", [*SAMPLES, "/api/keys", "/v1/models"])
async def test_impossible_ids_do_not_exist(api: Api, path: str, subject: str) -> None:
    """They never reach the database, which would choke on some of them."""
    assert (await api("GET", f"{path}/{subject}"))[0] == 404


async def test_lists_are_paged(api: Api) -> None:
    """Every item once, over any page size."""
    for number in range(5):
        await api("POST", "/api/routers", {**ROUTER, "id": f"r{number}"})
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        _, page = await api("GET", f"/api/routers?limit=2&cursor={cursor}")
        seen += [item["id"] for item in page["items"]]
        cursor = page["nextCursor"]
    assert sorted(seen) == [f"r{number}" for number in range(5)]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=", "limit=-1", "limit=1e2", "cursor=x"])
async def test_bad_paging_is_refused(api: Api, query: str) -> None:
    """422 naming the parameter."""
    status, answer = await api("GET", f"/api/routers?{query}")
    assert (status, answer["error"]["param"]) == (422, query.partition("=")[0])


async def test_audit_shows_the_own_changes(api: Api, stores: FakeStores) -> None:
    """Who did what, in camelCase, never another tenant's."""
    for user in ("alice", "bob"):
        entry = AuditEntry(len(user), NOW, user, "key-1", "create", "router", f"of-{user}", None, {"id": "r"})
        stores.audit.entries.append(entry)
    status, page = await api("GET", "/api/audit")
    assert (status, [item["subject"] for item in page["items"]]) == (200, ["of-alice"])
    assert page["items"][0].keys() == {
        "id", "timestamp", "actor", "action", "kind", "subject", "before", "after"
    }  # fmt: skip


async def test_model_list_has_openais_shape(api: Api, api_of: Callable[..., Awaitable[Api]]) -> None:
    """Models and routers; a restricted key sees its own routers only, another tenant none."""
    for name in ("one", "two"):
        await api("POST", "/api/routers", {**ROUTER, "id": name})
    _, answer = await api("GET", "/v1/models")
    assert answer["object"] == "list"
    assert {item["id"] for item in answer["data"]} == {"router/one", "router/two", "sim/small", "sim/large"}
    assert all({"id", "object", "created", "owned_by"} <= item.keys() for item in answer["data"])
    assert (await api("GET", "/v1/models/router/one"))[1]["id"] == "router/one"
    assert (await api("GET", "/v1/models/sim/small"))[1]["owned_by"] == "sim"
    _, made = await api("POST", "/api/keys", {"allowedRouters": ["two"]})
    restricted = Api(api.client, bearer(made["key"]))
    assert [item["id"] for item in (await restricted("GET", "/v1/models"))[1]["data"]] == ["router/two"]
    assert (await restricted("GET", "/v1/models/router/one"))[0] == 404
    assert (await restricted("GET", "/v1/models/router/two"))[0] == 200
    assert (await restricted("GET", "/v1/models/sim/small"))[0] == 404
    assert "router/" not in str(await (await api_of("bob"))("GET", "/v1/models"))


async def test_model_list_has_prices_and_limits(api: Api) -> None:
    """As OpenRouter spells them: text without an exponent, null for unknown, and -1 for what the choice decides."""
    body = {"id": "own/one", "provider": "sim", "providerModel": "one", "costPerInputToken": 1.5e-7}
    await api("POST", "/api/models", {**body, "limits": {"contextWindow": 9000, "maxTokens": 700}})
    await api("POST", "/api/routers", {**ROUTER, "id": "one", "availableModels": ["own/one", "sim/small"]})
    entry = (await api("GET", "/v1/models/own/one"))[1]
    assert entry["pricing"] == {"prompt": "0.00000015", "completion": None, "input_cache_read": None}
    assert (entry["context_length"], entry["top_provider"]["max_completion_tokens"]) == (9000, 700)
    router = (await api("GET", "/v1/models/router/one"))[1]
    assert (router["pricing"]["prompt"], router["context_length"]) == ("-1", 9000)
    assert router in (await api("GET", "/v1/models"))[1]["data"]


async def test_an_alias_is_found_and_is_nobody_elses(api: Api, api_of: Callable[..., Awaitable[Api]]) -> None:
    """A client that asks for the model in its code finds the router; who else wants the name is told who has it."""
    aliased = {**ROUTER, "id": "one", "aliases": ["gpt-4o", "openai/*"]}
    assert (await api("PUT", "/api/routers/one", aliased))[0] == 200
    assert (await api("PUT", "/api/routers/one", aliased))[0] == 200
    for name in ("gpt-4o", "openai/gpt-5"):
        status, entry = await api("GET", f"/v1/models/{name}")
        assert (status, entry["id"], entry["aliases"]) == (200, "router/one", ["gpt-4o", "openai/*"])
    status, answer = await api("POST", "/api/routers", {**aliased, "id": "two", "aliases": ["x", "gpt-4o"]})
    assert (status, answer["error"]["param"]) == (409, "aliases[1]")
    assert "router 'one'" in answer["error"]["message"]
    model = {"id": "gpt-4o", "provider": "sim", "providerModel": "m"}
    status, answer = await api("POST", "/api/models", model)
    assert (status, answer["error"]["param"]) == (409, "id")
    status, answer = await api("PUT", "/api/models/own/m", {**model, "id": "own/m", "aliases": ["openai/*"]})
    assert (status, answer["error"]["param"]) == (409, "aliases[0]")
    other = await api_of("bob")
    assert (await other("PUT", "/api/models/own/m", {**model, "id": "own/m", "aliases": ["gpt-4o"]}))[0] == 200


async def test_model_list_has_anthropics_shape_for_its_clients(api: Api) -> None:
    """They send `anthropic-version` with everything."""
    await api("POST", "/api/routers", {**ROUTER, "id": "one", "name": "First"})
    claude = Api(api.client, {**api.headers, "anthropic-version": "2023-06-01"})
    _, page = await claude("GET", "/v1/models")
    assert (page["has_more"], page["first_id"]) == (False, "router/one")
    assert page["last_id"] == page["data"][-1]["id"]
    _, entry = await claude("GET", "/v1/models/router/one")
    assert entry in page["data"]
    assert (entry["type"], entry["display_name"]) == ("model", "First")
    assert datetime.fromisoformat(entry["created_at"]).tzinfo is not None


async def test_writes_name_the_key_that_made_them(api: Api, stores: FakeStores) -> None:
    """For the audit log."""
    await api("POST", "/api/routers", ROUTER)
    assert stores.routers.actors == ["key-alice"]


@pytest.mark.parametrize(
    "spec", [spec for spec in FakeStores().app()[ROUTES].specs() if spec.request], ids=lambda s: f"{s.method} {s.path}"
)
@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"\\ud800":1}', b'{"id":1}', b"[" * 100_000, b'{"a":"\xff"}'])
async def test_no_body_makes_a_route_fail(aiohttp_client: Client, spec: RouteSpec, raw: bytes) -> None:
    """Whatever the body: a 4xx in OpenAI's shape."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app())
    path = spec.path.replace("{id}", "some").replace("{id:.+}", "some")
    response = await client.request(spec.method, path, data=raw, headers=bearer(stores.keys.add("a")))
    assert response.status in (400, 422)
    assert (await response.json())["error"].keys() >= {"message", "type", "param", "code"}
