"""Hourly metrics on a real Postgres: they are the sum of the raw rows, whenever those arrive."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from infra.db.engine import Database
from infra.db.metrics.aggregation import NOTE_STALE, PostgresAggregator
from tests.support.aggregation import HOUR, Requests, rows_of

# Whole numbers and costs are exact. The rest are sums of floats, whose last bit depends on the order of adding.
_WHOLE = """count(*) AS requests, count(*) FILTER (WHERE success) AS success_count, sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens, sum(reasoning_tokens) AS reasoning_tokens,
    sum(attempts) AS attempt_count, count(quality) AS quality_count,
    count(*) FILTER (WHERE fallback_used) AS fallback_count, count(*) FILTER (WHERE status = 'failed') AS failed_count,
    coalesce(sum(cost_usd::numeric), 0) AS total_cost_usd
"""
_REAL = "sum(latency_ms) AS total_latency_ms, sum(carbon_g) AS total_carbon_g"
_WHOLE_NAMES = re.findall(r" AS (\w+)", _WHOLE)
_GROUP = "user_id, coalesce(router_id, '') AS router_id, model, provider"
_REAL_NAMES = [part.split()[-1] for part in _REAL.split(",")]


@dataclass
class Site:
    """A database with an aggregator and a way to write requests."""

    url: str
    database: Database
    aggregator: PostgresAggregator
    requests: Requests

    async def run(self) -> int:
        """Plan and compute all that is noted; how many hours."""
        await self.aggregator.plan()
        hours = await self.aggregator.next_hours(10_000)
        for hour in hours:
            await self.aggregator.aggregate(hour)
        return len(hours)

    def check_sums(self) -> None:
        """The hourly rows add up to the raw ones, per hour, user, router, model and provider."""
        raw = rows_of(
            self.url,
            f"""SELECT date_trunc('hour', created_at, 'UTC') AS hour, {_GROUP}, {_WHOLE}, {_REAL}
            FROM requests GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5""",  # noqa: S608 - own constants
        )
        hourly = rows_of(self.url, "SELECT * FROM hourly_metrics ORDER BY hour, user_id, router_id, model, provider")
        names = ["hour", "user_id", "router_id", "model", "provider", *_WHOLE_NAMES]
        assert [[row[name] for name in names] for row in hourly] == [[row[name] for name in names] for row in raw]
        for name in _REAL_NAMES:
            assert [row[name] for row in hourly] == pytest.approx([row[name] or 0.0 for row in raw])
        self.check_totals()

    def check_totals(self) -> None:
        """The totals of the site's first page add up from the hourly rows, and have nothing else."""
        for table, key, source in (
            ("hourly_totals", "model", "hourly_metrics"),
            ("hourly_baseline_totals", "baseline, baseline_model", "hourly_baselines"),
        ):
            by = f"hour, user_id, {key}"
            found = rows_of(self.url, f"SELECT * FROM {table} ORDER BY {by}")  # noqa: S608 - own names
            names = [name for name in (found or [{}])[0] if name not in by.split(", ")]
            sums = ", ".join(f"sum({name}) AS {name}" for name in names)
            query = f"SELECT {by}, {sums or 1} FROM {source} GROUP BY {by} ORDER BY {by}"  # noqa: S608 - own names
            for row, expected in zip(found, rows_of(self.url, query), strict=True):
                assert row == {
                    name: pytest.approx(value) if name in names else value for name, value in expected.items()
                }

    def hourly(self) -> list[dict[str, Any]]:
        """The hourly rows, in order."""
        return rows_of(self.url, "SELECT * FROM hourly_metrics ORDER BY hour, user_id, router_id, model, provider")


@pytest.fixture
async def site(migrated_url: str) -> AsyncIterator[Site]:
    async with Database(migrated_url) as database:
        requests = Requests(database)
        yield Site(migrated_url, database, PostgresAggregator(database), requests)
        await requests.close()


async def test_an_hour_has_every_figure(site: Site) -> None:
    """Counts, rates, totals, averages, percentiles of completed requests, what is unknown, quality."""
    at = HOUR + timedelta(minutes=5)
    for latency_ms in (100.0, 200.0, 300.0):
        await site.requests.add(at, latency_ms=latency_ms, cost_usd=0.25)
    await site.requests.add(at, status="failed", latency_ms=5.0, cost_usd=None, finish_reason=None, quality=None)
    await site.requests.add(at, cost_usd=None, finish_reason="length", latency_ms=400.0, carbon_g=None)
    assert await site.run() == 1
    (row,) = site.hourly()
    assert (row["hour"], row["router_id"], row["model"]) == (HOUR, "support", "sim/small")
    assert (row["requests"], row["success_count"], row["failed_count"]) == (5, 3, 1)
    assert row["success_rate"] == pytest.approx(0.6)
    assert (row["total_latency_ms"], row["avg_latency_ms"]) == (1_005.0, 201.0)
    assert (row["p50_latency_ms"], row["p95_latency_ms"]) == (250.0, pytest.approx(385.0))
    assert (row["total_cost_usd"], row["avg_cost_usd"], row["unknown_cost_count"]) == (0.75, 0.25, 1)
    assert (row["unknown_carbon_count"], row["quality_count"], row["avg_quality"]) == (1, 4, pytest.approx(0.9))
    assert (row["input_tokens"], row["cached_tokens"], row["attempt_count"]) == (60, 25, 5)
    site.check_sums()


