"""`/api/health/deployments`, its reset, and its gauges."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import REGISTRY

from activities.requests.deployments import DeploymentHealth, Target
from api.http.registry import add_routes
from api.routes import health as deployments
from modelpilot.management.resources import HealthScope
from modelpilot.providers.deployments import Deployment
from modelpilot.requests.outcome import Attempt
from tests.support.management_fakes import FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
FAILED = Attempt(0, "sim/a", "simulator", "error", "server_error")


class FakeResets:
    """Other gateways, which only note what they hear."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []

    async def announce(self, user_id: str, scope: HealthScope, actor: str) -> None:
        self.heard.append((user_id, scope.subject, actor))


def application(stores: FakeStores, health: DeploymentHealth, resets: FakeResets | None = None) -> web.Application:
    """The application with this module's routes."""

    def register(app: web.Application) -> None:
        app[deployments.HEALTH], app[deployments.RESETS] = health, resets or FakeResets()
        deployments.publish(app[deployments.HEALTH])
        add_routes(app, deployments.deployment_routes())

    return stores.app(extra_routes=[register])


@pytest.mark.parametrize(("scope", "status"), [("admin", 200), ("analytics", 200), ("route", 403)])
async def test_admins_and_analysts_may_look(aiohttp_client: Client, scope: str, status: int) -> None:
    """Either scope will do; routing alone will not."""
    stores = FakeStores()
    client = await aiohttp_client(application(stores, DeploymentHealth()))
    headers = bearer(stores.keys.add("a", scopes=frozenset({scope})))
    assert (await client.get("/api/health/deployments", headers=headers)).status == status


async def test_it_lists_one_s_own_deployments(aiohttp_client: Client) -> None:
    """State, reason and counts of the caller's models; another tenant's are not there."""
    stores, health = FakeStores(), DeploymentHealth()
    client = await aiohttp_client(application(stores, health))
    headers = bearer(stores.keys.add("a"))
    owner = next(iter(stores.keys.rows.values())).user_id
    for _ in range(5):
        health.record(Target(owner, "sim/a", Deployment("simulator", "a")), FAILED, health.clock())
    health.record(Target("somebody-else", "sim/b", Deployment("simulator", "b")), FAILED, health.clock())
    health.refuse(Target(owner, "gpt", Deployment("openai", "gpt")), "key", health.clock())
    body = await (await client.get("/api/health/deployments", headers=headers)).json()
    (item,) = body["items"]
    assert (item["provider"], item["model"], item["deployment"]) == ("simulator", "sim/a", "simulator/a")
    assert item["state"] == "open"
    assert (item["calls"], item["failures"]) == (5, 5)
    assert item["excludedBecause"].startswith("circuit breaker open since 20")
    assert item["openSince"].endswith("Z")
    assert 0.0 < item["nextProbeInS"] <= 5.0
    assert (body["nextCursor"], body["refusedKeys"]) == (None, ["openai"])
    (provider,) = body["providers"]
    assert provider.pop("restsUntil").endswith("Z")
    assert provider == {"provider": "simulator", "state": "open", "deployments": 1, "openDeployments": 1}


async def test_a_provider_is_as_well_as_its_best_deployment(aiohttp_client: Client) -> None:
    """One broken model of two: the provider is closed, and rests for nobody."""
    stores, health = FakeStores(), DeploymentHealth()
    client = await aiohttp_client(application(stores, health))
    headers = bearer(stores.keys.add("a"))
    owner = next(iter(stores.keys.rows.values())).user_id
    for _ in range(5):
        health.record(Target(owner, "sim/a", Deployment("simulator", "a")), FAILED, health.clock())
    health.record(Target(owner, "sim/b", Deployment("simulator", "b")), replace(FAILED, status="ok"), health.clock())
    body = await (await client.get("/api/health/deployments", headers=headers)).json()
    assert body["providers"] == [
        {"provider": "simulator", "state": "closed", "deployments": 2, "openDeployments": 1, "restsUntil": None}
    ]


@pytest.mark.parametrize(("scope", "status"), [("admin", 200), ("analytics", 403), ("route", 403)])
async def test_admins_may_reset(aiohttp_client: Client, scope: str, status: int) -> None:
    """Here at once, everywhere by the announcement, which names who did it; who may only look resets nothing."""
    stores, health, resets = FakeStores(), DeploymentHealth(), FakeResets()
    client = await aiohttp_client(application(stores, health, resets))
    headers = bearer(stores.keys.add("a", scopes=frozenset({scope})))
    key = next(iter(stores.keys.rows.values()))
    target = Target(key.user_id, "sim/a", Deployment("simulator", "a"))
    for _ in range(5):
        health.record(target, FAILED, health.clock())
    answer = await client.post("/api/health/deployments/reset", headers=headers, json={"provider": "simulator"})
    assert answer.status == status
    assert (health.why_not(target) is None) is (status == 200)
    if status == 200:
        assert await answer.json() == {"provider": "simulator", "model": None, "skipped": 1}
        assert [heard[:2] for heard in resets.heard] == [(key.user_id, "simulator *")]


@pytest.mark.parametrize("body", [{"provider": "a b"}, {"model": "* *"}, {"modell": "sim/a"}, []])
async def test_a_reset_of_nothing_that_can_be_is_refused(aiohttp_client: Client, body: object) -> None:
    """A typo must not reset everything."""
    stores, resets = FakeStores(), FakeResets()
    client = await aiohttp_client(application(stores, DeploymentHealth(), resets))
    headers = bearer(stores.keys.add("a"))
    answer = await client.post("/api/health/deployments/reset", headers=headers, json=body)
    assert answer.status in (400, 422)
    assert resets.heard == []


def test_gauges_follow_the_states() -> None:
    """Counts by state, without anybody's names."""
    health = DeploymentHealth()
    deployments.publish(health)
    for _ in range(5):
        health.record(Target("alice", "sim/a", Deployment("simulator", "a")), FAILED, health.clock())
    assert REGISTRY.get_sample_value("modelpilot_deployments", {"state": "open"}) == 1.0
    assert REGISTRY.get_sample_value("modelpilot_deployments", {"state": "closed"}) == 0.0
    assert REGISTRY.get_sample_value("modelpilot_provider_keys_refused") == 0.0
