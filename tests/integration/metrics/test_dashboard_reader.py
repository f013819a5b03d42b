"""The reader behind the analytics site, on a real Postgres."""

from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from infra.db.engine import Database, SyncPool
from infra.db.metrics.aggregation import PostgresAggregator
from infra.db.metrics.explore import LIMITS, Limits
from infra.db.metrics.site import PostgresSiteReader
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.overview import NO_MODEL, Overview
from modelpilot.metrics.requests import AnalyticsScope

SAMPLE = LIMITS.overview_sample
START_S = 1_699_999_200.0  # an hour of 2023
HOUR = AnalyticsScope(None, START_S, START_S + 3_600.0)
INSERT = """
INSERT INTO requests (user_id, request_id, router_id, api_key_id, config_version, created_at, completed_at, status,
    model, provider, latency_ms, ttft_ms, overhead_ms, cost_usd, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens, success, finish_reason, request_type, quality, quality_source, attempts, fallback_used,
    degraded, propensity, explored, prompt_hash, decision, tags, session_id, stream, error_code, error_status)
VALUES (%(user)s, %(id)s, 'demo', 'k', 1, %(at)s, %(at)s, %(status)s, %(model)s, 'simulator', %(latency)s, 1, 2.5,
    %(cost)s, 1, 1, 0, 0, true, 'stop', 'chat', NULL, NULL, 1, %(fallback)s, '{}', 1, false, 'h', '{}', '{}',
    NULL, false, NULL, NULL)"""
ROWS = [
    # user, id, seconds after START_S, status, model, latency_ms, cost_usd, fallback
    ("u1", "a", 0, "completed", "sim/small", 100.0, 0.25, False),
    ("u1", "b", 59, "completed", "sim/small", 300.0, None, True),
    ("u1", "c", 60, "failed", "", 9_000.0, None, False),
    ("u2", "a", 61, "completed", "sim/large", 200.0, 0.5, False),
    ("u2", "d", 120, "canceled", "sim/large", 1.0, 0.0, False),
    ("u2", "late", 3_600, "completed", "sim/large", 1.0, 1.0, False),
]


@pytest.fixture
def reader(migrated_url: str, pool: SyncPool) -> PostgresSiteReader:
    """A reader of a database with the requests of two tenants."""
    names = ("user", "id", "at", "status", "model", "latency", "cost", "fallback")
    with psycopg.connect(migrated_url) as connection:
        connection.execute("INSERT INTO users (id, operator) VALUES ('u1', true), ('u2', false)")
        for user, request_id, after_s, *rest in ROWS:
            at = datetime.fromtimestamp(START_S + after_s, UTC)
            connection.execute(INSERT, dict(zip(names, (user, request_id, at, *rest), strict=True)))
    return PostgresSiteReader(pool)


def test_overview_adds_up(reader: PostgresSiteReader) -> None:
    """Totals, charts and table tell the same story about the same rows; the end of a scope is exclusive."""
    overview = reader.overview(HOUR, 60, 10)
    summary = overview.summary
    assert (summary.requests, summary.failed, summary.canceled, summary.fallbacks) == (5, 1, 1, 1)
    assert (summary.cost_usd, summary.unknown_cost) == (0.75, 1)
    assert (summary.latency_p50_ms, summary.overhead_p50_ms) == (200.0, 2.5)
    assert [(share.model, share.requests, share.failed) for share in overview.shares] == [
        ("sim/large", 2, 0),
        ("sim/small", 2, 0),
        (NO_MODEL, 1, 1),
    ]
    assert [(bucket.start_s - START_S, bucket.requests, bucket.failed) for bucket in overview.buckets] == [
        (0.0, 2, 0),
        (60.0, 2, 1),
        (120.0, 1, 0),
    ]
    assert [(row.user_id, row.request_id) for row in overview.recent] == [
        ("u2", "d"),
        ("u2", "a"),
        ("u1", "c"),
        ("u1", "b"),
        ("u1", "a"),
    ]
    assert overview.recent[0].workflow_id == "route/u2/d"
    assert overview.latest_request_s == START_S + 3_600.0


async def test_hourly_sums_and_single_requests_agree(reader: PostgresSiteReader, migrated_url: str) -> None:
    """Before, while and after hours are aggregated, the page shows the same sums of the same requests."""
    scope = AnalyticsScope(None, START_S - 3_600.0, START_S + 2 * 3_600.0 - 1.0)
    before = reader.overview(scope, 3_600, 10)
    assert before.aggregated_through_s is None
    async with Database(migrated_url) as database:
        aggregator = PostgresAggregator(database)
        await aggregator.plan()
        hours = await aggregator.next_hours(10)
        half_done = reader.overview(scope, 3_600, 10)
        for hour in hours:
            await aggregator.aggregate(hour)
    after = reader.overview(scope, 3_600, 10)
    assert len(hours) == 2
    assert after.aggregated_through_s
    assert replace(half_done, aggregated_through_s=None) == before
    assert replace(after, aggregated_through_s=None) == before
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE hourly_totals SET requests = requests + 1000")
    assert reader.overview(scope, 3_600, 10).summary.requests > before.summary.requests + 1_000  # they are what is read


