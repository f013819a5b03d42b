"""What the analytics API reads: `modelpilot.metrics.ports.MetricsReader` on Postgres."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow

from infra.db.engine import Connection, Database
from infra.db.management.paging import decode_cursor, decode_moment_cursor, encode_cursor, make_page, moment_cursor
from infra.db.metrics.hour_parts import HOURS_KNOWN, Parts, only_raw, split
from infra.db.metrics.measures import (
    ADDED,
    DIMENSION_SQL,
    add_up,
    baselines_over_both,
    by_baseline,
    is_in_hours,
    moments,
    over_both,
    select,
    sums_of,
)
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import Page
from modelpilot.metrics.ports import Group, Row, Totals
from modelpilot.metrics.requests import AnalyticsScope, RequestFilter

# Reading single requests takes about a second per million; more than this is not waited for.
_READ_S = 30.0

_SUMS = (*ADDED, "quality_sum", "completed_count", "truncated_count")
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
        start, end = moments(scope)
        selected = select(scope, wanted)
        given = {**selected.parameters, "start": start, "end": end, "limit": limit + 1}
        after = ""
        if cursor is not None:
            after = "AND (hour, router_id, model, provider) < (%(at)s, %(c_router)s, %(c_model)s, %(c_provider)s)"
            given |= _hour_cursor(cursor)
        rows = await self._database.fetch_all(
            f"""SELECT * FROM hourly_metrics
            WHERE hour >= %(start)s AND hour < %(end)s AND {selected.hours} {after}
            ORDER BY hour DESC, router_id DESC, model DESC, provider DESC LIMIT %(limit)s""",  # noqa: S608
            given,
        )
        return make_page(rows, limit, _itself, _after_hour)

    async def totals(self, scope: AnalyticsScope, wanted: RequestFilter) -> Totals:
        """From hourly rows where whole hours are up to date, from single requests otherwise: a million requests are
        some hundred hourly rows. All as of one moment."""
        selected = select(scope, wanted)
        async with self._one_moment() as connection:
            parts, through = await _parts(connection, scope, in_hours=is_in_hours(wanted))
            given = {**selected.parameters, **parts.parameters}
            sums = await _rows(connection, over_both(sums_of(_SUMS), {}, selected, parts), given)
            baselines = await _rows(connection, baselines_over_both(selected, parts), given)
        return Totals(add_up(sums, _SUMS, lambda _: "")[""], by_baseline(baselines), parts.hours, through)

    async def groups(
        self, scope: AnalyticsScope, wanted: RequestFilter, group: Group, most: int
    ) -> list[tuple[str, Mapping[str, float]]]:
        """As `totals`, by a dimension; what the hourly rows do not have is read from single requests."""
        selected, key = select(scope, wanted), DIMENSION_SQL[group.dimension]
        async with self._one_moment() as connection:
            parts, _ = await _parts(connection, scope, in_hours=is_in_hours(wanted) and key.hours != "NULL")
            given = {**selected.parameters, **parts.parameters, "group_tag": group.tag}
            rows = await _rows(connection, over_both(sums_of(_SUMS), {"grouped": key}, selected, parts), given)
        found = add_up(rows, _SUMS, lambda row: str(row["grouped"]))
        dearest = sorted(found.items(), key=lambda each: (-each[1]["total_cost_usd"], -each[1]["requests"], each[0]))
        return list(dearest[:most])

    @asynccontextmanager
    async def _one_moment(self) -> AsyncIterator[Connection]:
        """A connection on which everything is read as of one moment."""
        async with self._database.transaction(_READ_S) as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection


async def _parts(connection: Connection, scope: AnalyticsScope, *, in_hours: bool) -> tuple[Parts, datetime | None]:
    """The parts of the range, and how far the aggregation has come; all from single requests unless `in_hours`."""
    start, end = moments(scope)
    (known,) = await _rows(connection, HOURS_KNOWN, {"start": start, "end": end})
    parts = split(start, end, known)
    return parts if in_hours else only_raw(start, end), parts.through


async def _rows(connection: Connection, query: str, given: Mapping[str, Any]) -> list[DictRow]:
    return await (await connection.execute(query, given)).fetchall()


def _itself(row: DictRow) -> Row:
    return row


def _after_hour(row: DictRow) -> str:
    return encode_cursor(int(row["hour"].timestamp()), row["router_id"], row["model"], row["provider"])


def _hour_cursor(cursor: str) -> dict[str, Any]:
    hour, router_id, model, provider = decode_cursor(cursor, (int, str, str, str))
    try:
        at = datetime.fromtimestamp(hour, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest("cursor is not one that this server returned", param="cursor") from None
    return {"at": at, "c_router": router_id, "c_model": model, "c_provider": provider}
