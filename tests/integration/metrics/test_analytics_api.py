"""The analytics API over a real Postgres: filters, pages, CSV, totals, and nobody else's rows."""

import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.http import responses
from api.routes import analytics
from api.routes.analytics_views import RequestItem
from infra.db.engine import Database
from infra.db.metrics.aggregation import PostgresAggregator
from infra.db.metrics.analytics import PostgresMetrics
from infra.db.metrics.dimensions import PostgresDimensions
from tests.support.aggregation import HOUR, Requests
from tests.support.management_fakes import FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
REQUEST_FIELDS = """requestId routerId timestamp model provider latencyMs ttftMs overheadMs costUsd tokens success
    requestType quality attempts degraded"""
HOURLY_FIELDS = """hour routerId model provider requests successCount successRate totalLatencyMs avgLatencyMs
    totalCostUsd avgCostUsd p50LatencyMs p95LatencyMs inputTokens outputTokens updatedAt"""


@dataclass
class Site:
    """A gateway's analytics routes over a database, and a way to write requests."""

    client: TestClient[web.Request, web.Application]
    stores: FakeStores
    database: Database
    requests: Requests

    async def get(self, path: str, user: str = "alice", **params: Any) -> tuple[int, Any]:
        """Status and JSON of `/api/analytics/{path}`, asked by a key of `user` with the scope `analytics`."""
        name = f"key-{len(self.stores.keys.rows)}"
        key = self.stores.keys.add(name, user=user, scopes=frozenset({"analytics"}), **params.pop("key", {}))
        response = await self.client.get(f"/api/analytics/{path}", params=params, headers=bearer(key))
        return response.status, await response.json()

    async def csv(self, path: str, **params: Any) -> list[dict[str, str]]:
        """The rows of a CSV answer."""
        key = self.stores.keys.add("alice", scopes=frozenset({"analytics"}))
        params["format"] = "csv"
        response = await self.client.get(f"/api/analytics/{path}", params=params, headers=bearer(key))
        assert (response.status, response.content_type) == (200, "text/csv")
        return list(csv.DictReader(StringIO(await response.text())))

    async def aggregate(self) -> None:
        """Compute all hours that are noted."""
        aggregator = PostgresAggregator(self.database)
        await aggregator.plan()
        for hour in await aggregator.next_hours(1_000):
            await aggregator.aggregate(hour)


@pytest.fixture
async def site(migrated_url: str, aiohttp_client: Client) -> AsyncIterator[Site]:
    async with Database(migrated_url) as database:
        stores, requests = FakeStores(), Requests(database)
        metrics, dimensions = PostgresMetrics(database), PostgresDimensions(database)
        app = stores.app(extra_routes=[lambda made: analytics.register(made, metrics, dimensions)])
        yield Site(await aiohttp_client(app), stores, database, requests)
        await requests.close()


async def test_items_of_requests(site: Site) -> None:
    """The fields of the contract, by the letter, and their values."""
    await site.requests.add(HOUR + timedelta(minutes=1), degraded=("vector",), quality=None)
    status, page = await site.get("requests")
    (item,) = page["items"]
    assert (status, page["nextCursor"]) == (200, None)
    assert set(REQUEST_FIELDS.split()) <= set(item)
    assert (item["timestamp"], item["routerId"]) == ("2026-03-02T10:01:00Z", "support")
    assert item["tokens"] == {"input": 12, "output": 34, "total": 46, "cached": 5, "reasoning": 6}
    assert (item["attempts"], item["degraded"], item["quality"]) == (1, ["vector"], None)
    assert (item["latencyMs"], item["costUsd"], item["carbonG"], item["success"]) == (800.0, 0.002, 0.2, True)


