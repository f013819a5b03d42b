"""The reader behind Requests on a real Postgres: what it counts, in which order, and one request of it."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from infra.db.engine import SyncPool
from infra.db.metrics.site import PostgresSiteReader
from modelpilot.metrics.requests import SORTABLE, AnalyticsScope, Order, RequestFilter
from modelpilot.requests.outcome import BillLine
from tests.support import site_rows
from tests.support.site_rows import ALL, SCOPE, within


@pytest.fixture
def rows(migrated_url: str) -> list[dict[str, Any]]:
    """What is in the database; nothing of it is aggregated yet."""
    return site_rows.fill(migrated_url)


def test_list_count_is_the_same_before_and_after_aggregation(
    rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str
) -> None:
    """Counting from hourly rows is only quicker."""
    log = PostgresSiteReader(pool)
    filters = [RequestFilter(), RequestFilter(model="sim/small"), RequestFilter(router=""), RequestFilter(model="")]
    filters += [RequestFilter(status="failed"), RequestFilter(fallback=True, request_type="code")]
    before = [log.request_count(SCOPE, one) for one in filters]
    asyncio.run(site_rows.aggregate(migrated_url))
    assert [log.request_count(SCOPE, one) for one in filters] == before
    assert before[0] == len(within(rows, SCOPE))
    assert all(before)


@pytest.mark.parametrize("by", SORTABLE)
@pytest.mark.parametrize("descending", [True, False])
def test_pages_in_every_order_are_the_whole_list(
    rows: list[dict[str, Any]], pool: SyncPool, by: str, descending: bool
) -> None:
    """Whatever the order, pages neither overlap nor leave anybody out, and unknown values come last."""
    log, order = PostgresSiteReader(pool), Order(by, descending)
    whole = log.requests(ALL, RequestFilter(), order, 0, 1_000)
    starts = range(0, len(whole), 70)
    paged = [row for start in starts for row in log.requests(ALL, RequestFilter(), order, start, start + 70)]
    assert [(row.user_id, row.request_id) for row in paged] == [(row.user_id, row.request_id) for row in whole]
    assert len({(row.user_id, row.request_id) for row in paged}) == len(rows)
    known = [getattr(row, by) for row in whole if getattr(row, by) is not None]
    assert known == sorted(known, reverse=descending)
    assert all(getattr(row, by) is not None for row in whole[: len(known)])


def test_unknown_orders_are_refused(pool: SyncPool) -> None:
    """A column is put into the SQL by name, so only known ones are."""
    with pytest.raises(ValueError, match="cannot be sorted"):
        PostgresSiteReader(pool).requests(ALL, RequestFilter(), Order("1; DROP TABLE requests"), 0, 1)


def test_an_id_is_found_at_any_time(rows: list[dict[str, Any]], pool: SyncPool) -> None:
    """Who has an id, or its beginning, need not know when; wildcards are ordinary characters."""
    log, never = PostgresSiteReader(pool), AnalyticsScope("u1", 0.0, 1.0)
    assert [row.request_id for row in log.requests(never, RequestFilter(request_id="r0007"), Order(), 0, 9)] == [
        "r0007"
    ]
    assert log.request_count(never, RequestFilter(request_id="r000")) == 10
    assert log.request_count(never, RequestFilter(request_id="r%")) == 0


def test_detail_has_everything_but_the_text(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """Attempts in order, feedback and verdicts; where owners use the same id, the one that was asked for."""
    with psycopg.connect(migrated_url) as connection:
        site_rows.insert(connection, "attempts", site_rows.attempt(rows[1], 1, deployment="other/place"))
        said = {"user_id": "u1", "request_id": "r0001", "api_key_id": "k", "source": "", "router_id": "support"}
        site_rows.insert(connection, "feedback", {**said, "model": "sim/large", "score": 0.75})
    log = PostgresSiteReader(pool)
    found = log.request(None, "r0001", "u1")
    assert found is not None
    assert (found.request.user_id, found.request.workflow_id) == ("u1", "route/u1/r0001")
    assert [(one.seq, one.deployment) for one in found.attempts] == [(0, "simulator/sim/large"), (1, "other/place")]
    assert [(one.source, one.score) for one in found.opinions] == [("feedback", 0.75)]
    assert dict(found.request.tags) == {"team": "a"}
    other = log.request("u2", "r0001", None)
    assert other is not None
    assert (other.request.user_id, len(other.attempts), other.opinions) == ("u2", 1, ())


def test_a_request_has_its_bill(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """The lines of each call come as they were written; calls of before the bills have none."""
    lines = [{"unit": "input", "quantity": 7, "usd": 1.4e-05}, {"unit": "output", "quantity": 3, "usd": None}]
    with psycopg.connect(migrated_url) as connection:
        billed = {"bill": Jsonb(lines), "list_cost_usd": 0.5, "estimated": "cut"}
        site_rows.insert(connection, "attempts", site_rows.attempt(rows[1], 1, **billed))
        connection.execute("UPDATE requests SET estimated = 'cut' WHERE request_id = 'r0001'")
    found = PostgresSiteReader(pool).request("u1", "r0001", None)
    assert found is not None
    before, billed_call = found.attempts
    assert (before.bill, before.list_cost_usd, before.estimated) == ((), None, None)
    assert billed_call.bill == (BillLine("input", 7, 1.4e-05), BillLine("output", 3, None))
    assert (billed_call.list_cost_usd, billed_call.estimated, found.estimated) == (0.5, "cut", "cut")


def test_rows_say_for_whom_and_by_which_key(rows: list[dict[str, Any]], pool: SyncPool, migrated_url: str) -> None:
    """A key has its name while it is there, that of another tenant's key never shows; tags and purpose come along."""
    key = {"id": "k", "user_id": "u2", "name": "batch", "prefix": "", "key_hash": b"1", "scopes": [], "active": True}
    with psycopg.connect(migrated_url) as connection:
        site_rows.insert(connection, "api_keys", key)
        connection.execute("UPDATE requests SET end_user = 'ann', session_id = 's', purpose = 'judge'")
    (row,) = PostgresSiteReader(pool).requests(ALL, RequestFilter(request_id="r0001"), Order(), 0, 1)
    assert (row.end_user, row.session_id, row.purpose, dict(row.tags)) == ("ann", "s", "judge", {"team": "a"})
    names = {
        one.user_id: (one.api_key_id, one.key_name)
        for one in PostgresSiteReader(pool).requests(ALL, RequestFilter(), Order(), 0, 100)
    }
    assert names == {"u1": ("k", None), "u2": ("k", "batch")}