def test_savings_and_carbon_add_up(migrated_url: str, reader: PostgresSiteReader) -> None:
    """Each baseline over the requests where both sides are known, and carbon with its range by model."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute(
            "UPDATE requests SET best_model = 'sim/large', best_cost_usd = 1.0, carbon_g = 2.0"
            " WHERE status = 'completed'"
        )
    pool = SyncPool(migrated_url)
    overview = PostgresSiteReader(pool, lambda: {"sim/small": (0.5, 1.5)}).overview(HOUR, 60, 10)
    pool.close()
    (saving,) = overview.savings
    assert (saving.baseline, saving.requests, saving.estimated_requests) == ("alwaysBest", 2, 1)
    assert (saving.baseline_cost_usd, saving.actual_cost_usd, saving.saved_cost_usd) == (2.0, 0.75, 1.25)
    summary = overview.summary
    assert (summary.carbon_g, summary.carbon_range_g, summary.unknown_carbon) == (6.0, (4.0, 8.0), 0)
    assert (summary.ttft_p50_ms, summary.sampled) == (1.0, None)


def test_percentiles_of_many_requests_come_from_a_sample(migrated_url: str, reader: PostgresSiteReader) -> None:
    """Above a number of requests a sample is measured, which says its size and comes near the truth."""
    _copy_first(migrated_url, 2 * SAMPLE)
    summary = reader.overview(AnalyticsScope("u1", HOUR.start_s, HOUR.end_s), 60, 10).summary
    assert summary.sampled
    assert 0.5 * SAMPLE < summary.sampled < 1.5 * SAMPLE
    assert summary.latency_p50_ms == pytest.approx(500.0, abs=50.0)
    assert summary.latency_p95_ms == pytest.approx(950.0, abs=50.0)


def test_a_short_range_of_a_large_table_is_read_whole(
    migrated_url: str, reader: PostgresSiteReader, pool: SyncPool
) -> None:
    """A sample is taken from pages of the whole table: where these hold more than the range has, nothing is gained."""
    sampling = PostgresSiteReader(pool, limits=Limits(overview_sample=100))
    _copy_first(migrated_url, 150)
    _copy_first(migrated_url, 500, later="1 day")
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("ANALYZE requests")
    scope = AnalyticsScope("u1", HOUR.start_s, HOUR.end_s)
    assert sampling.overview(scope, 60, 10).summary.sampled is None
    assert sampling.overview(replace(scope, end_s=HOUR.end_s + 2 * 86_400.0), 60, 10).summary.sampled is not None


def test_tenant_sees_only_its_own(reader: PostgresSiteReader) -> None:
    """Every part of the page is narrowed to the tenant, also where request ids are the same."""
    overview = reader.overview(AnalyticsScope("u1", HOUR.start_s, HOUR.end_s), 60, 10)
    assert overview.summary.requests == sum(share.requests for share in overview.shares) == 3
    assert sum(bucket.requests for bucket in overview.buckets) == 3
    assert {row.user_id for row in overview.recent} == {"u1"}
    assert overview.latest_request_s == START_S + 60.0


def test_recent_requests_are_limited_over_all_tenants(reader: PostgresSiteReader) -> None:
    """The newest of all tenants together, not the newest of each."""
    assert [row.request_id for row in reader.overview(HOUR, 60, 2).recent] == ["d", "a"]


def test_unknown_tenant_has_nothing(reader: PostgresSiteReader) -> None:
    """Nothing is an empty page and no error."""
    assert reader.overview(AnalyticsScope("nobody", HOUR.start_s, HOUR.end_s), 60, 10) == Overview()


def test_reader_cannot_write(reader: PostgresSiteReader) -> None:
    """A defect of the site cannot change what it shows."""
    with reader._pool.transaction() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM requests")


def test_missing_schema_says_what_to_do(postgres_url: str) -> None:
    """A database that nobody has migrated is an outage with a hint."""
    pool = SyncPool(postgres_url)
    with pytest.raises(DependencyUnavailable, match="modelpilot migrate"):
        PostgresSiteReader(pool).overview(HOUR, 60, 10)
    pool.close()


def test_postgres_away_is_an_outage() -> None:
    """An unreachable server is reported within the bounded wait, as the one error that the site knows."""
    pool = SyncPool("postgresql://nobody@127.0.0.1:1/none", wait_s=0.2)
    with pytest.raises(DependencyUnavailable, match="not reachable"):
        PostgresSiteReader(pool).overview(HOUR, 60, 10)
    pool.close()


def _copy_first(url: str, count: int, later: str = "0") -> None:
    """Add completed copies of the first request, with latencies from 1 to 1,000 ms."""
    with psycopg.connect(url) as connection:
        names = [column.name for column in connection.execute("SELECT * FROM requests LIMIT 0").description or []]
        changed = {
            "request_id": f"'{later} ' || n",
            "created_at": f"created_at + interval '{later}'",
            "latency_ms": "1 + n % 1000",
            "status": "'completed'",
        }
        values = ", ".join(changed.get(name, name) for name in names)
        copies = f"""INSERT INTO requests ({", ".join(names)}) SELECT {values} FROM requests
            CROSS JOIN generate_series(1, {count}) AS n WHERE user_id = 'u1' AND request_id = 'a'"""  # noqa: S608 - ours
        connection.execute(copies.encode())
