"""Predictors, refits on demand and replays over HTTP."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from activities.requests.caches import RouterCache
from api.http.openapi import documented_path
from api.http.registry import ROUTES, add_routes
from api.routes import predictors, replay
from modelpilot.errors import NotFound
from modelpilot.learning.refit import FittedArtifact, RefitReport, RefitRun
from modelpilot.learning.replay import LoggedRequest, ModelHistory
from modelpilot.requests.records import HistoryScope, RouterSnapshot
from modelpilot.routing.router import Router
from modelpilot.routing.selection import decide
from tests.support.fakes import FakeConfiguration
from tests.support.management_fakes import FakeStores, bearer
from tests.support.refit import FakePredictorStore, report
from tests.support.routing_samples import neighbours, profile, router, snapshot, spec

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
SCOPE = HistoryScope("alice", "support")


@dataclass
class FakeRefits:
    """`Refits` that remember what they were asked for."""

    runs: dict[HistoryScope, RefitRun] = field(default_factory=dict)

    async def start(self, scope: HistoryScope) -> RefitRun:
        self.runs[scope] = RefitRun("refit/alice/support", "running")
        return self.runs[scope]

    async def latest(self, scope: HistoryScope) -> RefitRun:
        if scope not in self.runs:
            raise NotFound("No refit of this router was asked for lately.")
        return self.runs[scope]


@dataclass
class FakeLog:
    """`DecisionLog` of one router; remembers what it was asked."""

    requests: Sequence[LoggedRequest] = ()
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    async def decisions(
        self, scope: HistoryScope, start_s: float | None, end_s: float | None, limit: int
    ) -> Sequence[LoggedRequest]:
        self.asked.append((scope, start_s, end_s, limit))
        return self.requests if scope == SCOPE else ()

    async def histories(self, scope: HistoryScope, models: Sequence[str]) -> dict[str, ModelHistory]:
        return {name: ModelHistory(50, 50, 0.99, 100.0, 10.0) for name in models if name == "sim/new"}


@dataclass
class Parts:
    """The application's collaborators in these tests."""

    stores: FakeStores
    store: FakePredictorStore = field(default_factory=FakePredictorStore)
    refits: FakeRefits = field(default_factory=FakeRefits)
    log: FakeLog = field(default_factory=FakeLog)

    def app(self, shot: RouterSnapshot) -> web.Application:
        """The application with these routes."""

        def register(app: web.Application) -> None:
            app[predictors.LEARNING] = predictors.Learning(self.store, self.refits)
            cache = RouterCache(FakeConfiguration(shot))
            app[replay.REPLAY] = replay.ReplayAccess(cache, self.log)
            add_routes(app, [*predictors.routes(), *replay.routes()])

        return self.stores.app(extra_routes=[register])


MODELS = (spec("sim/a", cost_per_output_token=1e-6, quality_score=0.5), spec("sim/b", quality_score=0.9))


def rules(**changes: Any) -> Router:
    return router("sim/a", "sim/b", objective={"cost_weight": 1.0}, **changes)


@pytest.fixture
async def parts() -> Parts:
    made = Parts(FakeStores())
    await made.stores.routers.put("alice", rules(), "key")
    made.stores.models.seed("sim/new")
    shot = snapshot(rules(), *MODELS)
    decision = decide(shot, profile(), neighbours([]), None).to_wire()
    made.log.requests = [LoggedRequest(decision, "sim/a", 0.001, 500.0, 1.0)] * 3
    return made


async def test_the_predictor_in_use_and_its_versions(aiohttp_client: Client, parts: Parts) -> None:
    """A refused fit is listed with its reason, and drops the one before; the next accepted one is in use."""
    await parts.store.add(SCOPE, 10.0, 100, FittedArtifact(b"x", report()))
    await parts.store.add(SCOPE, 20.0, 120, FittedArtifact(None, report("worse than the global mean")))
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a"))
    body = await (await client.get("/api/routers/support/predictor", headers=headers)).json()
    assert (body["version"], body["rows"], body["fittedAt"]) == (None, None, None)
    assert [(v["version"], v["accepted"]) for v in body["versions"]] == [(2, False), (1, True)]
    assert body["versions"][0]["report"] == {"refusedBecause": "worse than the global mean"}
    await parts.store.add(SCOPE, 30.0, 130, FittedArtifact(b"y", report()))
    body = await (await client.get("/api/routers/support/predictor", headers=headers)).json()
    assert (body["version"], body["rows"], body["fittedAt"]) == (3, 130, "1970-01-01T00:00:30Z")