async def test_sums_hold_with_late_rows_and_runs_again(site: Site) -> None:
    """Rows of several tenants, routers and models, some two hours late, runs repeated: sum(hourly) = sum(raw)."""
    for hour in range(3):
        at = HOUR + timedelta(hours=hour)
        await site.requests.add(at, count=3)
        await site.requests.add(at + timedelta(minutes=59, seconds=59), user="bob", model="sim/large", cost_usd=0.5)
        await site.requests.add(at, router_id=None)
    assert await site.run() == 3
    site.check_sums()
    before = site.hourly()
    await site.run()
    assert [_figures(row) for row in site.hourly()] == [_figures(row) for row in before]
    await site.requests.add(HOUR + timedelta(minutes=30), count=2, recorded=datetime.now(UTC) + timedelta(hours=2))
    await site.run()
    site.check_sums()
    assert [row["requests"] for row in site.hourly() if (row["hour"], row["router_id"]) == (HOUR, "support")] == [5, 1]


async def test_only_hours_with_news_are_computed_again(site: Site) -> None:
    """A run costs what has changed, not what there is: old hours rest once nothing new of them can arrive unseen."""
    long_ago = datetime.now(UTC) - timedelta(hours=5)
    for hour in range(4):
        await site.requests.add(HOUR + timedelta(hours=hour), recorded=long_ago)
    assert await site.run() == 4
    assert await site.run() == 0
    await site.requests.add(HOUR + timedelta(hours=2))
    assert await site.run() == 1
    site.check_sums()


async def test_a_row_that_commits_long_after_its_recording_is_found(site: Site) -> None:
    """The time of recording is taken when a row is written; a commit that comes minutes later loses nothing."""
    await site.requests.add(HOUR)
    with psycopg.connect(site.url) as slow:
        slow.execute(
            "UPDATE requests SET request_id = 'slow', recorded_at = clock_timestamp() WHERE request_id = 'r00001'"
        )
        await site.requests.add(HOUR)
        await site.run()
        before = rows_of(site.url, "SELECT through FROM metric_progress WHERE name = 'aggregated'")[0]["through"]
        # What no test can wait for: so much time passes that only the look at open transactions helps.
        with psycopg.connect(site.url) as clock:
            began = clock.execute(
                "SELECT min(xact_start) AS began FROM pg_stat_activity WHERE pid = %s", [slow.info.backend_pid]
            )
            (started,) = began.fetchone() or (None,)
        slow.commit()
    assert started is not None
    assert before <= started
    await site.run()
    site.check_sums()


async def test_a_group_that_vanished_goes(site: Site) -> None:
    """Rows that change model, or are deleted, leave no ghost group behind."""
    await site.requests.add(HOUR, model="sim/large")
    await site.run()
    await site.database.fetch_all("UPDATE requests SET model = 'sim/small', provider = 'other'")
    await site.database.fetch_all(NOTE_STALE, {"hours": [HOUR + timedelta(minutes=17)]})
    await site.run()
    site.check_sums()
    assert [row["model"] for row in site.hourly()] == ["sim/small"]


async def test_a_revised_quality_brings_its_hour_back(site: Site) -> None:
    """Whoever revises rows notes their hours, and the next run has the new figures."""
    await site.requests.add(HOUR, quality=0.5)
    await site.run()
    await site.database.fetch_all("UPDATE requests SET quality = 0.25, recorded_at = recorded_at - interval '1 day'")
    await site.database.fetch_all(NOTE_STALE, {"hours": [HOUR, HOUR + timedelta(minutes=59)]})
    await site.run()
    assert site.hourly()[0]["avg_quality"] == 0.25
    assert rows_of(site.url, "SELECT * FROM stale_hours WHERE reason = 'revised'") == []


