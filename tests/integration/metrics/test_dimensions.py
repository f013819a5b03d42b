"""Whose spend over a real Postgres: hourly sums by dimension are those of the single requests, whatever happens."""

import asyncio
import csv
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.routes import analytics
from infra.db.engine import Database
from infra.db.metrics.aggregation import PostgresAggregator
from infra.db.metrics.analytics import PostgresMetrics
from infra.db.metrics.dimensions import PostgresDimensions, forget_value
from infra.db.requests.housekeeping import PostgresRetention
from modelpilot.metrics.dimensions import MOST_TAGS, MOST_VALUES, OTHER
from tests.support.aggregation import HOUR, Requests, rows_of
from tests.support.management_fakes import FakeStores, bearer
from tests.support.processes import until

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
# What each group is about, as single requests have it.
GROUPS: dict[str, Callable[[dict[str, Any]], str]] = {
    "userId": lambda item: item["userId"] or "",
    "keyId": lambda item: item["keyId"] or "",
    "purpose": lambda item: item["purpose"],
    "sessionId": lambda item: item["sessionId"] or "",
    "requestType": lambda item: item["requestType"],
    "model": lambda item: item["model"],
    "provider": lambda item: item["provider"],
    "routerId": lambda item: item["routerId"] or "",
    "tag.team": lambda item: item["tags"].get("team", ""),
    "tag.customer": lambda item: item["tags"].get("customer", ""),
}
HOURLY = tuple(group for group in GROUPS if group not in ("sessionId", "requestType"))
WAITING = "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
DOCUMENT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
WHOLE = {"from": HOUR.isoformat(), "to": (HOUR + timedelta(hours=3)).isoformat()}
Sums = dict[str, tuple[int, float]]


@dataclass
class Site:
    """The analytics routes over a database with requests of two tenants, and the jobs that work on it."""

    client: TestClient[web.Request, web.Application]
    stores: FakeStores
    url: str
    database: Database
    requests: Requests

    async def get(self, path: str, user: str = "alice", **params: Any) -> Any:
        """The JSON of `/api/analytics/{path}`."""
        status, answer = await self.ask("GET", path, user, params=params)
        assert status == 200, answer
        return answer

    async def ask(self, method: str, path: str, user: str = "alice", **request: Any) -> tuple[int, Any]:
        """Status and answer; CSV as its rows."""
        key = self.stores.keys.add(f"k{len(self.stores.keys.rows)}", user=user, scopes=frozenset({"admin"}))
        url = f"/api/analytics/{path}"
        async with self.client.request(method, url, headers=bearer(key), **request) as response:
            if response.content_type == "text/csv":
                return response.status, list(csv.DictReader(StringIO(await response.text())))
            return response.status, await response.json()

    async def choose(self, *tags: str, user: str = "alice") -> Any:
        """Make these the dimensions."""
        status, answer = await self.ask("PUT", "dimensions", user, json={"tags": list(tags)})
        assert status == 200, answer
        return answer

    async def aggregate(self) -> int:
        """Compute all hours that are noted; how many."""
        aggregator = PostgresAggregator(self.database)
        await aggregator.plan()
        hours = await aggregator.next_hours(1_000)
        for hour in hours:
            await aggregator.aggregate(hour)
        return len(hours)

    async def raw(self, group: str, user: str = "alice", **params: Any) -> Sums:
        """Requests and costs by group, added up over single requests."""
        page = await self.get("requests", user, limit=1_000, **params)
        assert page["nextCursor"] is None
        found: Sums = {}
        for item in page["items"]:
            requests, usd = found.get(GROUPS[group](item), (0, 0.0))
            found[GROUPS[group](item)] = (requests + (item["purpose"] == "request"), usd + item["costUsd"])
        return found

    async def summed(self, group: str, user: str = "alice", **params: Any) -> Sums:
        """The same from the summary, which has to add up to its totals."""
        summary = await self.get("summary", user, groupBy=group, **params)
        assert sum(each["totalCostUsd"] for each in summary["groups"]) == summary["totalCostUsd"]
        assert sum(each["requests"] for each in summary["groups"]) == summary["requests"]
        return {each["key"]: (each["requests"], each["totalCostUsd"]) for each in summary["groups"]}

    async def hourly(self, group: str, user: str = "alice", **params: Any) -> Sums:
        """The same from hourly rows, in pages and as CSV, which have to be alike."""
        found: Sums = {}
        items: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await self.get("hourly", user, groupBy=group, cursor=cursor, limit=3, **params)
            items, cursor = items + page["items"], page["nextCursor"]
        for item in items:
            requests, usd = found.get(item["key"], (0, 0.0))
            found[item["key"]] = (requests + item["requests"], usd + item["totalCostUsd"])
        _, rows = await self.ask("GET", "hourly", user, params={"groupBy": group, "format": "csv", **params})
        assert [(row["key"].removeprefix("'"), float(row["totalCostUsd"])) for row in rows] == [
            (item["key"], item["totalCostUsd"]) for item in items
        ]
        return found

    async def check(self, user: str = "alice") -> None:
        """All ways to ask for every dimension say the same, unfiltered and filtered by each value of another."""
        for group in GROUPS:
            expected = await self.raw(group, user)
            assert await self.summed(group, user) == expected, group
            if group in HOURLY:
                assert await self.hourly(group, user) == expected, group
            for value in expected if group in HOURLY else ():
                assert await self.raw("model", user, **{group: value}) == await self.summed(
                    "model", user, **{group: value}
                )
                assert await self.summed("model", user, **{group: value}) == await self.hourly(
                    "model", user, **{group: value}
                )
                assert await self.raw("userId", user, **{group: value}) == await self.summed(
                    "userId", user, **{group: value}
                )


