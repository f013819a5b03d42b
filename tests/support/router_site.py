"""The pages about routers over WSGI, with routers, jobs and a workbench that a test gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask.testing import FlaskClient

from dashboard.app import create_app
from dashboard.config import DashboardConfig
from dashboard.frame.page import Readers
from modelpilot.learning.replay.frontier import Frontier, frontier
from modelpilot.metrics.jobs import JobsRead
from modelpilot.metrics.overview import AnalyticsScope, Overview
from modelpilot.metrics.use import RouterUse, RouterVersion
from tests.support.site import NOW_S, FakeAccess, FakeHasher, FakeReader

BODY: Mapping[str, Any] = {
    "id": "support",
    "name": "Support",
    "mode": "smartRouter",
    "availableModels": ["sim/small", "sim/large"],
    "objective": {"costWeight": 1, "latencyWeight": 0, "qualityWeight": 3, "carbonWeight": 0},
    "constraints": {"maxCostUsd": None, "maxLatencyMs": 5_000, "minQuality": None, "requiredCapabilities": []},
    "exploration": 0.05,
}
OLD_BODY = {**BODY, "exploration": 0.0, "availableModels": ["sim/small"]}


def use(user_id: str = "u1", router_id: str = "support", **changes: Any) -> RouterUse:
    """A router at version 2 with 10 requests."""
    plain = {"body": BODY, "version": 2, "created_at": NOW_S - 9e5, "updated_at": NOW_S - 7_200.0, "requests": 10}
    return RouterUse(user_id, router_id, **{**plain, "cost_usd": 0.5, **changes})


class FakeRouters:
    """Implements `RouterReader` and `Workbench` in memory; remembers what was restored and asked."""

    def __init__(self, *routers: RouterUse) -> None:
        self.known = routers
        self.restored: list[tuple[str, str, int, str]] = []
        self.explained: list[tuple[str, str, Mapping[str, Any]]] = []
        self.replays: list[tuple[str, str, Mapping[str, Any]]] = []

    def routers(self, scope: AnalyticsScope) -> Sequence[RouterUse]:
        """Those of the tenant."""
        return [one for one in self.known if scope.user_id in (None, one.user_id)]

    def versions(self, user_id: str, router_id: str) -> Sequence[RouterVersion]:
        """Two."""
        return [RouterVersion(2, NOW_S - 7_200.0, "key", BODY), RouterVersion(1, NOW_S - 9e5, "key", OLD_BODY)]

    def explain(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A decision without candidates."""
        self.explained.append((user_id, router_id, body))
        return {"selectedModel": "sim/small", "configVersion": 2, "requestType": "chat", "promptTokens": 3}

    def replay(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The replay of nothing."""
        from modelpilot.learning.replay import Proposal, replay

        self.replays.append((user_id, router_id, body))
        return replay([], Proposal())

    def frontier(self, user_id: str, router_id: str, start_s: float, end_s: float) -> Frontier:
        """An empty plane."""
        return frontier([])

    def restore(self, user_id: str, router_id: str, version: int, actor: str) -> int:
        """Version 3."""
        self.restored.append((user_id, router_id, version, actor))
        return 3

    def jobs(self, user_id: str | None, limit: int) -> JobsRead:
        """None."""
        return JobsRead()


def router_site(routers: FakeRouters, access: FakeAccess | None = None) -> FlaskClient:
    """A client of a site with these routers."""
    other: Any = FakeReader(Overview())
    names = dict.fromkeys(Readers.__dataclass_fields__, other)
    readers = Readers(**{**names, "routers": routers, "workbench": routers, "jobs": routers})
    app = create_app(readers, access or FakeAccess(), FakeHasher(), DashboardConfig(), clock=lambda: NOW_S)
    client: FlaskClient = app.server.test_client()
    return client
