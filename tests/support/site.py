"""The analytics site over its WSGI interface, with readers and users that a test gives."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flask.testing import FlaskClient

from bench.site.bench import body_of, specs_of
from dashboard.app import create_app
from dashboard.config import DashboardConfig
from modelpilot.errors import DependencyUnavailable
from modelpilot.learning.replay.frontier import Frontier, frontier
from modelpilot.management.site import Credentials, Role, SiteUser, Visitor
from modelpilot.metrics.jobs import JobsRead
from modelpilot.metrics.overview import BY_MODEL, Choices, Overview, SpendQuestion
from modelpilot.metrics.requests import AnalyticsScope, DataSpan
from modelpilot.metrics.use import RouterUse, RouterVersion

NOW_S = 1_800_014_400.0  # 2027-01-15 12:00:00 UTC
PASSWORD = "correct horse battery"


class FakeReader:
    """Answers with one overview, or raises; remembers what it was asked."""

    def __init__(self, answer: Overview | Exception, tenants: tuple[str, ...] = ("u1", "u2")) -> None:
        self.answer, self.known_tenants = answer, tenants
        self.asked: list[tuple[AnalyticsScope, int, int]] = []

    def overview(
        self, scope: AnalyticsScope, bucket_s: int, recent_limit: int, spend: SpendQuestion = BY_MODEL
    ) -> Overview:
        """The overview given."""
        self.asked.append((scope, bucket_s, recent_limit))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def choices(self, user_id: str | None) -> Choices:
        """One of each."""
        if isinstance(self.answer, DependencyUnavailable):
            raise self.answer
        return Choices(("demo",), ("sim/small",), ("simulator",))

    def span(self, user_id: str | None) -> DataSpan | None:
        """The last hour."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return DataSpan(NOW_S - 3_600.0, NOW_S)

    def tenants(self) -> tuple[str, ...]:
        """Those given."""
        return self.known_tenants


class FakeHasher:
    """Quick and reversible; counts how often a password was compared."""

    def __init__(self) -> None:
        self.compared = 0

    def hash(self, password: str) -> str:
        """Not a hash at all."""
        return f"hash of {password}"

    def matches(self, stored: str, password: str) -> bool:
        """Whether it is the one."""
        self.compared += 1
        return stored == self.hash(password)


class FakeAccess:
    """Users and sessions in memory. `away` makes every call fail like a database that cannot be reached."""

    def __init__(self, *users: SiteUser) -> None:
        self.users = {one.username: one for one in users}
        self.sessions: dict[bytes, str] = {}
        self.attempts: dict[bytes, int] = {}
        self.away = False

    def _ask(self) -> None:
        if self.away:
            raise DependencyUnavailable("Postgres is not reachable.")

    def any_user(self) -> bool:
        """Whether there are any."""
        self._ask()
        return bool(self.users)

    def credentials(self, username: str) -> Credentials | None:
        """Everybody has the same password."""
        self._ask()
        user = self.users.get(username)
        return Credentials(user, FakeHasher().hash(PASSWORD)) if user else None

    def begin_session(self, token_hash: bytes, username: str) -> None:
        """Remember it."""
        self._ask()
        self.sessions[token_hash] = username

    def visitor(self, token_hash: bytes) -> Visitor | None:
        """Whose session it is."""
        self._ask()
        user = self.users.get(self.sessions.get(token_hash, ""))
        return Visitor(user.username, user.user_id, user.role) if user and user.active else None

    def end_session(self, token_hash: bytes) -> None:
        """Forget it."""
        self._ask()
        self.sessions.pop(token_hash, None)

    def reserve_attempt(self, key: bytes, limit: int, window_s: float) -> float:
        """The whole window is refused."""
        self._ask()
        self.attempts[key] = self.attempts.get(key, 0) + 1
        return window_s if self.attempts[key] > limit else 0.0

    def forgive_attempt(self, key: bytes, *, all_of_them: bool) -> None:
        """Forget one or all."""
        self.attempts[key] = 0 if all_of_them else self.attempts[key] - 1