async def test_items_of_hours(site: Site) -> None:
    """The fields of the contract, by the letter, and their values."""
    await site.requests.add(HOUR + timedelta(minutes=1), count=2)
    await site.aggregate()
    status, page = await site.get("hourly")
    (item,) = page["items"]
    assert status == 200
    assert set(HOURLY_FIELDS.split()) <= set(item)
    assert (item["hour"], item["requests"], item["successRate"]) == ("2026-03-02T10:00:00Z", 2, 1.0)
    assert (item["totalCostUsd"], item["avgCostUsd"]) == (0.004, 0.002)


@pytest.mark.parametrize("kind", ["requests", "hourly"])
async def test_pages_have_every_row_once(site: Site, kind: str) -> None:
    """Cursors stay right where rows share a time, and where new ones come in between."""
    for number in range(7):
        await site.requests.add(HOUR, model=f"m{number % 4}")
        await site.requests.add(HOUR + timedelta(hours=number))
    await site.aggregate()
    _, whole = await site.get(kind, limit=1_000)
    seen: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        _, page = await site.get(kind, limit=3, cursor=cursor)
        assert len(page["items"]) <= 3
        seen += page["items"]
        cursor = page["nextCursor"]
        await site.requests.add(datetime.now(UTC))
    assert seen == whole["items"]
    assert len(seen) > 9


async def test_filters(site: Site) -> None:
    """Each narrows both lists; the range is half-open, in ISO 8601 or Unix seconds."""
    await site.requests.add(HOUR, model="a")
    await site.requests.add(HOUR + timedelta(hours=1), model="b", provider="other")
    await site.requests.add(HOUR + timedelta(hours=2), model="a", router_id=None)
    await site.aggregate()
    at = HOUR + timedelta(hours=1)
    for params, models in (
        ({"model": "a"}, ["a", "a"]),
        ({"provider": "other"}, ["b"]),
        ({"routerId": "support"}, ["b", "a"]),
        ({"routerId": ""}, ["a"]),
        ({"routerId": "absent"}, []),
        ({"from": at.isoformat()}, ["a", "b"]),
        ({"to": at.isoformat()}, ["a"]),
        ({"from": "2026-03-02T11:00:00Z", "to": "2026-03-02T12:00:00+00:00"}, ["b"]),
        ({"from": "2026-03-02T11:00"}, ["a", "b"]),
        ({"from": str(at.timestamp()), "to": str(int(at.timestamp()) + 1)}, ["b"]),
    ):
        for kind in ("requests", "hourly"):
            status, page = await site.get(kind, **params)
            assert (status, [item["model"] for item in page["items"]]) == (200, models), (kind, params)
        assert (await site.get("summary", **params))[1]["requests"] == len(models)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"from": "yesterday"}, "from"), ({"to": "nan"}, "to"), ({"from": "1e999"}, "from"), ({"to": "-5"}, "to"),
        ({"from": "999999999999"}, "from"), ({"limit": "0"}, "limit"), ({"limit": "1001"}, "limit"),
        ({"limit": "x"}, "limit"), ({"cursor": "x"}, "cursor"), ({"cursor": "WzEsMl0"}, "cursor"),
        ({"format": "xml"}, "format"), ({"router": "support"}, "router"), ({"model": "a\0b"}, "model"),
        ({"from": "2026-03-03", "to": "2026-03-02"}, "from"), ({"from": "0001-01-01"}, "from"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["requests", "hourly"])
async def test_bad_parameters_are_named(site: Site, kind: str, params: dict[str, str], named: str) -> None:
    """A wrong or unknown parameter is refused: ignored, it would show other rows than were asked for."""
    status, body = await site.get(kind, **params)
    assert (status, body["error"]["param"]) == (422, named)


