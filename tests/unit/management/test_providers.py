"""Providers with several keys and models with several deployments, as the management API takes them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from tests.support.management_fakes import Api, FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
KEYS = ["sk-first-secret", "sk-second-secret"]
MODEL = {"id": "my/m", "provider": "east", "providerModel": "m"}


@pytest.fixture
async def api(aiohttp_client: Client) -> Api:
    """An admin of an application over fakes."""
    stores = FakeStores()
    return Api(await aiohttp_client(stores.app()), bearer(stores.keys.add("a")))


async def test_keys_are_counted_and_never_shown(api: Api) -> None:
    """What was read may be written back, which keeps the keys; nothing of them is in any answer."""
    body = {"id": "p", "kind": "openai", "apiKeys": KEYS}
    status, made = await api("POST", "/api/providers", body)
    assert (status, made["hasKey"], made["keyCount"]) == (201, True, 2)
    assert (await api("PUT", "/api/providers/p", made))[1]["keyCount"] == 2
    _, listed = await api("GET", "/api/providers")
    assert not any(key in str((made, listed)) for key in KEYS)
    assert "apiKeys" not in made


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"apiKeys": ["sk-good", "two words"]}, "apiKeys[1]"),
        ({"apiKeys": ["a\r\nx-evil: 1"]}, "apiKeys[0]"),
        ({"apiKeys": []}, "apiKeys"),
        ({"apiKeys": "sk-1,sk-2"}, "apiKeys"),
        ({"apiKeys": [f"k{number}" for number in range(17)]}, "apiKeys"),
        ({"apiKey": "sk", "apiKeys": [f"k{number}" for number in range(16)]}, "apiKeys"),
    ],
)
async def test_unusable_keys_are_refused(api: Api, fields: dict[str, Any], param: str) -> None:
    """422 names the field, without its value."""
    status, answer = await api("PUT", "/api/providers/p", {"kind": "openai", **fields})
    assert (status, answer["error"]["param"]) == (422, param)
    assert not any(secret in str(answer) for secret in ("two words", "x-evil", "k16"))


async def test_deployments_come_back_with_their_defaults(api: Api) -> None:
    """One that says only where it is has weight 1, the first priority and a minute of rest."""
    _, made = await api("PUT", "/api/models/my/m", {**MODEL, "deployments": [{"provider": "west"}]})
    assert made["deployments"] == [
        {"provider": "west", "providerModel": None, "weight": 1.0, "priority": 0, "cooldownSeconds": 60.0}
    ]
    assert (await api("PUT", "/api/models/my/m", MODEL))[1]["deployments"] == []


@pytest.mark.parametrize(
    ("deployments", "param"),
    [
        ([{"provider": "west"}, {"provider": "west", "providerModel": "m"}], "deployments"),
        ([{"provider": "west", "weight": 0}], "deployments[0].weight"),
        ([{"provider": "west", "priority": 0.5}], "deployments[0].priority"),
        ([{"providerModel": "m"}], "deployments[0].provider"),
        ([{"provider": "west", "region": "eu"}], "deployments[0].region"),
    ],
)
async def test_wrong_deployments_are_refused(api: Api, deployments: list[Any], param: str) -> None:
    """422 names the field."""
    status, answer = await api("PUT", "/api/models/my/m", {**MODEL, "deployments": deployments})
    assert (status, answer["error"]["param"]) == (422, param)


@pytest.mark.parametrize(
    ("path", "body"), [("/api/models/my/m", MODEL), ("/api/providers/p", {"id": "p", "kind": "openai"})]
)
@pytest.mark.parametrize(
    ("parameters", "param"),
    [({"maxToken": 5}, "parameters.maxToken"), ({"limitName": "tokens"}, "parameters.limitName"), (5, "parameters")],
)
async def test_wrong_manners_are_refused(
    api: Api, path: str, body: dict[str, Any], parameters: Any, param: str
) -> None:
    """422 names the field of `parameters`."""
    status, answer = await api("PUT", path, {**{k: v for k, v in body.items() if k != "id"}, "parameters": parameters})
    assert (status, answer["error"]["param"]) == (422, param)