@pytest.fixture
async def site(migrated_url: str, aiohttp_client: Client) -> AsyncIterator[Site]:
    async with Database(migrated_url) as database:
        stores, requests = FakeStores(), Requests(database)
        metrics, dimensions = PostgresMetrics(database), PostgresDimensions(database)
        app = stores.app(extra_routes=[lambda made: analytics.register(made, metrics, dimensions)])
        yield Site(await aiohttp_client(app), stores, migrated_url, database, requests)
        await requests.close()


async def spent(site: Site, user: str = "alice", hours: int = 3) -> None:
    """Requests of several people, keys, teams and customers, and embeddings, in every hour. Costs are exact."""
    for hour in range(hours):
        at = HOUR + timedelta(hours=hour, minutes=7)
        add = site.requests.add
        tags = {"team": "red", "customer": "acme", "run": str(hour)}
        await add(at, user=user, end_user="ann", tags=tags, cost_usd=0.25, session_id="s1")
        await add(
            at, user=user, end_user="ann", tags={"team": "blue"}, cost_usd=0.5, api_key_id="k2", model="sim/large"
        )
        await add(at, user=user, count=2, tags={"team": "blue", "customer": "é=, '"}, cost_usd=1.0, router_id="sales")
        await add(at, user=user, purpose="embedding", decision={}, tags={"team": "red"}, cost_usd=0.125)
        await add(at, user=user, tags={"team": "", "customer": "acme"}, end_user="=1+1", cost_usd=2.0, router_id=None)


async def test_every_way_to_ask_says_the_same(site: Site) -> None:
    """Raw, hourly, grouped, filtered and as CSV: before and after an aggregation, a second one, and late rows."""
    await spent(site)
    await site.choose("team", "customer")
    await site.aggregate()
    await site.check()
    assert await site.aggregate() > 0  # rows of the last minutes are looked at again
    await site.check()
    await site.requests.add(HOUR + timedelta(minutes=50), tags={"customer": "late"}, cost_usd=4.0, end_user="bea")
    await site.aggregate()
    assert (await site.summed("tag.customer"))["late"] == (1, 4.0)
    await site.check()


async def test_whole_hours_come_from_hourly_rows(site: Site) -> None:
    """And only these, so that a range outlives its single requests; edges are single requests."""
    await spent(site)
    await site.choose("team")
    await site.aggregate()
    cut = {"from": (HOUR + timedelta(minutes=30)).isoformat(), "to": (HOUR + timedelta(hours=2.5)).isoformat()}
    for group in ("tag.team", "userId", "keyId", "purpose"):
        answer = await site.get("summary", groupBy=group, **cut)
        assert (answer["hoursFromMetrics"], answer["groupHoursFromMetrics"]) == (1, 1)
        assert await site.summed(group, **cut) == await site.raw(group, **cut)
    for params in ({"groupBy": "sessionId"}, {"groupBy": "userId", "tag.team": "red"}, {"groupBy": "tag.customer"}):
        assert (await site.get("summary", **WHOLE, **params))["groupHoursFromMetrics"] == 0
    assert (await site.get("summary", **WHOLE, **{"tag.team": "red"}))["hoursFromMetrics"] == 3
    before = {group: await site.summed(group) for group in ("tag.team", "userId", "model")}
    by_model = await site.summed("model", **{"tag.team": "blue"})
    with psycopg.connect(site.url) as connection:
        connection.execute("DELETE FROM requests")
    assert {group: await site.summed(group, **WHOLE) for group in before} == before
    assert await site.summed("model", **{"tag.team": "blue"}, **WHOLE) == by_model


