"""Answers to questions about many requests: hourly rows where they say the same, single requests otherwise.

Percentiles of many requests come from hourly ones, or, where hours do not tell these requests apart, from a sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection
from infra.db.metrics.hour_parts import OF_HOURS, Parts, only_raw, read_parts
from infra.db.metrics.measures import (
    BUCKET,
    GROUPS,
    MEASURES,
    Expression,
    Measure,
    Selection,
    is_additive,
    is_in_hours,
    moments,
    over_both,
    over_hours,
    over_requests,
    select,
    sums_of,
)
from modelpilot.metrics.explore import Answer, Cell, GroupBy, Question, Value
from modelpilot.metrics.requests import AnalyticsScope

HOUR_S = 3_600

# The same sample each time, so that a refresh does not make the figures tremble. For a share of `percent_of_pages`.
SAMPLED: LiteralString = "requests TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (1)"
# What Postgres last counted; -1 before it has.
_ROWS: LiteralString = "SELECT reltuples::bigint AS n FROM pg_class WHERE oid = 'requests'::regclass"

_NEWEST = {"newest": Expression("max(created_at)", "max(hour)")}
_NO_BUCKET = Expression("NULL::timestamptz", "NULL::timestamptz")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests are read one by one.

    Percentiles of `single_requests`, and buckets below an hour, are computed in half a second. Where there are more
    requests and hours do not help, about `sample` of them are measured, beside which all have to be counted; for the
    Overview page it is about `overview_sample`.
    """

    single_requests: int = 300_000
    sample: int = 200_000
    overview_sample: int = 20_000


LIMITS = Limits()


def ask(connection: SyncConnection, scope: AnalyticsScope, question: Question, limits: Limits = LIMITS) -> Answer:
    """The cells, within a transaction."""
    start, end = moments(scope)
    parts, bucket_s = only_raw(start, end), question.bucket_s
    selected = select(scope, question.wanted)
    if question.group == "type" or not is_in_hours(question.wanted):
        return _of_requests(connection, parts, selected, question, limits)
    hours = read_parts(connection, start, end)
    fine = bucket_s is not None and bucket_s < HOUR_S
    exactly = fine or not is_additive(question.metrics)
    if not exactly or count_in_hours(connection, hours, selected) > limits.single_requests:
        parts, bucket_s = hours, max(bucket_s, HOUR_S) if bucket_s else None
    columns, keys = _columns(question.metrics), _keys(question.group, bucket_s)
    given = {**selected.parameters, **parts.parameters, "bucket_s": bucket_s}
    rows = connection.execute(over_both(columns, keys, selected, parts), given).fetchall()
    averaged = parts.first < parts.last and not is_additive(question.metrics)
    return Answer(tuple(_cells(rows, question.metrics)), bucket_s, averaged)


def count_in_hours(connection: SyncConnection, parts: Parts, selected: Selection) -> int:
    """How many requests the hourly rows of these parts speak of."""
    query = over_hours(sums_of(("requests",)), {}, f"{OF_HOURS} AND {selected.hours}")
    row = connection.execute(query, {**selected.parameters, **parts.parameters}).fetchone()
    return int(row["requests"]) if row else 0


def percent_of_pages(connection: SyncConnection, requests: int, wanted: int) -> float | None:
    """Of `requests` in a range, about `wanted` are on this share (in %) of the table's pages.

    A sample is taken in whole pages of the table, which hold requests of all tenants and times: it is small beside the
    table only where the range is not. None: all are to be read, since they are few, or fewer than on those pages.
    """
    if requests <= wanted:
        return None
    row = connection.execute(_ROWS).fetchone() or {"n": 0}
    share = wanted / requests
    return 100.0 * share if share * max(row["n"], requests) < requests else None


def value_of(rows: Sequence[DictRow], measure: Measure) -> Value:
    """A metric out of the sums of these rows: added up, and only then divided."""
    unknown = int(_total(rows, measure.unknown)) if measure.unknown else 0
    divisor = _total(rows, measure.divisor) if measure.divisor else 1.0
    return Value(_total(rows, measure.total) / divisor if divisor else None, unknown)


def _of_requests(
    connection: SyncConnection, parts: Parts, selected: Selection, question: Question, limits: Limits
) -> Answer:
    """What hourly rows do not have: sums of all requests, percentiles of a sample where there are too many to sort."""
    percentiles = tuple(key for key in question.metrics if not is_additive((key,)))
    keys = _keys(question.group, question.bucket_s)
    where = f"{parts.of_raw} AND {selected.requests}"
    given = {**selected.parameters, **parts.parameters, "bucket_s": question.bucket_s}
    added = _columns(tuple(key for key in question.metrics if key not in percentiles))
    rows = connection.execute(over_requests(added, keys, where), given).fetchall()
    requests, sampled = sum(row["requests"] for row in rows), None
    if percentiles:
        many = requests > limits.single_requests
        percent = percent_of_pages(connection, requests, limits.sample) if many else None
        query = over_requests(_columns(percentiles), keys, where, "requests" if percent is None else SAMPLED)
        measured = connection.execute(query, {**given, "percent": percent}).fetchall()
        sampled = None if percent is None else sum(row["requests"] for row in measured)
        rows = _joined(rows, measured, percentiles)
    return Answer(tuple(_cells(rows, question.metrics)), question.bucket_s, sampled=sampled)


def _keys(group: GroupBy, bucket_s: int | None) -> dict[str, Expression]:
    return {
        "grp": GROUPS[group],
        "bucket": BUCKET if bucket_s else _NO_BUCKET,
    }


def _columns(metrics: Sequence[str]) -> dict[str, Expression]:
    return {**sums_of(("requests", *(name for key in metrics for name in MEASURES[key].sums))), **_NEWEST}


def _joined(counted: Sequence[DictRow], measured: Sequence[DictRow], metrics: Sequence[str]) -> list[DictRow]:
    """Every counted row with these metrics of it; a group of which the sample has nothing has no value."""
    nothing = {name: 0 for key in metrics for name in MEASURES[key].sums}
    found = {(row["grp"], row["bucket"]): row for row in measured}
    return [{**nothing, **found.get((row["grp"], row["bucket"]), {}), **row} for row in counted]


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
            int(_total(same, "requests")),
            tuple(value_of(same, MEASURES[key]) for key in metrics),
            max(row["newest"] for row in same).timestamp(),
        )
        for (group, start_s), same in sorted(together.items())
    ]


def _total(rows: Sequence[DictRow], name: str) -> float:
    return float(sum(row[name] for row in rows))
