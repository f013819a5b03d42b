"""What the Overview page says of spend, on a real Postgres: by a dimension, before, over time, and in the month."""

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from infra.db.engine import SyncPool
from infra.db.metrics.site import PostgresSiteReader
from modelpilot.metrics.overview import MOST_SHARES, Overview, SpendQuestion
from modelpilot.metrics.requests import AnalyticsScope, DataSpan
from tests.support import site_rows
from tests.support.site_rows import ALL, HOURS, SCOPE, START_S, within

COLUMNS: dict[str, str] = {
    "model": "model",
    "router": "router_id",
    "provider": "provider",
    "key": "api_key_id",
    "user": "end_user",
    "purpose": "purpose",
}
HOUR_S = 3_600.0


@pytest.fixture
def rows(migrated_url: str) -> list[dict[str, Any]]:
    """What is in the database: each request cost something of its own, and some were asked by an end user."""
    found = site_rows.fill(migrated_url)
    with psycopg.connect(migrated_url) as connection:
        for number, row in enumerate(found):
            row["end_user"] = f"user-{number % 15}" if number % 4 else None
            row["purpose"] = "judge" if number % 9 == 0 else "request"
            row["cost_usd"] = None if row["cost_usd"] is None else (1 + number % 7) / 64
            connection.execute(
                "UPDATE requests SET end_user = %s, purpose = %s, cost_usd = %s WHERE user_id = %s AND request_id = %s",
                [row[name] for name in ("end_user", "purpose", "cost_usd", "user_id", "request_id")],
            )
    return found


def spent(rows: list[dict[str, Any]], by: str) -> dict[str, float]:
    """What each value cost, added up by hand; the amounts are binary fractions, so that sums are exact."""
    costs: dict[str, float] = defaultdict(float)
    for row in rows:
        costs[row[COLUMNS[by]] or ""] += row["cost_usd"] or 0.0
    return costs


def read(pool: SyncPool, scope: AnalyticsScope, by: str = "model", month: Any = None) -> Overview:
    """The page of a scope."""
    return PostgresSiteReader(pool).overview(scope, 3_600, 10, SpendQuestion(by, month))


@pytest.mark.parametrize("by", list(COLUMNS))
def test_spend_by_a_dimension_adds_up(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str, by: str) -> None:
    """The ten dearest and the rest, before and after the aggregation, come to the spend of the card to the last digit,
    and each to what its rows cost."""
    mine = within(rows, SCOPE)
    expected = spent(mine, by)
    before = read(pool, SCOPE, by)
    asyncio.run(site_rows.aggregate(migrated_url))
    after = read(pool, SCOPE, by)
    assert after.spend_by == before.spend_by
    listed = {share.value: share for share in after.spend_by if share.value is not None}
    assert {value: share.spend.cost_usd for value, share in listed.items()} == {name: expected[name] for name in listed}
    costs = [share.spend.cost_usd for share in listed.values()]
    assert costs == sorted(costs, reverse=True)
    assert len(listed) == min(len(expected), MOST_SHARES)
    assert sum(share.spend.cost_usd for share in after.spend_by) == after.summary.cost_usd == sum(expected.values())
    assert sum(share.spend.unknown_cost for share in after.spend_by) == after.summary.unknown_cost
    assert sum(share.spend.requests for share in after.spend_by) == after.summary.requests
    assert sum(share.members for share in after.spend_by) == len(expected)


def test_the_rest_is_one_row(rows: list[dict[str, Any]], pool: SyncPool) -> None:
    """Sixteen values of end users: ten by themselves, six as the rest, which comes last."""
    shares = read(pool, ALL, "user").spend_by
    assert [share.value is None for share in shares] == [False] * MOST_SHARES + [True]
    assert shares[-1].members == 6


