"""Explore and Requests by user, key, session, purpose and tag, over a real Postgres: figures, drill-down, names."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from infra.db.engine import Database, SyncPool
from infra.db.metrics.dimensions import PostgresDimensions
from infra.db.metrics.explore import Limits
from infra.db.metrics.site import PostgresSiteReader
from modelpilot.metrics.explore import METRICS, MOST_GROUPS, Answer, Question
from modelpilot.metrics.overview import Choices
from modelpilot.metrics.requests import AnalyticsScope, Order, RequestFilter
from tests.support import site_rows
from tests.support.site_rows import ALL, SCOPE, within

KEYS = tuple(metric.key for metric in METRICS)
ADDITIVE = tuple(metric.key for metric in METRICS if metric.kind != "percentile")
GROUPS = ("user", "key", "session", "purpose", "tag", "type")
# What a row is filed under.
COLUMNS = {"user": "end_user", "key": "api_key_id", "session": "session_id", "type": "request_type"}
FIELDS = {"user": "end_user", "type": "request_type"}
UPDATE = """
UPDATE requests SET end_user = CASE WHEN n % 3 > 0 THEN 'user-' || n % 3 END, api_key_id = 'key-' || n % 2,
    session_id = CASE WHEN n % 4 > 0 THEN 'session-' || n / 2 END,
    tags = CASE WHEN n % 5 > 0 THEN jsonb_build_object('team', (n % 5)::text) ELSE '{}' END
FROM (SELECT user_id AS owner, request_id AS id, substring(request_id FROM 2)::int AS n FROM requests) AS numbered
WHERE user_id = owner AND request_id = id RETURNING requests.*
"""


@pytest.fixture
def rows(migrated_url: str) -> list[dict[str, Any]]:
    """What is in the database; nothing of it is aggregated yet."""
    site_rows.fill(migrated_url)
    with psycopg.connect(migrated_url, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(UPDATE).fetchall()


def choose(url: str) -> None:
    """Make `team` a dimension of both tenants, and compute every hour."""

    async def chosen() -> None:
        async with Database(url) as database:
            for user in ("u1", "u2"):
                await PostgresDimensions(database).choose(user, ["team"], "test")

    asyncio.run(chosen())
    asyncio.run(site_rows.aggregate(url))


def group_of(row: dict[str, Any], group: str) -> str:
    """The group of a row."""
    return str((row["tags"].get("team") if group == "tag" else row[COLUMNS.get(group, group)]) or "")


def told(answer: Answer) -> list[Any]:
    """All that its cells say; reals nearly."""
    return [
        (cell.group, cell.start_s, cell.requests, [(one.unknown, pytest.approx(one.value)) for one in cell.values])
        for cell in answer.cells
    ]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("scope", [SCOPE, ALL], ids=["tenant", "everybody"])
def test_sums_are_the_same_by_the_hour(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str, group: Any, scope: AnalyticsScope
) -> None:
    """Counted by hand, from single requests, and from hourly rows."""
    question = Question(ADDITIVE, group, 3_600, tag="team" if group == "tag" else "")
    before = PostgresSiteReader(pool).explore(scope, question)
    counted = Counter(group_of(row, group) for row in within(rows, scope))
    largest = {name for name, _ in sorted(counted.items(), key=lambda one: (-one[1], one[0]))[: MOST_GROUPS - 1]}
    expected: Counter[str] = Counter()
    for name, count in counted.items():
        expected[name if len(counted) <= MOST_GROUPS or name in largest else "(other)"] += count
    if len(counted) <= MOST_GROUPS:
        assert Counter({cell.group: 0 for cell in before.cells}).keys() == expected.keys()
    assert before.requests == sum(expected.values())
    assert len({cell.group for cell in before.cells}) == len(expected)
    choose(migrated_url)
    assert told(PostgresSiteReader(pool).explore(scope, question)) == told(before)
    if group in ("session", "type"):
        return
    with psycopg.connect(migrated_url) as connection:
        connection.execute("DELETE FROM requests")
    whole = replace(scope, start_s=site_rows.START_S, end_s=ALL.end_s)
    mine = within(rows, whole)
    assert PostgresSiteReader(pool).explore(whole, question).requests == len(mine)


@pytest.mark.parametrize("group", GROUPS)
def test_percentiles_are_those_of_requests(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str, group: Any
) -> None:
    """No hourly row of a dimension has them, so the aggregation changes none; of many requests they are a sample's."""
    question = Question(KEYS, group, None, tag="team" if group == "tag" else "")
    before = PostgresSiteReader(pool).explore(SCOPE, question)
    choose(migrated_url)
    assert told(PostgresSiteReader(pool).explore(SCOPE, question)) == told(before)
    assert not before.averaged