async def test_a_later_dimension_is_back_filled(site: Site) -> None:
    """Its hours wait, visibly; until they are computed it is read from single requests, and nothing else is. No file
    of the warehouse is written again for it."""
    await spent(site)
    await site.aggregate()
    with psycopg.connect(site.url) as connection:
        connection.execute("UPDATE exported_files SET exported_revision = revision")
        connection.execute("UPDATE requests SET recorded_at = recorded_at - interval '1 day'")
    updated = rows_of(site.url, "SELECT hour, model, updated_at FROM hourly_metrics ORDER BY 1, 2, 3")
    files = rows_of(site.url, "SELECT * FROM exported_files ORDER BY path")
    chosen = await site.choose("team")
    assert (chosen["tags"], chosen["pendingHours"]) == (["team"], 3)
    summary = await site.get("summary", groupBy="tag.team", **WHOLE)
    assert (summary["hoursFromMetrics"], summary["groupHoursFromMetrics"]) == (3, 0)
    assert await site.summed("tag.team") == await site.raw("tag.team")
    assert await site.aggregate() == 3
    assert (await site.get("dimensions"))["pendingHours"] == 0
    assert (await site.get("summary", groupBy="tag.team", **WHOLE))["groupHoursFromMetrics"] == 3
    assert rows_of(site.url, "SELECT hour, model, updated_at FROM hourly_metrics ORDER BY 1, 2, 3") == updated
    assert rows_of(site.url, "SELECT * FROM exported_files ORDER BY path") == files
    await site.choose("team", "customer")
    await site.aggregate()
    await site.check()


async def test_a_dropped_dimension_takes_its_rows_along(site: Site) -> None:
    """And leaves those of others; chosen again, it is computed again."""
    await spent(site)
    await spent(site, "bob")
    for user in ("alice", "bob"):
        await site.choose("team", "customer", user=user)
    await site.aggregate()
    await site.choose("customer")
    for table in ("hourly_dimensions", "hourly_dimension_totals"):
        found = rows_of(site.url, f"SELECT DISTINCT user_id, dimension FROM {table} WHERE dimension LIKE 'tag.%%'")  # noqa: S608
        left = sorted((row["user_id"], row["dimension"]) for row in found)
        assert left == [("alice", "tag.customer"), ("bob", "tag.customer"), ("bob", "tag.team")]
    assert await site.summed("tag.team") == await site.raw("tag.team")
    status, answer = await site.ask("GET", "hourly", params={"groupBy": "tag.team"})
    assert (status, answer["error"]["param"]) == (422, "groupBy")
    await site.check("bob")
    await site.choose("customer", "team")
    await site.aggregate()
    await site.check()


async def test_a_choice_while_an_hour_is_computed_is_not_lost(site: Site) -> None:
    """The computation has read the choice of before; the hour is computed again."""
    await spent(site, hours=1)
    aggregator = PostgresAggregator(site.database)
    await aggregator.plan()
    (hour,) = await aggregator.next_hours(10)
    with psycopg.connect(site.url) as connection:
        connection.execute("LOCK hourly_baselines IN ACCESS EXCLUSIVE MODE")  # it waits there, in the middle
        computing = asyncio.create_task(aggregator.aggregate(hour))
        await until(lambda: bool(rows_of(site.url, WAITING)))
        await site.choose("team")
    await computing
    await site.aggregate()
    assert await site.hourly("tag.team") == await site.raw("tag.team")


async def test_tenants_choose_for_themselves(site: Site) -> None:
    """Neither the choice nor the rows of one are another's."""
    await spent(site)
    await spent(site, "bob", hours=1)
    await site.choose("team", "customer")
    await site.choose("customer", user="bob")
    await site.aggregate()
    assert (await site.get("dimensions", "bob"))["tags"] == ["customer"]
    assert (await site.get("dimensions"))["tags"] == ["customer", "team"]
    assert await site.hourly("tag.customer", "bob") == await site.raw("tag.customer", "bob")
    for user in ("alice", "bob"):
        assert await site.summed("tag.team", user) == await site.raw("tag.team", user)
    entries = rows_of(site.url, "SELECT user_id, kind, before, after FROM audit_log ORDER BY id")
    assert entries == [
        {"user_id": "alice", "kind": "dimensions", "before": {"tags": []}, "after": {"tags": ["customer", "team"]}},
        {"user_id": "bob", "kind": "dimensions", "before": {"tags": []}, "after": {"tags": ["customer"]}},
    ]