@pytest.mark.parametrize(("day", "local_hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
async def test_days_on_which_clocks_change(site: Site, day: str, local_hours: int) -> None:
    """24 UTC hours on every day; a local day has 23 or 25 of them, and adds up as well."""
    midnight = datetime.fromisoformat(f"{day}T00:00Z")
    for minutes in range(-120, 26 * 60, 30):
        await site.requests.add(midnight + timedelta(minutes=minutes))
    await site.run()
    site.check_sums()
    hours = [row["hour"] for row in site.hourly()]
    assert sum(midnight <= hour < midnight + timedelta(days=1) for hour in hours) == 24
    zone = ZoneInfo("Europe/Berlin")
    assert sum(hour.astimezone(zone).date() == midnight.date() for hour in hours) == local_hours


async def test_runs_side_by_side_agree(site: Site) -> None:
    """A triggered run beside a scheduled one, over the same hours, neither fails nor counts twice."""
    for hour in range(4):
        await site.requests.add(HOUR + timedelta(hours=hour), count=2)
    await site.aggregator.plan()
    hours = await site.aggregator.next_hours(10)
    await asyncio.gather(*(site.aggregator.aggregate(hour) for hour in [*hours, *hours]))
    site.check_sums()
    assert await site.aggregator.next_hours(10) == []


async def test_a_note_made_during_the_computation_stays(site: Site) -> None:
    """What arrives while an hour is computed is not forgotten with the notes that started it."""
    await site.requests.add(HOUR)
    await site.aggregator.plan()
    with psycopg.connect(site.url) as other:
        other.execute("INSERT INTO stale_hours (hour, reason) VALUES (%s, 'revised')", [HOUR])
        await site.aggregator.aggregate(int(HOUR.timestamp()))
        other.commit()
    assert await site.aggregator.next_hours(10) == [int(HOUR.timestamp())]


async def test_baselines_are_added_up(site: Site) -> None:
    """Actual and baseline costs over the same requests; a baseline whose model answered is measured, not predicted."""
    await site.requests.add(HOUR, cost_usd=0.002)
    await site.requests.add(HOUR, model="sim/large", cost_usd=0.03)
    await site.requests.add(HOUR, cost_usd=None)
    await site.requests.add(HOUR, status="failed", finish_reason=None)
    await site.requests.add(HOUR, decision={})
    await site.run()
    query = """SELECT baseline, baseline_model AS of, sum(requests)::int AS n, sum(estimated)::int AS estimated,
        sum(cost_usd) AS cost, sum(actual_cost_usd) AS actual, sum(estimated_cost_usd) AS predicted,
        sum(carbon_requests)::int AS carbon_n FROM hourly_baselines GROUP BY 1, 2"""
    found = {(row.pop("baseline"), row.pop("of")): row for row in rows_of(site.url, query)}
    assert found["alwaysBest", "sim/large"] == {
        "n": 2, "estimated": 1, "cost": Decimal("0.05"), "actual": Decimal("0.032"), "predicted": Decimal("0.02"),
        "carbon_n": 3,
    }  # fmt: skip
    cheapest, preferred = found["alwaysCheapest", "sim/small"], found["alwaysPreferred", "sim/medium"]
    assert (cheapest["cost"], cheapest["estimated"], cheapest["predicted"]) == (Decimal("0.003"), 1, Decimal("0.001"))
    assert (preferred["cost"], preferred["estimated"]) == (Decimal("0.008"), 2)
    predicted = {model: row["cost"] for (name, model), row in found.items() if name == "asPredicted"}
    assert predicted == {"sim/small": Decimal("0.001"), "sim/large": Decimal("0.02")}
    site.check_totals()


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "updated_at"}


async def test_sums_of_money_are_exact(site: Site) -> None:
    """Amounts of every size, thousands of dollars beside billionths: hours and totals are their sums to the last digit,
    and an absurd one stops nothing."""
    random = Random(18)
    costs = [random.randrange(10 ** random.randrange(1, 15)) / 1e12 for _ in range(300)]
    for number, cost_usd in enumerate(costs):
        at = HOUR + timedelta(minutes=number)
        await site.requests.add(
            at, cost_usd=cost_usd, router_id=None if number % 3 else "support", model=f"m{number % 4}"
        )
    await site.run()
    site.check_sums()
    (found,) = rows_of(site.url, "SELECT sum(total_cost_usd) AS usd FROM hourly_totals")
    assert found["usd"] == sum(Decimal(repr(cost_usd)) for cost_usd in costs)
    await site.requests.add(HOUR, cost_usd=1e300, model="absurd")
    await site.run()
    (found,) = rows_of(site.url, "SELECT sum(total_cost_usd) AS usd FROM hourly_totals WHERE model <> 'absurd'")
    assert found["usd"] == sum(Decimal(repr(cost_usd)) for cost_usd in costs)
