"""What the Overview page says of spend: by a dimension, against the range before, and in the calendar month."""

from collections.abc import Mapping
from dataclasses import replace
from typing import LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection
from infra.db.metrics.hour_parts import METRICS, read_parts
from infra.db.metrics.measures import DIMENSION_SQL, add_up, moments, over_both, select, sums_of
from infra.db.metrics.requests import read_span
from modelpilot.metrics.dimensions import OTHER, TAG
from modelpilot.metrics.explore import DIMENSION_OF
from modelpilot.metrics.overview import (
    FORECAST_DAYS,
    MOST_SHARES,
    SPEND_BY,
    MonthSpend,
    Overview,
    Spend,
    SpendQuestion,
    SpendShare,
)
from modelpilot.metrics.requests import NO_FILTER, AnalyticsScope

_DAY_S = 86_400.0
_SUMS = ("requests", "total_cost_usd", "unknown_cost_count")
_DIMENSIONS: Mapping[str, str] = {str(by): DIMENSION_OF[by] for by in SPEND_BY}
_ADDED = ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
_KEY_NAMES: LiteralString = """
SELECT id, name FROM api_keys WHERE id = ANY (%(ids)s) AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)"""


def with_spend(
    connection: SyncConnection, scope: AnalyticsScope, question: SpendQuestion, overview: Overview
) -> Overview:
    """The page with what was spent on what, before, and in the month."""
    earlier = replace(scope, start_s=2.0 * scope.start_s - scope.end_s, end_s=scope.start_s)
    span = read_span(connection, scope.user_id)
    return replace(
        overview,
        before=_spent(connection, earlier),
        spend_by=_shares(connection, scope, earlier, question.by),
        month=_month(connection, scope, question, None if span is None else span.first_s),
        first_request_s=None if span is None else span.first_s,
    )


def _spent(connection: SyncConnection, scope: AnalyticsScope) -> Spend:
    parts, selected = read_parts(connection, *moments(scope)), select(scope, NO_FILTER)
    query = over_both(sums_of(_SUMS), {}, selected, parts, "hourly_totals")
    rows = connection.execute(query, {**selected.parameters, **parts.parameters}).fetchall()
    return _spend(add_up(rows, _SUMS, lambda _: "")[""])


def _month(
    connection: SyncConnection, scope: AnalyticsScope, question: SpendQuestion, first_s: float | None
) -> MonthSpend | None:
    if question.month is None or first_s is None:
        return None
    began_s, now_s = question.month
    recent_s = max(now_s - FORECAST_DAYS * _DAY_S, min(first_s, now_s))
    so_far, recent = (
        _spent(connection, replace(scope, start_s=start_s, end_s=now_s)) for start_s in (began_s, recent_s)
    )
    return MonthSpend(so_far, recent, (now_s - recent_s) / _DAY_S)


def _shares(
    connection: SyncConnection, scope: AnalyticsScope, earlier: AnalyticsScope, by: str
) -> tuple[SpendShare, ...]:
    """The dearest values and the rest, which Postgres adds up, since there may be as many values as requests."""
    largest = f""", ranked AS (
            SELECT *, row_number() OVER (
                ORDER BY value = '{OTHER}', total_cost_usd DESC, requests DESC, value) AS place FROM grouped
        ) SELECT CASE WHEN value <> '{OTHER}' AND place <= {MOST_SHARES} THEN value END AS value,
            count(*) AS members, {_ADDED}
        FROM ranked GROUP BY 1"""  # noqa: S608  (own constants)
    now = {row["value"]: row for row in _grouped(connection, scope, by, largest, [])}
    same = f"""SELECT CASE WHEN value = ANY (%(values)s) THEN value END AS value, {_ADDED}
        FROM grouped GROUP BY 1"""  # noqa: S608  (own constants)
    before = {row["value"]: _spend(row) for row in _grouped(connection, earlier, by, same, list(now))}
    names = _key_names(connection, scope, list(now)) if by == "key" else {}
    found = [
        SpendShare(value, _spend(row), before.get(value, Spend()), int(row["members"]), names.get(value))
        for value, row in now.items()
    ]
    return tuple(sorted(found, key=_dearest))


def _dearest(share: SpendShare) -> tuple[bool, float, int, str]:
    return share.value is None, -share.spend.cost_usd, -share.spend.requests, share.value or ""


def _grouped(
    connection: SyncConnection, scope: AnalyticsScope, by: str, rest: str, values: list[str | None]
) -> list[DictRow]:
    """What `rest` makes of `grouped`, the sums by value: of hours where these know the dimension."""
    dimension, tag = ("tag", by.removeprefix(TAG)) if by.startswith(TAG) else (_DIMENSIONS[by], "")
    selected = select(scope, NO_FILTER, dimension, tag)
    hourly = selected.hourly or METRICS
    parts = read_parts(connection, *moments(scope), hourly, scope.user_id)
    table = "hourly_totals" if by == "model" else hourly.table
    both = over_both(sums_of(_SUMS), {"value": DIMENSION_SQL[dimension]}, selected, parts, table)
    query = f"WITH grouped AS (SELECT value, {_ADDED} FROM ({both}) AS parts GROUP BY 1) {rest}"  # noqa: S608
    given = {**selected.parameters, **parts.parameters, "values": [one for one in values if one is not None]}
    return connection.execute(query, given).fetchall()


def _spend(sums: Mapping[str, float]) -> Spend:
    return Spend(float(sums["total_cost_usd"]), int(sums["unknown_cost_count"]), int(sums["requests"]))


def _key_names(connection: SyncConnection, scope: AnalyticsScope, ids: list[str | None]) -> dict[str | None, str]:
    rows = connection.execute(_KEY_NAMES, {"ids": ids, "user_id": scope.user_id}).fetchall()
    return {row["id"]: row["name"] for row in rows}