def test_the_time_before_has_the_same_length(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """As a whole and by value; the values are those of the range, all others are the rest."""
    scope = AnalyticsScope("u1", START_S + 3 * HOUR_S - 600.0, START_S + 5 * HOUR_S - 600.0)
    earlier = within(rows, replace(scope, start_s=scope.start_s - 2 * HOUR_S, end_s=scope.start_s))
    for _ in ("single requests", "hours"):
        found = read(pool, scope, "user")
        assert found.before.cost_usd == sum(row["cost_usd"] or 0.0 for row in earlier)
        assert found.before.requests == sum(row["purpose"] == "request" for row in earlier)
        costs = spent(earlier, "user")
        by_value = {share.value: share.before.cost_usd for share in found.spend_by}
        known = {value: cost for value, cost in by_value.items() if value is not None}
        assert known == {value: costs[value] for value in known}
        assert sum(by_value.values()) == found.before.cost_usd
        asyncio.run(site_rows.aggregate(migrated_url))


def test_nothing_before_is_nothing(rows: list[dict[str, Any]], pool: SyncPool) -> None:
    """The first range that has data has none to be compared with."""
    found = read(pool, ALL)
    assert (found.before.requests, found.first_request_s) == (0, START_S)


def test_the_month_is_read_up_to_now(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """So far and the last days, whatever the range of the page; days without any request yet do not count."""
    now_s = START_S + 3 * HOUR_S + 90.0
    began_s = START_S + 1_800.0
    for _ in ("single requests", "hours"):
        month = read(pool, replace(SCOPE, end_s=SCOPE.start_s + 60.0), month=(began_s, now_s)).month
        assert month is not None
        costs = {
            start_s: sum(row["cost_usd"] or 0.0 for row in within(rows, AnalyticsScope("u1", start_s, now_s)))
            for start_s in (began_s, START_S)
        }
        assert (month.so_far.cost_usd, month.recent.cost_usd) == (costs[began_s], costs[START_S])
        assert month.recent_days == pytest.approx((now_s - START_S) / 86_400.0)
        asyncio.run(site_rows.aggregate(migrated_url))
    late = read(pool, SCOPE, month=(began_s, START_S + 30 * 86_400.0)).month
    assert late is not None
    assert (late.recent_days, late.recent.cost_usd) == (7.0, 0.0)
    assert read(pool, replace(SCOPE, user_id="nobody"), month=(began_s, now_s)).month is None


def test_spend_and_savings_over_time_add_up(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """The buckets come to the cards, with single requests and with hours: predictions are corrected as one."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute(
            "UPDATE requests SET best_model = 'sim/large', best_cost_usd = 0.5, predicted_cost_usd = latency_ms / 1000"
        )
    before = read(pool, SCOPE)
    asyncio.run(site_rows.aggregate(migrated_url))
    for found in (before, read(pool, SCOPE)):
        (saving,) = found.savings
        assert sum(one.cost_usd for one in found.buckets) == found.summary.cost_usd
        assert sum(one.unknown_cost for one in found.buckets) == found.summary.unknown_cost
        assert sum(one.saved_usd["alwaysBest"] for one in found.buckets) == pytest.approx(saving.saved_cost_usd)
        assert len(found.buckets) == HOURS


def test_keys_are_named_for_those_who_may_see_them(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str
) -> None:
    """A tenant reads the names of its own keys only."""
    key = {"id": "k", "user_id": "u2", "name": "batch", "prefix": "", "key_hash": b"1", "scopes": [], "active": True}
    with psycopg.connect(migrated_url) as connection:
        site_rows.insert(connection, "api_keys", key)
    named = {user: read(pool, replace(ALL, user_id=user), "key").spend_by[0].name for user in ("u1", "u2", None)}
    assert named == {"u1": None, "u2": "batch", None: "batch"}


def test_a_span_reaches_from_the_first_to_the_newest(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str
) -> None:
    """Of a tenant and of all; where rows were deleted, aggregated hours still tell."""
    reader = PostgresSiteReader(pool)
    newest_s = START_S + HOURS * HOUR_S - HOUR_S / site_rows.PER_HOUR
    assert reader.span("u1") == reader.span(None) == DataSpan(START_S, newest_s)
    assert reader.span("nobody") is None
    asyncio.run(site_rows.aggregate(migrated_url))
    assert reader.span("u1") == DataSpan(START_S, newest_s)
    with psycopg.connect(migrated_url) as connection:
        connection.execute("DELETE FROM requests WHERE created_at < to_timestamp(%s)", (START_S + 2.5 * HOUR_S,))
    assert reader.span("u1") == DataSpan(START_S, newest_s)
    with psycopg.connect(migrated_url) as connection:
        connection.execute("DELETE FROM requests")
    assert reader.span("u1") == DataSpan(START_S, START_S + HOURS * HOUR_S)
