"""The readers behind Explore and Models on a real Postgres, and what holds for every reader of the site."""

import asyncio
import statistics
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from infra.db.engine import SyncPool
from infra.db.metrics.explore import Limits
from infra.db.metrics.site import PostgresSiteReader
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.explore import METRICS, Cell, Question
from modelpilot.metrics.requests import AnalyticsScope, Order, RequestFilter
from modelpilot.metrics.use import PriceOrigin
from tests.support import site_rows
from tests.support.site_rows import ALL, HOURS, SCOPE, START_S, within

KEYS = tuple(metric.key for metric in METRICS)
ADDITIVE = tuple(metric.key for metric in METRICS if metric.kind != "percentile")


@pytest.fixture
def rows(migrated_url: str) -> list[dict[str, Any]]:
    """What is in the database; nothing of it is aggregated yet."""
    return site_rows.fill(migrated_url)


def of_group(rows: list[dict[str, Any]], group: str, name: str) -> list[dict[str, Any]]:
    """The rows of a group."""
    column = {"router": "router_id", "type": "request_type"}.get(group, group)
    return rows if group == "none" else [row for row in rows if (row[column] or "") == name]


def values(cell: Cell) -> list[float | None]:
    """The values of a cell alone."""
    return [value.value for value in cell.values]


@pytest.mark.parametrize("group", ["none", "model", "provider", "router", "type"])
def test_sums_equal_the_rows(rows: list[dict[str, Any]], pool: SyncPool, group: Any) -> None:
    """Every metric of every group is what adding up the rows by hand gives."""
    answer = PostgresSiteReader(pool).explore(SCOPE, Question(KEYS, group))
    mine = within(rows, SCOPE)
    assert answer.requests == len(mine)
    for cell in answer.cells:
        same = of_group(mine, group, cell.group)
        done = [row for row in same if row["status"] == "completed"]
        known = [row["cost_usd"] for row in same if row["cost_usd"] is not None]
        told = dict(zip(KEYS, cell.values, strict=True))
        assert told["requests"].value == cell.requests == len(same)
        assert told["completed"].value == pytest.approx(len(done) / len(same))
        cut = sum(not row["success"] for row in done)
        assert told["truncated"].value == (pytest.approx(cut / len(done)) if done else None)
        for ended in ("failed", "canceled"):
            share = sum(row["status"] == ended for row in same) / len(same)
            assert told[ended].value == pytest.approx(share)
        assert told["cost"].value == pytest.approx(sum(known))
        assert told["cost"].unknown == sum(row["cost_usd"] is None for row in done)
        assert told["latency"].value == pytest.approx(statistics.fmean(row["latency_ms"] for row in same))
        median = statistics.median(row["latency_ms"] for row in done) if done else None
        assert told["p50"].value == (None if median is None else pytest.approx(median))
        assert told["tokensIn"].value == sum(row["input_tokens"] for row in same)
        assert told["fallback"].value == pytest.approx(sum(row["fallback_used"] for row in same) / len(same))
        assert told["attempts"].value == 1.0
        assert told["carbon"].value == pytest.approx(0.125 * len(same))
        assert told["quality"].value in (0.5, None)


@pytest.mark.parametrize("bucket_s", [None, 3_600, 3 * 3_600, 86_400])
def test_hourly_rows_say_the_same_as_single_requests(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str, bucket_s: int | None
) -> None:
    """After the aggregation, with a late row behind it, every sum stays what it was."""
    reader, question = PostgresSiteReader(pool), Question(ADDITIVE, "model", bucket_s)
    before = reader.explore(SCOPE, question)
    asyncio.run(site_rows.aggregate(migrated_url))
    after = reader.explore(SCOPE, question)
    assert [(one.group, one.start_s, one.requests) for one in after.cells] == [
        (one.group, one.start_s, one.requests) for one in before.cells
    ]
    for one, other in zip(after.cells, before.cells, strict=True):
        assert values(one) == pytest.approx(values(other))
    late = site_rows.request("u1", 40) | {"request_id": "late"}
    with psycopg.connect(migrated_url) as connection:
        site_rows.insert(connection, "requests", late)
        note = "INSERT INTO stale_hours (hour, reason) VALUES (date_trunc('hour', %s::timestamptz), 'recorded')"
        connection.execute(note, (late["created_at"],))
    assert reader.explore(SCOPE, question).requests == before.requests + 1