async def test_a_tag_with_many_values_is_bounded(site: Site) -> None:
    """Rows by hour, whatever a client puts into a tag; the figures stay right while there are single requests, and
    their sum afterwards."""
    await site.requests.add(HOUR, tags={"run": "x" * 500}, cost_usd=8.0)
    await site.requests.add(HOUR, count=3, tags={"run": "dear"}, cost_usd=4.0)
    (first, *_) = await site.requests.add(HOUR, tags={"run": "0"}, cost_usd=0.25)
    with psycopg.connect(site.url) as connection:
        names = [column.name for column in connection.execute("SELECT * FROM requests LIMIT 0").description or []]
        values = {"request_id": "'many-' || n", "tags": "jsonb_build_object('run', n::text)"}
        copied = ", ".join(values.get(name, name) for name in names)
        insert = (
            f"INSERT INTO requests ({', '.join(names)}) SELECT {copied} FROM requests, generate_series(1, 9999) AS n"  # noqa: S608
        )
        connection.execute(f"{insert} WHERE request_id = %s".encode(), (first,))
    await site.choose("run")
    await site.aggregate()
    for table in ("hourly_dimensions", "hourly_dimension_totals"):
        query = f"SELECT value, total_cost_usd AS usd FROM {table} WHERE dimension = 'tag.run'"  # noqa: S608
        stored = {row["value"]: float(row["usd"]) for row in rows_of(site.url, query)}
        assert (len(stored), stored["dear"]) == (MOST_VALUES + 1, 12.0)
        assert sum(stored.values()) == 8.0 + 12.0 + 0.25 * 10_000
    for value, usd in (("dear", 12.0), ("9999", 0.25), ("x" * 500, 8.0)):
        assert (await site.get("summary", **{"tag.run": value}))["totalCostUsd"] == usd
    groups = (await site.get("summary", groupBy="tag.run"))["groups"]
    assert [(each["key"], each["totalCostUsd"]) for each in groups[:2]] == [("dear", 12.0), ("x" * 500, 8.0)]
    assert (len(groups), groups[-1]["key"]) == (1_000, "(other)")
    assert sum(each["requests"] for each in groups) == 10_004


async def test_hours_of_before_are_all_others(site: Site) -> None:
    """Their single requests may be gone, so nobody knows their tags: sums stay whole, and say so."""
    await spent(site)
    await site.aggregate()
    with psycopg.connect(site.url) as connection:
        connection.execute("UPDATE requests SET recorded_at = recorded_at - interval '1 day'")
    retention = PostgresRetention(site.database, days=0.0, exports=False)
    await retention.close_hours()
    await retention.purge(1_000)
    await spent(site, hours=0)
    whole = (await site.get("summary"))["totalCostUsd"]
    await site.choose("team")
    assert (await site.get("dimensions"))["pendingHours"] == 0
    assert await site.summed("tag.team") == await site.hourly("tag.team") == {"(other)": (15, whole)}
    assert await site.summed("model", **{"tag.team": "(other)"}) == await site.summed("model")
    assert sum(usd for _, usd in (await site.summed("userId")).values()) == whole


async def test_a_forgotten_value_is_one_of_the_others(site: Site) -> None:
    """Erased end users leave their sums in hours whose requests are gone, and no name."""
    await spent(site)
    await site.aggregate()
    before = await site.hourly("userId")
    name = next(key for key in before if key)
    async with site.database.transaction() as connection:
        await forget_value(connection, "alice", "userId", name)
    after = await site.hourly("userId")
    assert after == {key: sums for key, sums in before.items() if key != name} | {OTHER: before[name]}
    for table in ("hourly_dimensions", "hourly_dimension_totals"):
        query = f"SELECT sum(total_cost_usd) AS usd FROM {table} WHERE dimension = 'userId'"  # noqa: S608
        (found,) = rows_of(site.url, query)
        assert found["usd"] == rows_of(site.url, "SELECT sum(total_cost_usd) AS usd FROM hourly_totals")[0]["usd"]