async def test_nobody_elses_rows(site: Site) -> None:
    """A tenant sees its own; a key that is bound to routers sees those, and no direct calls."""
    await site.requests.add(HOUR)
    await site.requests.add(HOUR, router_id="sales")
    await site.requests.add(HOUR, router_id=None)
    await site.requests.add(HOUR, user="bob", count=2)
    await site.aggregate()
    bound = {"allowed_routers": frozenset({"support"})}
    for kind in ("requests", "hourly"):
        assert [item["routerId"] for item in (await site.get(kind, key=bound))[1]["items"]] == ["support"]
    assert len((await site.get("requests"))[1]["items"]) == 3
    assert len((await site.get("requests", user="bob"))[1]["items"]) == 2
    assert (await site.get("summary", key=bound))[1]["requests"] == 1
    assert (await site.get("summary", user="mallory"))[1]["requests"] == 0
    for kind in ("requests", "hourly", "summary"):
        status, body = await site.get(kind, key=bound, routerId="sales")
        assert (status, body["error"]["param"]) == (403, "routerId")


@pytest.mark.parametrize("kind", ["requests", "hourly", "summary"])
async def test_scopes(site: Site, kind: str) -> None:
    """Keys of applications read no analytics; those of admins do."""
    for scope, expected in (("route", 403), ("admin", 200), ("analytics", 200)):
        key = site.stores.keys.add(f"of-{scope}", scopes=frozenset({scope}))
        response = await site.client.get(f"/api/analytics/{kind}", headers=bearer(key))
        assert response.status == expected


async def test_csv_is_the_list(site: Site) -> None:
    """With the columns of the JSON, and no cell that a spreadsheet would run."""
    await site.requests.add(HOUR, count=5, session_id='=HYPERLINK("x"), "quoted"', cost_usd=None)
    await site.requests.add(HOUR, session_id="@cmd", degraded=("vector", "x"))
    rows = await site.csv("requests")
    _, page = await site.get("requests")
    assert [row["requestId"] for row in rows] == [item["requestId"] for item in page["items"]]
    (first, *_), last = page["items"], rows[-1]
    assert list(rows[0]) == list(responses.columns_of(RequestItem))
    assert first.keys() == {name.partition(".")[0] for name in rows[0]}
    assert (rows[0]["sessionId"], rows[0]["degraded"]) == ("'@cmd", "vector x")
    assert (last["sessionId"], last["costUsd"]) == ('\'=HYPERLINK("x"), "quoted"', "")
    assert (last["tokens.total"], last["success"], float(last["latencyMs"])) == ("46", "true", 800.0)
    await site.aggregate()
    assert [row["requests"] for row in await site.csv("hourly")] == ["6"]


async def spent(site: Site) -> None:
    """Requests of two people and teams, and embeddings, all of one hour."""
    await site.requests.add(
        HOUR, end_user="ann", tags={"team": "red", "env": "test"}, cost_usd=0.25, session_id="of-ann"
    )
    await site.requests.add(HOUR, end_user="ann", tags={"team": "blue"}, cost_usd=0.5, api_key_id="k2")
    await site.requests.add(HOUR, count=2, tags={"team": "blue", "customer": "é"}, cost_usd=1.0)
    await site.requests.add(HOUR, purpose="embedding", decision={}, tags={"team": "red"}, cost_usd=0.125)


