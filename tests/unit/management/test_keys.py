"""The routes of API keys over in-memory repositories."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from modelpilot.management.resources import OPERATOR_USER
from tests.support.management_fakes import Api, FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


@pytest.fixture
def stores() -> FakeStores:
    """Empty fakes."""
    return FakeStores()


@pytest.fixture
async def api(stores: FakeStores, aiohttp_client: Client) -> Api:
    """Alice's admin key."""
    return Api(await aiohttp_client(stores.app()), bearer(stores.keys.add("alice")))


async def test_a_new_key_is_shown_once_and_works(api: Api, stores: FakeStores, aiohttp_client: Client) -> None:
    """The secret is in the answer to POST and nowhere else; rights are as asked."""
    wanted = {
        "name": "app", "scopes": ["route", "analytics"], "allowedRouters": ["support"],
        "expiresAt": "2099-01-01T00:00:00+02:00",
    }  # fmt: skip
    status, made = await api("POST", "/api/keys", wanted)
    assert status == 201
    assert made["expiresAt"] == "2098-12-31T22:00:00Z"
    assert (made["allowedRouters"], made["scopes"]) == (["support"], ["analytics", "route"])
    assert made["userId"] == "alice"
    status, shown = await api("GET", f"/api/keys/{made['id']}")
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert made["key"] not in str(await api("GET", "/api/keys"))
    caller = Api(await aiohttp_client(stores.app()), bearer(made["key"]))
    assert (await caller("GET", "/v1/models"))[0] == 200
    assert (await caller("GET", "/api/keys"))[0] == 403


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scopes": []}, "scopes"), ({"scopes": ["root"]}, "scopes[0]"), ({"expiresAt": "soon"}, "expiresAt"),
        ({"expiresAt": "2030-01-01T00:00:00"}, "expiresAt"), ({"expiresAt": 1}, "expiresAt"),
        ({"expiresAt": "0001-01-01T00:00:00+14:00"}, "expiresAt"), ({"allowedRouters": ["a b"]}, "allowedRouters[0]"),
        ({"expiresAt": "9999-12-31T23:59:59-14:00"}, "expiresAt"), ({"userId": "a/b"}, "userId"),
        ({"name": "\x00"}, "name"), ({"operator": True}, "operator"),
    ],
)  # fmt: skip
async def test_a_bad_key_body_is_refused(api: Api, body: dict[str, Any], param: str) -> None:
    """422 naming the field."""
    status, answer = await api("POST", "/api/keys", body)
    assert (status, answer["error"]["param"]) == (422, param)


async def test_only_an_operator_makes_keys_for_others(api: Api, stores: FakeStores) -> None:
    """A tenant's admin stays inside the tenant; the operator opens new ones."""
    assert (await api("POST", "/api/keys", {"userId": "bob"}))[0] == 403
    assert (await api("POST", "/api/keys", {"userId": "alice"}))[0] == 201
    operator = Api(api.client, bearer(stores.keys.add("root", user=OPERATOR_USER)))
    status, made = await operator("POST", "/api/keys", {"userId": "carol"})
    assert (status, made["userId"]) == (201, "carol")
    assert (await api("GET", f"/api/keys/{made['id']}"))[0] == 404


async def test_a_key_change_is_partial_and_takes_effect_at_once(api: Api, stores: FakeStores) -> None:
    """Left-out fields stay, null clears, scopes never change, and the cache does not keep a revoked key alive."""
    _, made = await api("POST", "/api/keys", {"name": "app", "allowedRouters": ["a"], "scopes": ["admin"]})
    one = f"/api/keys/{made['id']}"
    caller = Api(api.client, bearer(made.pop("key")))
    assert (await caller("GET", one))[0] == 200
    assert (await api("PUT", one, {"name": "new"}))[1] == {**made, "name": "new", "lastUsedAt": None}
    assert (await api("PUT", one, {**made, "allowedRouters": None}))[1]["allowedRouters"] is None
    status, answer = await api("PUT", one, {"scopes": ["route", "admin"]})
    assert (status, answer["error"]["param"]) == (422, "scopes")
    assert (await api("PUT", one, {"active": False}))[1]["active"] is False
    assert (await caller("GET", one))[0] == 401
    assert ("api_key", "alice", made["id"]) in stores.changes


async def test_a_deleted_key_is_refused_at_once(api: Api) -> None:
    """Although it was in the cache."""
    _, made = await api("POST", "/api/keys", {})
    caller = Api(api.client, bearer(made["key"]))
    assert (await caller("GET", "/v1/models"))[0] == 200
    assert await api("DELETE", f"/api/keys/{made['id']}") == (204, None)
    assert (await caller("GET", "/v1/models"))[0] == 401


async def test_rotation_gives_a_new_key_and_an_overlap(api: Api) -> None:
    """Both work during the overlap; without one the old key stops at once."""
    _, old = await api("POST", "/api/keys", {"name": "app"})
    status, new = await api("POST", f"/api/keys/{old['id']}/rotate", {"overlapSeconds": 60})
    assert (status, new["rotatedFrom"], new["name"]) == (201, old["id"], "app")
    for key in (old["key"], new["key"]):
        assert (await Api(api.client, bearer(key))("GET", "/v1/models"))[0] == 200
    await api("POST", f"/api/keys/{new['id']}/rotate", {})
    assert (await Api(api.client, bearer(new["key"]))("GET", "/v1/models"))[0] == 401
    for overlap in (-1, 1e12, "60"):
        status, answer = await api("POST", f"/api/keys/{old['id']}/rotate", {"overlapSeconds": overlap})
        assert (status, answer["error"]["param"]) == (422, "overlapSeconds")