def test_hourly_rows_are_what_is_read(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """Where raw rows are gone, whole aggregated hours still count: a long range does not need them."""
    asyncio.run(site_rows.aggregate(migrated_url))
    with psycopg.connect(migrated_url) as connection:
        connection.execute("DELETE FROM requests")
    answer = PostgresSiteReader(pool).explore(ALL, Question(("requests",), "none", 3_600))
    assert [cell.requests for cell in answer.cells] == [2 * site_rows.PER_HOUR] * HOURS


def test_percentiles_of_many_requests_are_means_of_hours(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str
) -> None:
    """Beyond the limit they are weighted means of hourly ones and say so, and steps below an hour become hours."""
    asyncio.run(site_rows.aggregate(migrated_url))
    reader, scope = PostgresSiteReader(pool), replace(ALL, user_id="u1")
    exact = reader.explore(scope, Question(("p50",), "none", 300))
    assert (exact.averaged, exact.bucket_s) == (False, 300)
    reader = PostgresSiteReader(pool, limits=Limits(single_requests=10))
    mean = reader.explore(scope, Question(("p50",), "none", 300))
    assert (mean.averaged, mean.bucket_s, len(mean.cells)) == (True, 3_600, HOURS)
    with psycopg.connect(migrated_url) as connection:
        expected = connection.execute(
            "SELECT sum(p50_latency_ms * (requests - failed_count)) / sum(requests - failed_count)"
            " FROM hourly_metrics WHERE user_id = 'u1' AND p50_latency_ms IS NOT NULL"
        ).fetchone()
    whole = reader.explore(scope, Question(("p50",)))
    assert expected is not None
    assert whole.cells[0].values[0].value == pytest.approx(expected[0])


def test_percentiles_that_hours_do_not_have_are_sampled(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str
) -> None:
    """Beyond the limit those by type come from a sample that says its size; what is added up is still of all."""
    copies = 200
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        site_rows.multiply(connection, copies)
        connection.execute("ANALYZE requests")
    question = Question(("requests", "p50", "cost"), "type", 3_600)
    exact = PostgresSiteReader(pool).explore(ALL, question)
    assert (exact.sampled, exact.requests) == (None, copies * len(rows))
    sampling = PostgresSiteReader(pool, limits=Limits(single_requests=15_000, sample=10_000))
    found = sampling.explore(ALL, question)
    assert found.sampled
    assert 5_000 < found.sampled < 20_000
    for one, other in zip(found.cells, exact.cells, strict=True):
        assert (one.group, one.start_s, one.requests, one.newest_s) == (
            other.group,
            other.start_s,
            other.requests,
            other.newest_s,
        )
        assert (one.values[0], one.values[2]) == (other.values[0], other.values[2])
        assert one.values[1].value == pytest.approx(other.values[1].value, abs=5.0)  # of an hour's 24 latencies
    few = replace(ALL, start_s=START_S + 3_600.0, end_s=START_S + 2 * 3_600.0)
    assert sampling.explore(few, question).sampled is None  # the sample's pages hold more than these


def test_a_group_that_no_sample_has_is_counted(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """A rare type stays on the page: how many there are is known, its percentile is not."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        site_rows.multiply(connection, 100)
        connection.execute("UPDATE requests SET request_type = 'rare' WHERE user_id = 'u1' AND request_id = 'r0001'")
    reader = PostgresSiteReader(pool, limits=Limits(single_requests=200, sample=200))
    answer = reader.explore(ALL, Question(("p50",), "type"))
    assert answer.requests == 100 * len(rows)
    (rare,) = (cell for cell in answer.cells if cell.group == "rare")
    assert (rare.requests, rare.values[0].value) == (1, None)


@pytest.mark.parametrize("group", ["model", "provider", "router", "type"])
def test_drill_down_counts_equal_the_points(rows: list[dict[str, Any]], pool: SyncPool, group: Any) -> None:
    """The list of requests behind a point has exactly as many rows as the point says."""
    log = PostgresSiteReader(pool)
    answer = PostgresSiteReader(pool).explore(SCOPE, Question(("requests",), group, 3_600))
    assert answer.requests == len(within(rows, SCOPE))
    for cell in answer.cells:
        named: dict[str, Any] = {{"type": "request_type"}.get(group, group): cell.group}
        wanted = RequestFilter(**named)
        scope = AnalyticsScope("u1", max(cell.start_s, SCOPE.start_s), min(cell.start_s + 3_600.0, SCOPE.end_s))
        assert log.request_count(scope, wanted) == cell.requests
        assert len(log.requests(scope, wanted, Order(), 0, 1_000)) == cell.requests


def test_tenants_see_only_their_own(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """Every reader narrows every part to the tenant, before and after the aggregation; an id of another is unknown."""
    log, models = PostgresSiteReader(pool), PostgresSiteReader(pool)
    nobody = replace(ALL, user_id="nobody")
    for _ in range(2):
        assert (
            log.request_count(replace(ALL, user_id="u1"), RequestFilter())
            == log.request_count(ALL, RequestFilter()) / 2
        )
        assert {row.user_id for row in log.requests(replace(ALL, user_id="u2"), RequestFilter(), Order(), 0, 999)} == {
            "u2"
        }
        assert PostgresSiteReader(pool).explore(nobody, Question(KEYS, "model", 3_600)).cells == ()
        empty = models.models(nobody, RequestFilter(), 3_600)
        assert (empty.by_model.cells, empty.over_time.cells, empty.deployments) == ((), (), ())
        mine = models.models(replace(ALL, user_id="u1"), RequestFilter(), 3_600)
        assert mine.by_model.requests == sum(one.calls for one in mine.deployments) == HOURS * site_rows.PER_HOUR
        asyncio.run(site_rows.aggregate(migrated_url))
    assert log.request("nobody", "r0001", "u1") is None
    assert log.request("u2", "r0001", "u1") is None
    assert log.latest_request_s("nobody") is None


def test_deployments_and_prices(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """429s are counted per deployment, health looks at the last hour only, and a price of one's own comes first."""
    with psycopg.connect(migrated_url) as connection:
        for owner, price in (("", 0.1), ("u1", 0.2)):
            body = Jsonb({"id": "sim/small", "costPerInputToken": price})
            site_rows.insert(connection, "models", {"user_id": owner, "id": "sim/small", "body": body})
    day = date(2026, 2, 1)
    reader = PostgresSiteReader(pool, origin_of=lambda model, *usd: PriceOrigin(f"{model} {usd}", day))
    read = reader.models(replace(ALL, user_id="u1"), RequestFilter(), 3_600)
    failed = [row for row in within(rows, replace(ALL, user_id="u1")) if row["status"] == "failed"]
    assert sum(one.rate_limited for one in read.deployments) == len(failed)
    assert sum(one.recent_calls for one in read.deployments) == site_rows.PER_HOUR
    assert [(price.owner, price.input_usd, price.output_usd) for price in read.prices] == [("u1", 0.2, None)]
    (mine,) = read.prices  # the day on which its owner changed it, which is that of this test
    assert mine.since is not None
    assert abs(mine.since - datetime.now(UTC).date()) <= timedelta(days=1)
    for viewer, owner in (("u2", ""), (None, "")):
        others = reader.models(replace(ALL, user_id=viewer), RequestFilter(), 3_600)
        (theirs,) = others.prices
        assert (theirs.owner, theirs.source, theirs.since) == (owner, "sim/small (0.1, None)", day)


def test_outages_are_the_one_error_that_the_site_knows() -> None:
    """Every reader says that Postgres is away, within the bounded wait."""
    gone = SyncPool("postgresql://nobody@127.0.0.1:1/none", wait_s=0.2)
    with pytest.raises(DependencyUnavailable):
        PostgresSiteReader(gone).explore(ALL, Question(("requests",)))
    with pytest.raises(DependencyUnavailable):
        PostgresSiteReader(gone).request_count(ALL, RequestFilter())
    with pytest.raises(DependencyUnavailable):
        PostgresSiteReader(gone).models(ALL, RequestFilter(), 3_600)
    gone.close()