@pytest.mark.parametrize(
    ("filters", "requests", "usd"),
    [
        ({}, 4, 2.875),
        ({"tag.team": "red"}, 1, 0.375),
        ({"tag.team": "blue", "tag.customer": "é"}, 2, 2.0),
        ({"tag.team": "green"}, 0, 0.0),
        ({"userId": "ann"}, 2, 0.75),
        ({"userId": ""}, 2, 2.125),
        ({"keyId": "k2"}, 1, 0.5),
        ({"sessionId": "of-ann"}, 1, 0.25),
        ({"purpose": "embedding"}, 0, 0.125),
        ({"purpose": "request"}, 4, 2.75),
        ({"routerId": "support", "tag.team": "red", "purpose": "request"}, 1, 0.25),
    ],
)
async def test_whose_spend(site: Site, filters: dict[str, str], requests: int, usd: float) -> None:
    """By user, key, session, tags and purpose: sums, list and CSV agree; costs count whatever they were paid for."""
    await spent(site)
    await site.aggregate()
    _, summary = await site.get("summary", **filters)
    assert (summary["requests"], summary["totalCostUsd"]) == (requests, usd)
    _, page = await site.get("requests", **filters)
    assert sum(item["costUsd"] for item in page["items"]) == usd
    assert sum(item["purpose"] == "request" for item in page["items"]) == requests
    assert sum(float(row["costUsd"]) for row in await site.csv("requests", **filters)) == usd


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("tag.team", {"blue": (3, 2.5), "red": (1, 0.375)}),
        ("tag.customer", {"": (2, 0.875), "é": (2, 2.0)}),
        ("userId", {"": (2, 2.125), "ann": (2, 0.75)}),
        ("purpose", {"request": (4, 2.75), "embedding": (0, 0.125)}),
        ("model", {"sim/small": (4, 2.875)}),
        ("routerId", {"support": (4, 2.875)}),
    ],
)
@pytest.mark.parametrize("aggregated", [False, True])
async def test_spend_by_dimension(site: Site, by: str, groups: dict[str, tuple[int, float]], aggregated: bool) -> None:
    """The groups add up to the whole, from single requests as from hours; the dearest come first."""
    await spent(site)
    if aggregated:
        await site.aggregate()
    _, summary = await site.get("summary", groupBy=by)
    assert {each["key"]: (each["requests"], each["totalCostUsd"]) for each in summary["groups"]} == groups
    assert sum(each["totalCostUsd"] for each in summary["groups"]) == summary["totalCostUsd"]
    costs = [each["totalCostUsd"] for each in summary["groups"]]
    assert costs == sorted(costs, reverse=True)


async def test_rates_and_hours_are_about_requests(site: Site) -> None:
    """Embeddings cost something, and are neither quick answers nor successes."""
    await spent(site)
    await site.requests.add(HOUR, status="failed", finish_reason=None, cost_usd=0.0)
    for aggregated in (False, True):
        if aggregated:
            await site.aggregate()
        _, summary = await site.get("summary")
        assert (summary["requests"], summary["successRate"], summary["totalCostUsd"]) == (5, 0.8, 2.875)
    _, page = await site.get("hourly")
    assert sum(item["totalCostUsd"] for item in page["items"]) == 2.875
    assert [item["successRate"] for item in page["items"]] == [0.8]


@pytest.mark.parametrize("by", ["", "tag.", "team", "user_id", "tag"])
async def test_unknown_groups_are_refused(site: Site, by: str) -> None:
    """And not taken for something else."""
    status, answer = await site.get("summary", groupBy=by)
    assert (status, answer["error"]["param"]) == (422, "groupBy")


async def test_counts_of_before_break_no_hour(site: Site) -> None:
    """Rows that hold what a provider claimed once, beyond what a sum of three can hold, cost only themselves."""
    ids = await site.requests.add(HOUR, count=3)
    await site.requests.add(HOUR, user="bob")
    await site.database.fetch_all("UPDATE requests SET input_tokens = %s WHERE request_id = ANY (%s)", (2**62, ids))
    await site.aggregate()
    assert [item["requests"] for item in (await site.get("hourly"))[1]["items"]] == [3]
    assert [item["requests"] for item in (await site.get("hourly", user="bob"))[1]["items"]] == [1]
    assert (await site.get("summary"))[0] == 200


async def test_csv_has_every_page(site: Site) -> None:
    """A list that is longer than a page is whole, each request once, newest first."""
    await site.requests.add(HOUR, count=responses.PAGE_ROWS + 5)
    rows = await site.csv("requests")
    assert len({row["requestId"] for row in rows}) == len(rows) == responses.PAGE_ROWS + 5


