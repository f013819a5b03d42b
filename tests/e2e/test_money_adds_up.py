"""Every figure of money is the same one: bills, rows, hours, days, totals, groups, CSV and site, to the last digit.

A real gateway and worker, and one of each kind of what costs: whole, streamed, cut, canceled and failed answers, a
fallback, embeddings, a judge.
"""

import asyncio
import csv
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from decimal import Decimal
from io import StringIO
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg.rows import dict_row

from infra.db.engine import SyncPool
from infra.db.metrics.site import PostgresSiteReader
from modelpilot.metrics.explore import Question
from modelpilot.metrics.requests import AnalyticsScope
from tests.e2e.test_aggregation import run_now, worker
from tests.support.requests import put_model, put_router, request_view
from tests.support.world import Gateway, World, eventually

OWNER = "spender"
# Prices whose products no binary fraction holds.
PRICES = {"costPerInputToken": 1.37e-6, "costPerCachedInputToken": 3.3e-7, "costPerOutputToken": 7.19e-6}
DIMENSIONS = ("model", "provider", "routerId", "userId", "keyId", "sessionId", "purpose", "requestType", "tag.customer")


def usd(amounts: Iterable[float | None]) -> Decimal:
    """The sum of amounts as they are written."""
    return sum((Decimal(repr(amount)) for amount in amounts if amount is not None), Decimal())


@pytest.fixture
async def spender(world: World, gateway: Gateway, client: aiohttp.ClientSession) -> Any:
    """A client with a key of an owner of its own, with models and a router."""
    scopes = ["admin", "route", "analytics"]
    async with client.post("/api/keys", json={"userId": OWNER, "scopes": scopes, "name": "money"}) as answer:
        key = (await answer.json())["key"]
    async with aiohttp.ClientSession(gateway.url, headers={"authorization": f"Bearer {key}"}) as session:
        names = {
            "money/long": "small+tokens5000",
            "money/a": "small+latency1",
            "money/cut": "medium+latency1+cut8",
            "money/broken": "large+fail503",
        }
        for model, name in names.items():
            await put_model(session, model, name, **PRICES)
        await put_model(session, "money/embed", "embed", **PRICES | {"capabilities": ["embeddings"]})
        strategy = {"fallbackModels": ["money/a"], "retryAttempts": 1}
        for router, model in (
            ("plain", "money/a"),
            ("long", "money/long"),
            ("cut", "money/cut"),
            ("broken", "money/broken"),
        ):
            fallback = {} if router == "cut" else {"fallbackStrategy": strategy}
            await put_router(session, router, [model], storePrompts=True, **fallback)
        yield session


async def send(client: aiohttp.ClientSession, router: str, number: int, *, leave: bool = False, **fields: Any) -> None:
    """One request to its end, or until its first bytes are there."""
    body = {
        "messages": [{"role": "user", "content": f"Say {number} words about rivers"}],
        "user": f"user-{number % 3}",
        "modelpilot": {"tags": {"customer": f"c{number % 2}"}, "sessionId": f"s{number % 2}"},
        **fields,
    }
    try:
        async with client.post(f"/router/{router}", json=body) as answer:
            await (answer.content.readany() if leave else answer.read())
    except aiohttp.ClientPayloadError:
        assert router == "cut"


async def spend(world: World, client: aiohttp.ClientSession) -> None:
    """One of everything, several times."""
    jobs = [send(client, router, number) for number in range(6) for router in ("plain", "broken")]
    jobs += [send(client, router, number, stream=True) for number in range(4) for router in ("plain", "cut")]
    jobs += [send(client, "long", number, stream=True, leave=True) for number in range(3)]
    jobs += [send(client, "plain", 9, max_tokens=3)]
    await asyncio.gather(*jobs)
    for number in range(3):
        asked = {"model": "money/embed", "input": [f"text {number}", "another"], "user": f"user-{number}"}
        async with client.post("/v1/embeddings", json=asked) as answer:
            assert answer.status == 200, await answer.text()


async def judge(client: aiohttp.ClientSession) -> None:
    """Every stored answer, by a model that costs."""
    spec = {"sources": ["judge"], "judgeModel": "money/a", "judgeBudgetUsd": 1.0, "allowSelfJudging": True}
    async with client.post("/api/jobs/rescore", json=spec) as answer:
        assert answer.status == 202, await answer.text()
        job_id = (await answer.json())["id"]

    async def over() -> bool:
        async with client.get(f"/api/jobs/{job_id}") as answer:
            job: dict[str, Any] = await answer.json()
        return bool(job["status"] != "running")

    await eventually(over, "the judge does not end")


async def items(client: aiohttp.ClientSession, kind: str, **params: str) -> list[dict[str, Any]]:
    """All items of a list."""
    async with client.get(f"/api/analytics/{kind}", params={"limit": "1000", **params}) as answer:
        assert answer.status == 200, await answer.text()
        found: list[dict[str, Any]] = (await answer.json())["items"]
    return found


async def summary(client: aiohttp.ClientSession, **params: str) -> dict[str, Any]:
    """The totals."""
    async with client.get("/api/analytics/summary", params=params) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
    return found


async def in_csv(client: aiohttp.ClientSession, kind: str, column: str) -> Decimal:
    """The sum of a CSV's column."""
    async with client.get(f"/api/analytics/{kind}", params={"format": "csv"}) as answer:
        rows = list(csv.DictReader(StringIO(await answer.text())))
    return sum((Decimal(row[column]) for row in rows if row[column]), Decimal())