async def test_a_router_without_a_predictor(aiohttp_client: Client, parts: Parts) -> None:
    """Nulls and an empty list; an unknown router, also another tenant's, is a 404."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a"))
    body = await (await client.get("/api/routers/support/predictor", headers=headers)).json()
    assert (body["version"], body["versions"]) == (None, [])
    stranger = bearer(parts.stores.keys.add("b", user="bob"))
    for path in ("predictor", "refit"):
        assert (await client.get(f"/api/routers/support/{path}", headers=stranger)).status == 404
    assert (await client.post("/api/routers/support/refit", headers=stranger)).status == 404
    assert parts.refits.runs == {}


async def test_a_refit_is_started_and_followed(aiohttp_client: Client, parts: Parts) -> None:
    """202 with the workflow; then how it goes, with the report at its end."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a"))
    assert (await client.get("/api/routers/support/refit", headers=headers)).status == 404
    answer = await client.post("/api/routers/support/refit", headers=headers)
    assert (answer.status, (await answer.json())["status"]) == (202, "running")
    done = RefitReport("alice", "support", "refused", 90, 2, "worse", {"held_out_rows": 9, "error": 0.2})
    parts.refits.runs[SCOPE] = RefitRun("refit/alice/support", "completed", done)
    body = await (await client.get("/api/routers/support/refit", headers=headers)).json()
    assert body["report"] == {
        "status": "refused",
        "rows": 90,
        "version": 2,
        "reason": "worse",
        "fit": {"heldOutRows": 9, "error": 0.2},
        "durationS": 0.0,
    }


@pytest.mark.parametrize(("scope", "status"), [("route", 200), ("analytics", 200), ("admin", 403)])
async def test_who_may_replay(aiohttp_client: Client, parts: Parts, scope: str, status: int) -> None:
    """Those who route and those who analyse."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a", scopes=frozenset({scope})))
    assert (await client.post("/router/support/replay", json={}, headers=headers)).status == status


async def test_a_replay_answers_what_would_change(aiohttp_client: Client, parts: Parts) -> None:
    """Other weights over the logged decisions of this router and tenant, in the range that was asked for."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a"))
    asked = {"objective": {"qualityWeight": 1.0}, "from": "2026-01-01T00:00:00Z", "limit": 7}
    answer = await client.post("/router/support/replay", json=asked, headers=headers)
    body = await answer.json()
    assert answer.status == 200, body
    assert (body["requests"], body["changedShare"], body["routerId"]) == (3, 1.0, "support")
    assert body["proposed"]["objective"]["qualityWeight"] == 1.0
    assert body["predicted"]["quality"]["difference"]["mean"] == pytest.approx(0.4)
    assert parts.log.asked == [(SCOPE, 1_767_225_600.0, None, 7)]


async def test_a_model_that_was_no_candidate(aiohttp_client: Client, parts: Parts) -> None:
    """It is taken in where the router has seen it at other times, and named where nobody knows it."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a"))
    asked = {"objective": {"qualityWeight": 1.0}, "availableModels": ["sim/a", "sim/new", "nowhere"]}
    body = await (await client.post("/router/support/replay", json=asked, headers=headers)).json()
    assert body["models"][0]["model"] == "sim/new"
    assert body["models"][0]["proposedShare"] == 1.0
    assert [each["model"] for each in body["thinEvidence"]["notConsidered"]] == ["nowhere"]


async def test_keys_for_other_routers_may_not_replay(aiohttp_client: Client, parts: Parts) -> None:
    """`allowedRouters` holds here as well, and another tenant's router does not exist."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    limited = bearer(parts.stores.keys.add("c", allowed_routers=frozenset({"other"})))
    assert (await client.post("/router/support/replay", json={}, headers=limited)).status == 403
    assert parts.log.asked == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"exploration": 2}, "exploration"),
        ({"availableModels": []}, "availableModels"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-01-01T00:00:00"}, "from"),
        ({"objective": {"costWeight": -1}}, "objective.costWeight"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_bad_fields_are_named(aiohttp_client: Client, parts: Parts, body: dict[str, Any], param: str) -> None:
    """A 422 that says which field."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a"))
    answer = await client.post("/router/support/replay", json=body, headers=headers)
    assert (answer.status, (await answer.json())["error"]["param"]) == (422, param)


async def test_a_range_that_ends_before_it_begins(aiohttp_client: Client, parts: Parts) -> None:
    """A 422, not an empty answer."""
    client = await aiohttp_client(parts.app(snapshot(rules(), *MODELS)))
    headers = bearer(parts.stores.keys.add("a"))
    body = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    answer = await client.post("/router/support/replay", json=body, headers=headers)
    assert answer.status == 422


DOCUMENT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_document_has_these_routes_and_a_body_that_works(parts: Parts) -> None:
    """Every route with its scope, and the example of a replay as it can be pasted."""
    specs = parts.app(snapshot(rules(), *MODELS))[ROUTES].specs()
    mine = [spec for spec in specs if re.search(r"/(predictor|refit|replay)$", spec.path)]
    assert len(mine) == 4
    for route in mine:
        path = re.escape(documented_path(route.path).replace("{routerId}", "{id}").replace("{router_id}", "{id}"))
        assert re.search(rf"`{route.method} {path}` \| {route.scope}\b", DOCUMENT)
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)]
    assert [replay.ReplayBody.model_validate(each) for each in examples if "limit" in each and "objective" in each]
