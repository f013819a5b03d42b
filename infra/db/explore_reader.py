"""`modelpilot.explore.ExploreReader` on Postgres: hourly rows where they say the same, single requests otherwise."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from infra.db.hour_parts import OF_HOURS, Parts, only_raw, read_parts
from infra.db.measures import GROUPS, is_additive, is_in_hours, narrowed, over_hours, over_requests
from infra.db.site_scope import latest_request_s, moments
from infra.db.sync_pool import SyncPool
from modelpilot.analytics import AnalyticsScope
from modelpilot.explore import Answer, Cell, Question, RequestFilter, Value

HOUR_S = 3_600
# Percentiles of so many requests, and buckets below an hour, are computed in half a second.
MOST_SINGLE_REQUESTS = 300_000

# Percentiles of a million requests are sorted; the site has four connections at most.
SORT_IN_MEMORY: LiteralString = "SET LOCAL work_mem = '64MB'"


class PostgresExploreReader:
    """Implements `modelpilot.explore.ExploreReader`. May be called from many threads."""

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool

    def explore(self, scope: AnalyticsScope, question: Question) -> Answer:
        """All in one snapshot. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            connection.execute(SORT_IN_MEMORY)
            found = ask(connection, scope, question)
            latest_s = latest_request_s(connection, scope.user_id)
        return replace(found, latest_request_s=latest_s)


def ask(connection: Connection[DictRow], scope: AnalyticsScope, question: Question) -> Answer:
    """The cells within a transaction."""
    start, end = moments(scope)
    parts, bucket_s = only_raw(start, end), question.bucket_s
    if GROUPS[question.group][1] is not None and is_in_hours(question.wanted):
        hours = read_parts(connection, start, end)
        fine = bucket_s is not None and bucket_s < HOUR_S
        exactly = fine or not is_additive(question.metrics)
        if not exactly or count_in_hours(connection, hours, scope.user_id, question.wanted) > MOST_SINGLE_REQUESTS:
            parts, bucket_s = hours, max(bucket_s, HOUR_S) if bucket_s else None
    rows = _rows(connection, parts, scope.user_id, question, bucket_s)
    averaged = parts.first < parts.last and not is_additive(question.metrics)
    return Answer(tuple(_cells(rows, len(question.metrics))), bucket_s, averaged)


def count_in_hours(connection: Connection[DictRow], parts: Parts, user_id: str | None, wanted: RequestFilter) -> int:
    """How many requests the hourly rows of these parts speak of."""
    where, given = narrowed(user_id, wanted, hourly=True)
    query = f"SELECT coalesce(sum(requests), 0)::bigint AS n FROM hourly_metrics WHERE {OF_HOURS} AND {where}"  # noqa: S608
    row = connection.execute(query, {**given, **parts.parameters}).fetchone()
    return int(row["n"]) if row else 0


def _rows(
    connection: Connection[DictRow], parts: Parts, user_id: str | None, question: Question, bucket_s: int | None
) -> list[DictRow]:
    found: list[DictRow] = []
    given: dict[str, Any] = {**parts.parameters, "bucket_s": bucket_s}
    if parts.raw:
        where, narrowing = narrowed(user_id, question.wanted)
        query = over_requests(question.metrics, question.group, bucket_s, f"{parts.of_raw} AND {where}")
        found += connection.execute(query, {**given, **narrowing}).fetchall()
    if parts.first < parts.last:
        where, narrowing = narrowed(user_id, question.wanted, hourly=True)
        query = over_hours(question.metrics, question.group, bucket_s, f"{OF_HOURS} AND {where}")
        found += connection.execute(query, {**given, **narrowing}).fetchall()
    return found


def _cells(rows: Iterable[DictRow], metrics: int) -> list[Cell]:
    """Rows of the same group and bucket, added up and divided."""
    together: dict[tuple[str, float], list[DictRow]] = {}
    for row in rows:
        start_s = row["bucket"].timestamp() if row["bucket"] else 0.0
        together.setdefault((row["grp"], start_s), []).append(row)
    return [
        Cell(
            group,
            start_s,
            int(sum(row["requests"] for row in same)),
            tuple(_value(same, index) for index in range(metrics)),
            max(row["newest"] for row in same).timestamp(),
        )
        for (group, start_s), same in sorted(together.items())
    ]


def _value(rows: list[DictRow], index: int) -> Value:
    total = float(sum(row[f"total_{index}"] for row in rows))
    # NULL says that nothing is divided.
    divisors = [row[f"divisor_{index}"] for row in rows]
    divisor = 1.0 if all(one is None for one in divisors) else float(sum(one or 0 for one in divisors))
    unknown = int(sum(row[f"unknown_{index}"] for row in rows))
    return Value(total / divisor if divisor else None, unknown)
