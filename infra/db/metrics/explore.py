"""`ExploreReader` on Postgres: hourly rows where they say the same, single requests otherwise.

Percentiles of many requests come from hourly ones, or, where hours do not tell these requests apart, from a sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from infra.db.metrics.hour_parts import OF_HOURS, Parts, only_raw, read_parts
from infra.db.metrics.measures import GROUPS, columns_of, is_additive, is_in_hours, narrowed, over_hours, over_requests
from infra.db.metrics.reading import SAMPLED, SyncPool, latest_request_s, moments, percent_of_pages
from modelpilot.metrics.explore import Answer, Cell, Question, RequestFilter, Value
from modelpilot.metrics.overview import AnalyticsScope

HOUR_S = 3_600
# Percentiles of so many requests, and buckets below an hour, are computed in half a second.
MOST_SINGLE_REQUESTS = 300_000
# Where there are more and hours do not help: about so many. All of them have to be counted beside it.
SAMPLE = 200_000

# Percentiles of a million requests are sorted; the site has four connections at most.
SORT_IN_MEMORY: LiteralString = "SET LOCAL work_mem = '64MB'"


class PostgresExploreReader:
    """Implements `modelpilot.metrics.explore.ExploreReader`. May be called from many threads."""

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
    if GROUPS[question.group][1] is None or not is_in_hours(question.wanted):
        return _of_requests(connection, parts, scope.user_id, question)
    hours = read_parts(connection, start, end)
    fine = bucket_s is not None and bucket_s < HOUR_S
    exactly = fine or not is_additive(question.metrics)
    if not exactly or count_in_hours(connection, hours, scope.user_id, question.wanted) > MOST_SINGLE_REQUESTS:
        parts, bucket_s = hours, max(bucket_s, HOUR_S) if bucket_s else None
    rows = _rows(connection, parts, scope.user_id, replace(question, bucket_s=bucket_s))
    averaged = parts.first < parts.last and not is_additive(question.metrics)
    return Answer(tuple(_cells(rows, question.metrics)), bucket_s, averaged)


def _of_requests(connection: Connection[DictRow], parts: Parts, user_id: str | None, question: Question) -> Answer:
    """What hourly rows do not have: sums of all requests, percentiles of a sample where there are too many to sort."""
    percentiles = tuple(key for key in question.metrics if not is_additive((key,)))
    added = tuple(key for key in question.metrics if key not in percentiles)
    rows = _rows(connection, parts, user_id, replace(question, metrics=added))
    requests, sampled = sum(row["requests"] for row in rows), None
    if percentiles:
        many = requests > MOST_SINGLE_REQUESTS
        percent = percent_of_pages(connection, requests, SAMPLE) if many else None
        measured = _rows(connection, parts, user_id, replace(question, metrics=percentiles), percent)
        sampled = None if percent is None else sum(row["requests"] for row in measured)
        rows = _joined(rows, measured, percentiles)
    return Answer(tuple(_cells(rows, question.metrics)), question.bucket_s, sampled=sampled)


def _joined(counted: Sequence[DictRow], measured: Sequence[DictRow], metrics: Sequence[str]) -> list[DictRow]:
    """Every counted row with these metrics of it; a group of which the sample has nothing has no value."""
    nothing = {column: 0 for key in metrics for column in columns_of(key)}
    found = {(row["grp"], row["bucket"]): row for row in measured}
    return [{**nothing, **found.get((row["grp"], row["bucket"]), {}), **row} for row in counted]


def count_in_hours(connection: Connection[DictRow], parts: Parts, user_id: str | None, wanted: RequestFilter) -> int:
    """How many requests the hourly rows of these parts speak of."""
    where, given = narrowed(user_id, wanted, hourly=True)
    query = f"SELECT coalesce(sum(requests), 0)::bigint AS n FROM hourly_metrics WHERE {OF_HOURS} AND {where}"  # noqa: S608
    row = connection.execute(query, {**given, **parts.parameters}).fetchone()
    return int(row["n"]) if row else 0


def _rows(
    connection: Connection[DictRow],
    parts: Parts,
    user_id: str | None,
    question: Question,
    percent: float | None = None,
) -> list[DictRow]:
    """A row per group and bucket, and kind of part. `percent`: of a sample on so many of the table's pages."""
    found: list[DictRow] = []
    metrics, group, bucket_s = question.metrics, question.group, question.bucket_s
    given: dict[str, Any] = {**parts.parameters, "bucket_s": bucket_s, "percent": percent}
    if parts.raw:
        where, narrowing = narrowed(user_id, question.wanted)
        table = "requests" if percent is None else SAMPLED
        query = over_requests(metrics, group, bucket_s, f"{parts.of_raw} AND {where}", table)
        found += connection.execute(query, {**given, **narrowing}).fetchall()
    if parts.first < parts.last:
        where, narrowing = narrowed(user_id, question.wanted, hourly=True)
        query = over_hours(metrics, group, bucket_s, f"{OF_HOURS} AND {where}")
        found += connection.execute(query, {**given, **narrowing}).fetchall()
    return found


def _cells(rows: Iterable[DictRow], metrics: Sequence[str]) -> list[Cell]:
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
            tuple(_value(same, key) for key in metrics),
            max(row["newest"] for row in same).timestamp(),
        )
        for (group, start_s), same in sorted(together.items())
    ]


def _value(rows: list[DictRow], metric: str) -> Value:
    total, divisor, unknown = columns_of(metric)
    summed = float(sum(row[total] for row in rows))
    # NULL says that nothing is divided.
    divisors = [row[divisor] for row in rows]
    divided_by = 1.0 if all(one is None for one in divisors) else float(sum(one or 0 for one in divisors))
    return Value(summed / divided_by if divided_by else None, int(sum(row[unknown] for row in rows)))
