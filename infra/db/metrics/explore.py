"""Answers to questions about many requests: hourly rows where they say the same, single requests otherwise.

Percentiles of many requests come from hourly ones, or, where hours do not tell these requests apart, from a sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

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
    moments,
    over_both,
    over_hours,
    over_requests,
    select,
    sums_of,
)
from modelpilot.metrics.dimensions import METRICS, OTHER, Hourly
from modelpilot.metrics.explore import DIMENSION_OF, MOST_GROUPS, UNBOUNDED, Answer, Cell, Question, Value
from modelpilot.metrics.requests import AnalyticsScope

HOUR_S = 3_600

# The same sample each time, so that a refresh does not make the figures tremble. For a share of `percent_of_pages`.
SAMPLED: LiteralString = "requests TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (1)"
# What Postgres last counted; -1 before it has.
_ROWS: LiteralString = "SELECT reltuples::bigint AS n FROM pg_class WHERE oid = 'requests'::regclass"

_NEWEST = {"newest": Expression("max(created_at)", "max(hour)")}
_SIZES = ("requests", "total_cost_usd")
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
    bucket_s = question.bucket_s
    selected = select(scope, question.wanted, DIMENSION_OF.get(question.group), question.tag)
    hourly = selected.hourly
    hours = read_parts(connection, start, end, hourly, scope.user_id) if hourly else only_raw(start, end)
    asked = _Asked(connection, selected, question, _largest(connection, selected, question, hours))
    # Percentiles are in the hourly rows of routers, models and providers alone.
    if hourly is None or (hourly.table != METRICS and not is_additive(question.metrics)):
        return _of_requests(asked, only_raw(start, end), limits)
    parts = only_raw(start, end)
    fine = bucket_s is not None and bucket_s < HOUR_S
    exactly = fine or not is_additive(question.metrics)
    if not exactly or count_in_hours(connection, hours, selected) > limits.single_requests:
        parts, bucket_s = hours, max(bucket_s, HOUR_S) if bucket_s else None
    query = over_both(_columns(question.metrics), asked.keys(bucket_s), selected, parts)
    rows = connection.execute(query, {**asked.given, **parts.parameters, "bucket_s": bucket_s}).fetchall()
    averaged = parts.first < parts.last and not is_additive(question.metrics)
    return Answer(tuple(_cells(rows, question.metrics)), bucket_s, averaged)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question to a database. `largest` are the groups to tell apart, None: all."""

    connection: SyncConnection
    selected: Selection
    question: Question
    largest: Sequence[str] | None

    @property
    def given(self) -> dict[str, Any]:
        """The parameters of the selection and of `keys`, but for the bucket's width."""
        return {**self.selected.parameters, "largest": self.largest}

    def keys(self, bucket_s: int | None) -> dict[str, Expression]:
        """What cells are grouped by."""
        group = GROUPS[self.question.group]
        if self.largest is not None:
            chosen = "CASE WHEN {0} = ANY (%(largest)s) THEN {0} ELSE '" + OTHER + "' END"
            group = Expression(chosen.format(group.requests), chosen.format(group.hours))
        return {"grp": group, "bucket": BUCKET if bucket_s else _NO_BUCKET}


def _largest(connection: SyncConnection, selected: Selection, question: Question, parts: Parts) -> list[str] | None:
    """The groups with most requests, where a page has no room for all; None: it has, or knows that it has."""
    if question.group not in UNBOUNDED:
        return None
    of = over_both(sums_of(_SIZES), {"grp": GROUPS[question.group]}, selected, parts)
    query = f"""SELECT grp FROM ({of}) AS found GROUP BY 1
        ORDER BY sum(requests) DESC, sum(total_cost_usd) DESC, 1 LIMIT {MOST_GROUPS + 1}"""  # noqa: S608  (own constants)
    rows = connection.execute(query, {**selected.parameters, **parts.parameters}).fetchall()
    found = [str(row["grp"]) for row in rows]
    return None if len(found) <= MOST_GROUPS else [name for name in found if name != OTHER][: MOST_GROUPS - 1]


def count_in_hours(connection: SyncConnection, parts: Parts, selected: Selection) -> int:
    """How many requests the hourly rows of these parts speak of."""
    table = (selected.hourly or Hourly()).table
    query = over_hours(sums_of(("requests",)), {}, f"{OF_HOURS} AND {selected.hours}", table)
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


def _of_requests(asked: _Asked, parts: Parts, limits: Limits) -> Answer:
    """What hourly rows do not have: sums of all requests, percentiles of a sample where there are too many to sort."""
    connection, question = asked.connection, asked.question
    percentiles = tuple(key for key in question.metrics if not is_additive((key,)))
    keys = asked.keys(question.bucket_s)
    where = f"{parts.of_raw} AND {asked.selected.requests}"
    given = {**asked.given, **parts.parameters, "bucket_s": question.bucket_s}
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