@pytest.mark.parametrize("group", GROUPS)
def test_drill_down_counts_equal_the_points(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str, group: Any
) -> None:
    """The list of requests behind a point has exactly as many rows as the point says, aggregated or not."""
    log = PostgresSiteReader(pool)
    question = Question(("requests",), group, 3_600, tag="team" if group == "tag" else "")
    for aggregated in (False, True):
        if aggregated:
            choose(migrated_url)
        for cell in log.explore(SCOPE, question).cells:
            if cell.group == "(other)":
                continue
            named: Any = {"tags": {"team": cell.group}} if group == "tag" else {FIELDS.get(group, group): cell.group}
            wanted = RequestFilter(**named)
            scope = AnalyticsScope("u1", max(cell.start_s, SCOPE.start_s), min(cell.start_s + 3_600.0, SCOPE.end_s))
            assert log.request_count(scope, wanted) == cell.requests
            listed = log.requests(scope, wanted, Order(), 0, 1_000)
            assert len(listed) == cell.requests
            of_tag = [row.tags.get("team", "") for row in listed]
            assert group != "tag" or of_tag == [cell.group] * cell.requests


def test_other_purposes_are_listed_and_counted(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """A judge's calls cost something and are no requests; the list of them has them all the same."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE requests SET purpose = 'judge' WHERE request_id < 'r0010'")
    choose(migrated_url)
    reader = PostgresSiteReader(pool)
    wanted = RequestFilter(purpose="judge")
    assert (reader.request_count(ALL, wanted), len(reader.requests(ALL, wanted, Order(), 0, 99))) == (20, 20)
    by_purpose = {cell.group: cell for cell in reader.explore(ALL, Question(("cost",), "purpose")).cells}
    assert (by_purpose["judge"].requests, by_purpose["judge"].values[0].value) == (0, 0.25 * 18)


def test_names_of_keys_and_choices(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """Filters offer what the tenant has, keys by their names; two of one name are told apart."""
    choose(migrated_url)
    made = {"scopes": ["route"], "active": True}
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE hourly_dimension_totals SET hour = hour - '2026-03-02 10:00Z' + now()")
        for number, (owner, name) in enumerate((("u1", "One"), ("u1", "Same"), ("u1", "Same"), ("u2", "Two"))):
            key = {"id": f"key-{number}", "user_id": owner, "name": name, "prefix": f"mp_{number}"}
            site_rows.insert(connection, "api_keys", {**made, **key, "key_hash": bytes([number])})
    reader = PostgresSiteReader(pool)
    mine = reader.choices("u1")
    assert mine.keys == (("key-0", "One"), ("key-1", "Same mp_1…"), ("key-2", "Same mp_2…"))
    assert (mine.users, mine.tags) == (("user-1", "user-2"), ("team",))
    assert mine.tag_values == tuple(("team", str(number)) for number in (1, 2, 3, 4))
    assert dict(reader.choices(None).keys)["key-3"] == "Two"
    assert reader.choices("nobody") == Choices()
    found = reader.explore(SCOPE, Question(("requests",), "key"))
    assert found.labels == {"key-0": "One", "key-1": "Same"}


def test_many_groups_of_many_requests(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """The largest ones and all others together, also in a sample."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        site_rows.multiply(connection, 100)
        connection.execute("ANALYZE requests")
    reader = PostgresSiteReader(pool, limits=Limits(single_requests=15_000, sample=10_000))
    found = reader.explore(ALL, Question(("requests", "p50"), "session"))
    assert (len(found.cells), found.requests) == (MOST_GROUPS, 100 * len(rows))
    assert found.sampled
    (rest,) = (cell for cell in found.cells if cell.group == "(other)")
    assert rest.requests > 0