def key_of(item: Mapping[str, Any], dimension: str) -> str:
    """What a request is grouped under."""
    name, _, tag = dimension.partition(".")
    return str((item["tags"].get(tag) if tag else item[name]) or "")


async def check_bills(client: aiohttp.ClientSession, rows: Iterable[Mapping[str, Any]]) -> None:
    """The lines of a request's bill are its cost, in the API and in its attempts."""
    for row in rows:
        view = await request_view(client, row["requestId"])
        assert view is not None
        assert usd(line["usd"] for line in view["bill"]) == usd([row["costUsd"]]) == usd([view["costUsd"]]), view


def check_attempts(world: World) -> None:
    """The calls of a request cost what its row says, and each what its bill says."""
    with psycopg.connect(world.database_url, row_factory=dict_row) as connection:
        rows = connection.execute(
            """SELECT requests.cost_usd, requests.request_id, array_agg(attempts.cost_usd) AS calls,
                jsonb_agg(attempts.bill) AS bills
            FROM requests JOIN attempts USING (user_id, request_id) WHERE user_id = %s GROUP BY 1, 2""",
            [OWNER],
        ).fetchall()
    assert len(rows) > 20
    for row in rows:
        lines = [line for bill in row["bills"] for line in bill or []]
        assert usd([row["cost_usd"]]) == usd(row["calls"]) == usd(line["usd"] for line in lines), row


async def check_sums(world: World, client: aiohttp.ClientSession, *, aggregated: bool) -> dict[str, Any]:
    """Rows = hours = totals = groups = CSV = site; the totals."""
    rows, totals = await items(client, "requests"), await summary(client)
    spent = usd(row["costUsd"] for row in rows)
    assert usd([totals["totalCostUsd"]]) == spent
    assert await in_csv(client, "requests", "costUsd") == spent
    for dimension in DIMENSIONS:
        groups = {each["key"]: each for each in (await summary(client, groupBy=dimension))["groups"]}
        keys = {key_of(row, dimension) for row in rows}
        assert groups.keys() == keys, dimension
        for key in keys:
            mine = [row for row in rows if key_of(row, dimension) == key]
            assert usd([groups[key]["totalCostUsd"]]) == usd(row["costUsd"] for row in mine), (dimension, key)
            assert groups[key]["requests"] == sum(row["purpose"] == "request" for row in mine)
    if aggregated:
        assert usd(hour["totalCostUsd"] for hour in await items(client, "hourly")) == spent
        assert await in_csv(client, "hourly", "totalCostUsd") == spent
    assert await asyncio.to_thread(on_site, world) == [spent] * 4
    return totals


def on_site(world: World) -> list[Decimal]:
    """What the site's pages say was spent: the overview, by model, by day, by hour and router."""
    with closing(SyncPool(world.database_url)) as pool:
        reader = PostgresSiteReader(pool)
        scope = AnalyticsScope(OWNER, 0.0, 4e9)
        overview = reader.overview(scope, 3_600, 5)
        asked: list[Callable[[], Any]] = [
            lambda: reader.explore(scope, Question(("cost",), "none", 86_400)),
            lambda: reader.explore(scope, Question(("cost",), "router", 3_600)),
        ]
        explored = [usd(cell.values[0].value for cell in ask().cells) for ask in asked]
        by_model = usd(share.cost_usd for share in overview.shares)
        return [usd([overview.summary.cost_usd]), by_model, *explored]


async def test_every_figure_of_money_is_the_same(world: World, spender: aiohttp.ClientSession) -> None:
    """Before the aggregation, after it, after it was run again, with late rows, and with the judge's."""
    await spend(world, spender)

    async def recorded() -> bool:
        return len(await items(spender, "requests")) == 27

    await eventually(recorded, "the rows are not there")
    rows = await items(spender, "requests")
    assert {row["status"] for row in rows} == {"completed", "failed", "canceled"}
    assert any(row["fallbackUsed"] for row in rows)
    await check_bills(spender, rows)
    raw = await check_sums(world, spender, aggregated=False)
    assert raw["completedCount"] + raw["failedCount"] + raw["canceledCount"] == raw["requests"] == 24
    assert raw["truncatedCount"] >= 1
    with worker(world):
        assert (await run_now(spender))["status"] == "completed"
        hourly = await check_sums(world, spender, aggregated=True)
        same = ("totalCostUsd", "savings", "requests", "completedCount", "truncatedCount", "failedCount")
        assert {name: hourly[name] for name in same} == {name: raw[name] for name in same}
        await judge(spender)
        await send(spender, "plain", 3)
        await eventually(lambda: judged(spender), "the judge's rows are not there")
        await check_sums(world, spender, aggregated=False)
        for _ in range(2):
            await run_now(spender)
            await check_sums(world, spender, aggregated=True)
    check_attempts(world)
    purposes = {each["key"]: each["totalCostUsd"] for each in (await summary(spender, groupBy="purpose"))["groups"]}
    assert set(purposes) == {"request", "embedding", "judge"}
    assert min(purposes.values()) > 0.0


async def judged(client: aiohttp.ClientSession) -> bool:
    """Whether the judge's calls, and the request behind them, have their rows."""
    rows = await items(client, "requests")
    return any(row["purpose"] == "judge" for row in rows) and sum(row["purpose"] == "request" for row in rows) == 25