def user(username: str, tenant: str, role: Role = "viewer", *, active: bool = True) -> SiteUser:
    """A user of the site."""
    return SiteUser(username, tenant, role, active, created_at=0.0)


def site(
    answer: Overview | Exception,
    config: DashboardConfig | None = None,
    access: FakeAccess | None = None,
    hasher: FakeHasher | None = None,
) -> tuple[FlaskClient, FakeReader]:
    """A client of a site and the reader behind it. Without users it is open to its operator."""
    reader = FakeReader(answer)
    # Whatever a page reads from: those that a test opens are the ones that this reader can play.
    every: Any = reader
    app = create_app(
        every,
        every,
        access or FakeAccess(),
        hasher or FakeHasher(),
        config or DashboardConfig(temporal_ui_url="http://127.0.0.1:8233"),
        clock=lambda: NOW_S,
    )
    return app.server.test_client(), reader


def log_in(client: FlaskClient, username: str, password: str = PASSWORD, **form: str) -> Any:
    """Fill in the login form; the answer to it. `form` replaces its fields."""
    page = client.get("/login").text
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    fields = {"csrf": csrf, "next": "/", "username": username, "password": password, **form}
    return client.post("/login", data=fields)


def callback_body(client: FlaskClient, component: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a browser posts for the callback that has an output on `component`, or on one of its properties
    (`component.data`); `values` are its inputs by id."""
    wanted = component if "." in component else f"{component}."
    return body_of(next(one for one in specs_of(client) if wanted in one["output"]), values)


def call(client: FlaskClient, component: str, values: Mapping[str, Any], changed: str | None = None) -> dict[str, Any]:
    """Run a callback as the browser would; what it put where. `changed` names the one input that triggered it."""
    body = callback_body(client, component, values)
    if changed is not None:
        body["changedPropIds"] = [name for name in body["changedPropIds"] if name.startswith(f"{changed}.")]
    response = client.post("/_dash-update-component", json=body)
    assert response.status_code in (200, 204), response.text
    answer: dict[str, Any] = json.loads(response.text) if response.text else {}
    return {**answer.get("response", {}), "sideUpdate": answer.get("sideUpdate")}


# The pages about routers over WSGI, with routers, jobs and a workbench that a test gives.

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


class FakeRouters(FakeReader):
    """Plays `SiteReader` for these pages, and `Workbench`; remembers what was restored and asked."""

    def __init__(self, *routers: RouterUse) -> None:
        super().__init__(Overview())
        self.known = routers
        self.reset: list[tuple[str, str]] = []
        self.restored: list[tuple[str, str, int, str]] = []
        self.explained: list[tuple[str, str, Mapping[str, Any]]] = []
        self.replays: list[tuple[str, str, Mapping[str, Any]]] = []

    def routers(self, scope: AnalyticsScope) -> Sequence[RouterUse]:
        """Those of the tenant."""
        return [one for one in self.known if scope.user_id in (None, one.user_id)]

    def router_versions(self, user_id: str, router_id: str) -> Sequence[RouterVersion]:
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

    def reset_health(self, user_id: str, actor: str) -> None:
        """Remember who asked."""
        self.reset.append((user_id, actor))

    def restore(self, user_id: str, router_id: str, version: int, actor: str) -> int:
        """Version 3."""
        self.restored.append((user_id, router_id, version, actor))
        return 3

    def jobs(self, user_id: str | None, limit: int) -> JobsRead:
        """None."""
        return JobsRead()


def router_site(routers: FakeRouters, access: FakeAccess | None = None) -> FlaskClient:
    """A client of a site with these routers."""
    reader: Any = routers
    app = create_app(reader, routers, access or FakeAccess(), FakeHasher(), DashboardConfig(), clock=lambda: NOW_S)
    client: FlaskClient = app.server.test_client()
    return client