async def test_a_key_for_a_router_sees_that_router(site: Site) -> None:
    """Also by dimension."""
    await spent(site)
    await site.choose("team")
    await site.aggregate()
    key = site.stores.keys.add("bound", scopes=frozenset({"analytics"}), allowed_routers=frozenset({"sales"}))
    for path in ("summary", "hourly"):
        params = {"groupBy": "tag.team"}
        async with site.client.get(f"/api/analytics/{path}", params=params, headers=bearer(key)) as response:
            answer = await response.json()
        found = answer["groups"] if path == "summary" else answer["items"]
        assert {each["key"] for each in found} == {"blue"}
        assert sum(each["totalCostUsd"] for each in found) == 6.0


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"groupBy": "sessionId"}, "groupBy"), ({"groupBy": "requestType"}, "groupBy"), ({"groupBy": "x"}, "groupBy"),
        ({"groupBy": "tag.absent"}, "groupBy"), ({"tag.absent": "x"}, "tag.absent"), ({"sessionId": "s1"}, "sessionId"),
        ({"userId": "ann", "keyId": "k2"}, "keyId"), ({"userId": "ann", "groupBy": "keyId"}, "groupBy"),
        ({"userId": "ann", "tag.team": "red"}, "tag.team"), ({"groupBy": "model", "cursor": "WzEsMl0"}, "cursor"),
        ({"tag.team": "x" * 600}, "tag.team"),
    ],
)  # fmt: skip
async def test_what_hours_do_not_know_is_refused(site: Site, params: dict[str, str], named: str) -> None:
    """Nothing at all would be an answer, too, and a wrong one."""
    await site.choose("team")
    status, answer = await site.ask("GET", "hourly", params=params)
    assert (status, answer["error"]["param"]) == (422, named)


@pytest.mark.parametrize(
    "tags", [["a", "a"], [""], ["x" * 65], [str(number) for number in range(MOST_TAGS + 1)], "team", [1], None]
)
async def test_choices_are_bounded(site: Site, tags: Any) -> None:
    """Each tag costs rows in every hour."""
    await site.choose("team")
    status, answer = await site.ask("PUT", "dimensions", json={"tags": tags})
    assert (status, answer["error"]["param"].split("[")[0]) == (422, "tags")
    assert (await site.get("dimensions"))["tags"] == ["team"]


async def test_only_admins_choose(site: Site) -> None:
    """Who may read analytics sees the choice."""
    key = site.stores.keys.add("reader", scopes=frozenset({"analytics"}))
    url = "/api/analytics/dimensions"
    async with site.client.get(url, headers=bearer(key)) as response:
        assert (response.status, (await response.json())["builtIn"]) == (200, ["userId", "keyId", "purpose"])
    async with site.client.put(url, json={"tags": ["team"]}, headers=bearer(key)) as response:
        assert response.status == 403


async def test_what_was_read_can_be_written_back(site: Site) -> None:
    """With all that only answers have; nothing changes by that."""
    await site.choose("team")
    read = await site.get("dimensions")
    assert await site.ask("PUT", "dimensions", json=read) == (200, read)
    assert len(rows_of(site.url, "SELECT FROM audit_log")) == 1


async def test_the_examples_of_the_documentation(site: Site) -> None:
    """Each of them is answered, in the order in which they stand there."""
    section = DOCUMENT.partition("### Whose spend")[2].partition("\n### ")[0]
    (chosen,) = re.findall(r"-d '(.+)'", section)
    assert (await site.ask("PUT", "dimensions", json=json.loads(chosen)))[0] == 200
    asked = re.findall(r"api/analytics/(\w+\?[^']+)'", section)
    assert len(asked) == 3
    for path in asked:
        status, answer = await site.ask("GET", path)
        assert status == 200, answer


async def test_csv_has_a_column_for_each_dimension(site: Site) -> None:
    """Beside the tags as JSON; no cell is run by a spreadsheet."""
    await site.requests.add(HOUR, tags={"team": "=cmd()", "other": "x"}, end_user="@ann", session_id="+1")
    await site.requests.add(HOUR, tags={"team": "red"})
    await site.choose("team", "customer")
    _, rows = await site.ask("GET", "requests", params={"format": "csv"})
    found = {row["tag.team"]: row for row in rows}
    assert set(found) == {"'=cmd()", "red"}
    assert list(rows[0])[-2:] == ["tag.customer", "tag.team"]
    row = found["'=cmd()"]
    assert (row["tag.customer"], row["userId"], row["sessionId"]) == ("", "'@ann", "'+1")
    assert row["tags"] == '{"team":"=cmd()","other":"x"}' or row["tags"] == '{"other":"x","team":"=cmd()"}'
    assert (row["keyId"], row["purpose"]) == (found["red"]["keyId"], "request")