async def test_a_summary_joins_hours_and_single_requests(site: Site) -> None:
    """Whole hours from hourly rows, the cut ones and those with late rows from single requests: the same sums."""
    long_ago = datetime.now(UTC) - timedelta(hours=5)
    for hour in range(4):
        for minute in (10, 40):
            await site.requests.add(HOUR + timedelta(hours=hour, minutes=minute), recorded=long_ago, cost_usd=0.25)
    await site.aggregate()
    since, until = HOUR + timedelta(minutes=30), HOUR + timedelta(hours=3, minutes=30)
    _, cut = await site.get("summary", **{"from": since.isoformat(), "to": until.isoformat()})
    assert (cut["requests"], cut["totalCostUsd"], cut["hoursFromMetrics"]) == (6, 1.5, 2)
    assert (cut["inputTokens"], cut["totalTokens"], cut["avgLatencyMs"], cut["avgCostUsd"]) == (72, 276, 800.0, 0.25)
    assert (cut["successRate"], cut["avgQuality"]) == (1.0, pytest.approx(0.9))
    _, whole = await site.get("summary")
    assert (whole["requests"], whole["from"]) == (8, None)
    await site.requests.add(HOUR + timedelta(hours=1, minutes=5))
    await PostgresAggregator(site.database).plan()
    _, stale = await site.get("summary", **{"from": since.isoformat(), "to": until.isoformat()})
    assert (stale["requests"], stale["hoursFromMetrics"]) == (7, 1)
    await site.requests.add(datetime.now(UTC))
    assert (await site.get("summary"))[1]["requests"] == 10


async def test_a_summary_before_any_aggregation(site: Site) -> None:
    """A fresh installation answers from single requests; an empty one says nothing it does not know."""
    _, nothing = await site.get("summary")
    assert (nothing["requests"], nothing["successRate"], nothing["aggregatedThrough"]) == (0, None, None)
    await site.requests.add(HOUR, count=2)
    _, found = await site.get("summary")
    assert (found["requests"], found["hoursFromMetrics"]) == (2, 0)


async def test_savings_say_what_they_rest_on(site: Site) -> None:
    """Saved against each baseline, over how many requests, and how many of its figures were predictions."""
    await site.requests.add(HOUR, cost_usd=0.002, carbon_g=0.2)
    await site.requests.add(HOUR, model="sim/large", cost_usd=0.03)
    await site.requests.add(HOUR, decision={})
    await site.requests.add(HOUR, status="failed", finish_reason=None)
    _, raw = await site.get("summary")
    await site.aggregate()
    _, hourly = await site.get("summary")
    assert hourly["hoursFromMetrics"] > 0
    for summary in (raw, hourly):
        savings = summary["savings"]
        best = next(each for each in savings["baselines"] if each["baseline"] == "alwaysBest")
        assert (savings["completed"], best["requests"], best["estimatedRequests"]) == (3, 2, 1)
        # Sim/large answered once, for 0.03 where 0.02 had been predicted: so it would have cost about that again.
        assert best["savedCostLowUsd"] < 0.030 - 0.002 < best["savedCostHighUsd"]
        assert best["savedCostUsd"] == pytest.approx(0.030 - 0.002, rel=0.05)
        assert best["baselineCostUsd"] == pytest.approx(best["actualCostUsd"] + best["savedCostUsd"])
        assert best["savedCostShare"] == pytest.approx(best["savedCostUsd"] / best["baselineCostUsd"])
        assert savings["actualByPredictedCost"] == pytest.approx(0.032 / 0.021)
        assert "Measured" in savings["statement"]
    assert raw["savings"] == hourly["savings"]
    (line,) = await site.csv("summary")
    assert float(line["alwaysBest.savedCostUsd"]) == best["savedCostUsd"]
    assert (float(line["totalCostUsd"]), line["requests"]) == (hourly["totalCostUsd"], "4")
    lines = await site.csv("summary", groupBy="model")
    assert [(each["key"], float(each["totalCostUsd"])) for each in lines] == [("sim/large", 0.03), ("sim/small", 0.006)]
