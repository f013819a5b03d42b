"""`GET /api/health/deployments` and its gauges."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import REGISTRY

from activities.requests.deployments import DeploymentHealth, Target
from api.http.registry import add_routes
from api.routes import health as deployments
from modelpilot.providers.deployments import Deployment
from modelpilot.requests.outcome import Attempt
from tests.support.management_fakes import FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
FAILED = Attempt(0, "sim/a", "simulator", "error", "server_error")


def application(stores: FakeStores, health: DeploymentHealth) -> web.Application:
    """The application with this module's route."""

    def register(app: web.Application) -> None:
        app[deployments.HEALTH] = health
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


def test_gauges_follow_the_states() -> None:
    """Counts by state, without anybody's names."""
    health = DeploymentHealth()
    deployments.publish(health)
    for _ in range(5):
        health.record(Target("alice", "sim/a", Deployment("simulator", "a")), FAILED, health.clock())
    assert REGISTRY.get_sample_value("modelpilot_deployments", {"state": "open"}) == 1.0
    assert REGISTRY.get_sample_value("modelpilot_deployments", {"state": "closed"}) == 0.0
    assert REGISTRY.get_sample_value("modelpilot_provider_keys_refused") == 0.0
