"""What the analytics API reads: `modelpilot.metrics.ports.MetricsReader` on Postgres."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow

from infra.db.engine import Connection, Database
from infra.db.management.paging import decode_cursor, decode_moment_cursor, encode_cursor, make_page, moment_cursor
from infra.db.metrics.hour_parts import Parts, known_query, only_raw, split
from infra.db.metrics.measures import (
    ADDED,
    DIMENSION_SQL,
    Selection,
    add_up,
    baselines_over_both,
    baselines_over_requests,
    by_baseline,
    moments,
    over_both,
    select,
    sums_of,
)
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import Page
from modelpilot.metrics.dimensions import METRICS, OTHER, Hourly
from modelpilot.metrics.ports import Group, GroupSums, Row, Totals
from modelpilot.metrics.requests import AnalyticsScope, RequestFilter

# Reading single requests takes about a second per million; more than this is not waited for.
_READ_S = 30.0

_SUMS = (*ADDED, "quality_sum", "completed_count", "truncated_count")
# What follows from the sums of a row; percentiles do not.
_RATES = """coalesce(success_count::float8 / nullif(requests, 0), 0) AS success_rate,
    coalesce(total_latency_ms / nullif(requests, 0), 0) AS avg_latency_ms,
    total_cost_usd / nullif(known_cost_count, 0) AS avg_cost_usd"""
_NO_PERCENTILES = """NULL::float8 AS p50_latency_ms, NULL::float8 AS p95_latency_ms, NULL::float8 AS p99_latency_ms,
    NULL::float8 AS p50_ttft_ms, NULL::float8 AS p50_overhead_ms"""
_UPDATED = "(SELECT aggregated_at FROM aggregated_hours AS done WHERE done.hour = found.hour)"
_ADDED_UP = ", ".join(f"sum({name}) AS {name}" for name in ADDED)
_REQUEST_COLUMNS = """request_id, router_id, api_key_id, created_at, model, provider, status, success, finish_reason,
    request_type, latency_ms, ttft_ms, overhead_ms, cost_usd, carbon_g, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens, quality, quality_source, attempts, fallback_used, degraded, explored, propensity, config_version,
    prompt_hash, session_id, stream, error_code, end_user, purpose, tags, estimated"""


class PostgresMetrics:
    """Implements `MetricsReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def requests(self, scope: AnalyticsScope, wanted: RequestFilter, cursor: str | None, limit: int) -> Page[Row]:
        """By (created_at, request_id), newest first: in the order of the index of the owner (or of the router)."""
        start, end = moments(scope)
        selected = select(scope, wanted)
        after = "" if cursor is None else "AND (created_at, request_id) < (%(at)s, %(after_id)s)"
        rows = await self._database.fetch_all(
            f"""SELECT {_REQUEST_COLUMNS} FROM requests
            WHERE created_at >= %(start)s AND created_at < %(end)s AND {selected.requests} {after}
            ORDER BY created_at DESC, request_id DESC LIMIT %(limit)s""",  # noqa: S608  (own constants)
            {**selected.parameters, **decode_moment_cursor(cursor), "start": start, "end": end, "limit": limit + 1},
        )
        return make_page(rows, limit, _itself, lambda row: moment_cursor(row, "request_id"))

    async def hourly(self, scope: AnalyticsScope, wanted: RequestFilter, cursor: str | None, limit: int) -> Page[Row]:
        """By (hour, router, model, provider), newest first."""
        selected = select(scope, wanted, "routerId")  # rows that know their router, model and provider
        table = _table(selected)
        columns = "*"
        if table != METRICS:
            columns = f"*, {_RATES}, {_NO_PERCENTILES}, coalesce({_UPDATED}, hour) AS updated_at"
        after, given = "", _of_hours(scope, selected, limit)
        if cursor is not None:
            after = "AND (hour, router_id, model, provider) < (%(at)s, %(c_router)s, %(c_model)s, %(c_provider)s)"
            given |= _hour_cursor(cursor)
        rows = await self._database.fetch_all(
            f"""SELECT {columns} FROM {table} AS found
            WHERE hour >= %(start)s AND hour < %(end)s AND {selected.hours} {after}
            ORDER BY hour DESC, router_id DESC, model DESC, provider DESC LIMIT %(limit)s""",  # noqa: S608
            given,
        )
        return make_page(rows, limit, _itself, _after_hour)

    async def hourly_groups(
        self, scope: AnalyticsScope, wanted: RequestFilter, group: Group, cursor: str | None, limit: int
    ) -> Page[Row]:
        """By (hour, key), newest first."""
        selected = select(scope, wanted, group.dimension, group.tag)
        table, key = _table(selected), DIMENSION_SQL[group.dimension].hours
        after, given = "", _of_hours(scope, selected, limit)
        if cursor is not None:
            after = f"AND (hour, {key}) < (%(at)s, %(c_key)s)"
            given |= _group_cursor(cursor)
        rows = await self._database.fetch_all(
            f"""SELECT *, {_RATES}, coalesce({_UPDATED}, hour) AS updated_at FROM (
                SELECT hour, {key} AS key, {_ADDED_UP},
                    sum(avg_quality * quality_count) / nullif(sum(quality_count), 0) AS avg_quality
                FROM {table} WHERE hour >= %(start)s AND hour < %(end)s AND {selected.hours} {after} GROUP BY 1, 2
                ORDER BY 1 DESC, 2 DESC LIMIT %(limit)s
            ) AS found ORDER BY hour DESC, key DESC""",  # noqa: S608  (own constants)
            given,
        )
        return make_page(rows, limit, _itself, _after_group)

    async def totals(self, scope: AnalyticsScope, wanted: RequestFilter) -> Totals:
        """From hourly rows where whole hours are up to date, from single requests otherwise: a million requests are
        some hundred hourly rows. All as of one moment. Baselines are not kept by dimension, so those of a dimension's
        value come from single requests."""
        selected = select(scope, wanted)
        async with self._one_moment() as connection:
            parts, through = await _parts(connection, scope, selected)
            given = {**selected.parameters, **parts.parameters}
            sums = await _rows(connection, over_both(sums_of(_SUMS), {}, selected, parts), given)
            if selected.hourly == Hourly():
                query = baselines_over_both(selected, parts)
            else:
                whole = only_raw(*moments(scope))
                query = baselines_over_requests(f"{whole.of_raw} AND {selected.requests}", {})
                given |= whole.parameters
            baselines = await _rows(connection, query, given)
        return Totals(add_up(sums, _SUMS, lambda _: "")[""], by_baseline(baselines), parts.hours, through)

    async def groups(self, scope: AnalyticsScope, wanted: RequestFilter, group: Group, most: int) -> GroupSums:
        """As `totals`, by a dimension; what the hourly rows do not have is read from single requests."""
        selected = select(scope, wanted, group.dimension, group.tag)
        keys = {"grouped": DIMENSION_SQL[group.dimension]}
        async with self._one_moment() as connection:
            parts, _ = await _parts(connection, scope, selected)
            given = {**selected.parameters, **parts.parameters}
            rows = await _rows(connection, over_both(sums_of(_SUMS), keys, selected, parts), given)
        found = add_up(rows, _SUMS, lambda row: str(row["grouped"]))
        dearest = sorted(found, key=lambda key: (-found[key]["total_cost_usd"], -found[key]["requests"], key))
        kept = dearest if len(dearest) <= most else [key for key in dearest if key != OTHER][: most - 1]
        groups = [(key, found[key]) for key in kept]
        if rest := [row for row in rows if str(row["grouped"]) not in set(kept)]:
            groups += add_up(rest, _SUMS, lambda _: OTHER).items()
        return GroupSums(groups, parts.hours)

    @asynccontextmanager
    async def _one_moment(self) -> AsyncIterator[Connection]:
        """A connection on which everything is read as of one moment."""
        async with self._database.transaction(_READ_S) as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection


async def _parts(connection: Connection, scope: AnalyticsScope, selected: Selection) -> tuple[Parts, datetime | None]:
    """The parts of the range, and how far the aggregation has come; all from single requests where no hourly rows tell
    these apart."""
    start, end = moments(scope)
    (known,) = await _rows(connection, *known_query(start, end, selected.hourly or Hourly(), scope.user_id))
    parts = split(start, end, known)
    return parts if selected.hourly else only_raw(start, end), parts.through


def _table(selected: Selection) -> str:
    """The hourly rows of a selection. Raises InvalidRequest where none tell its requests apart."""
    if selected.hourly is None:
        raise InvalidRequest("hourly metrics do not tell these requests apart")
    return selected.hourly.table


def _of_hours(scope: AnalyticsScope, selected: Selection, limit: int) -> dict[str, Any]:
    start, end = moments(scope)
    return {**selected.parameters, "start": start, "end": end, "limit": limit + 1}


async def _rows(connection: Connection, query: str, given: Mapping[str, Any]) -> list[DictRow]:
    return await (await connection.execute(query, given)).fetchall()


def _itself(row: DictRow) -> Row:
    return row


def _after_hour(row: DictRow) -> str:
    return encode_cursor(int(row["hour"].timestamp()), row["router_id"], row["model"], row["provider"])


def _after_group(row: DictRow) -> str:
    return encode_cursor(int(row["hour"].timestamp()), row["key"])


def _group_cursor(cursor: str) -> dict[str, Any]:
    hour, key = decode_cursor(cursor, (int, str))
    return {"at": _hour_of(hour), "c_key": key}


def _hour_cursor(cursor: str) -> dict[str, Any]:
    hour, router_id, model, provider = decode_cursor(cursor, (int, str, str, str))
    return {"at": _hour_of(hour), "c_router": router_id, "c_model": model, "c_provider": provider}


def _hour_of(moment_s: int) -> datetime:
    try:
        return datetime.fromtimestamp(moment_s, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest("cursor is not one that this server returned", param="cursor") from None
