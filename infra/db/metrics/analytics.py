"""`modelpilot.metrics.analytics.MetricsReader` on Postgres."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow

from infra.db.engine import Connection, Database
from infra.db.management.paging import decode_cursor, decode_moment_cursor, encode_cursor, make_page, moment_cursor
from infra.db.metrics.aggregation_sql import BASELINE_COLUMNS, BASELINE_ROWS, BASELINE_SUMS, HAS_BASELINE, MEASURES
from infra.db.metrics.hour_parts import HOURS_KNOWN, OF_HOURS, Parts, split
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import Page
from modelpilot.metrics.analytics import MetricsFilter, Row, Totals
from modelpilot.metrics.savings import BaselineSums, added_up

# Sums over a range of time: hourly rows where whole hours are up to date, single requests for the rest.
#
# A million requests are some hundred hourly rows. The single requests that remain are those of the two hours that the
# range cuts, of the hour in progress, and of hours that are noted as stale.

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
# Reading single requests takes about a second per million; more than this is not waited for.
_READ_S = 30.0

# Hourly columns that are added up.
_ADDED = (
    "requests", "success_count", "failed_count", "canceled_count", "fallback_count", "degraded_count", "explored_count",
    "attempt_count", "total_latency_ms", "total_cost_usd", "unknown_cost_count", "known_cost_count", "input_tokens",
    "output_tokens", "cached_tokens", "reasoning_tokens", "total_carbon_g", "unknown_carbon_count", "quality_count",
)  # fmt: skip
# name: (over requests, over hourly rows)
_SUMS: Mapping[str, tuple[str, str]] = {
    **{name: (MEASURES[name], f"sum({name})") for name in _ADDED},
    "quality_sum": ("sum(quality)", "sum(avg_quality * quality_count)"),
}
_OVER_REQUESTS = ", ".join(f"coalesce({raw}, 0) AS {name}" for name, (raw, _) in _SUMS.items())
_OVER_HOURS = ", ".join(f"coalesce({hourly}, 0) AS {name}" for name, (_, hourly) in _SUMS.items())
_BASELINES_OVER_HOURS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in BASELINE_COLUMNS)


async def read_totals(
    database: Database, wanted: MetricsFilter, requests: Sequence[str], hours: Sequence[str], given: dict[str, Any]
) -> Totals:
    """The sums, all as of one moment. `requests` and `hours` are conditions on the two tables, without times."""
    async with database.transaction(_READ_S) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        parts = await _parts(connection, wanted)
        given = {**given, **parts.parameters}
        over_requests, over_hours = " AND ".join([parts.of_raw, *requests]), " AND ".join([OF_HOURS, *hours])
        sums = [
            await _all(connection, f"SELECT {_OVER_REQUESTS} FROM requests WHERE {over_requests}", given),  # noqa: S608
            await _all(connection, f"SELECT {_OVER_HOURS} FROM hourly_metrics WHERE {over_hours}", given),  # noqa: S608
        ]
        baselines = [
            await _all(
                connection,
                f"""SELECT side.* FROM (SELECT {BASELINE_SUMS} FROM requests WHERE {over_requests}) AS sums,
                {BASELINE_ROWS} WHERE {HAS_BASELINE}""",  # noqa: S608
                given,
            ),
            await _all(
                connection,
                f"SELECT baseline, {_BASELINES_OVER_HOURS} FROM hourly_baselines WHERE {over_hours} GROUP BY 1",  # noqa: S608
                given,
            ),
        ]
    return Totals(
        sums={name: _number(sums[0][0][name]) + _number(sums[1][0][name]) for name in _SUMS},
        baselines=by_baseline(row for part in baselines for row in part),
        hours_from_metrics=parts.hours,
        aggregated_through=parts.through,
    )


async def _parts(connection: Connection, wanted: MetricsFilter) -> Parts:
    start, end = wanted.start or _EARLIEST, wanted.end or _LATEST
    (known,) = await _all(connection, HOURS_KNOWN, {"start": start, "end": end})
    return split(start, end, known)


async def _all(connection: Connection, query: str, given: Mapping[str, Any]) -> list[DictRow]:
    return await (await connection.execute(query, given)).fetchall()


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else float(value)


def by_baseline(rows: Iterable[DictRow]) -> dict[str, BaselineSums]:
    """Rows of a baseline's name and `BASELINE_COLUMNS`, added up."""
    return added_up((row["baseline"], _baseline_sums(row)) for row in rows)


def _baseline_sums(row: DictRow) -> BaselineSums:
    return BaselineSums(
        requests=int(row["requests"]),
        estimated=int(row["estimated"]),
        cost_usd=_number(row["cost_usd"]),
        actual_cost_usd=_number(row["actual_cost_usd"]),
        carbon_requests=int(row["carbon_requests"]),
        carbon_g=_number(row["carbon_g"]),
        actual_carbon_g=_number(row["actual_carbon_g"]),
    )


_REQUEST_COLUMNS = """request_id, router_id, api_key_id, created_at, completed_at, model, provider, status, success,
    finish_reason, request_type, latency_ms, ttft_ms, overhead_ms, cost_usd, carbon_g, input_tokens, output_tokens,
    cached_tokens, reasoning_tokens, quality, quality_source, attempts, fallback_used, degraded, explored, propensity,
    config_version, prompt_hash, session_id, stream, error_code"""


class PostgresMetrics:
    """See MetricsReader. Statements are built from the filters that are given: one plan for all of them would be that
    of none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def requests(self, wanted: MetricsFilter, cursor: str | None, limit: int) -> Page[Row]:
        """By (created_at, request_id), newest first: in the order of the index of the owner (or of the router)."""
        conditions, given = of_requests(wanted)
        if cursor is not None:
            conditions.append("(created_at, request_id) < (%(at)s, %(after_id)s)")
            given |= decode_moment_cursor(cursor)
        rows = await self._database.fetch_all(
            f"""SELECT {_REQUEST_COLUMNS} FROM requests WHERE {" AND ".join(conditions)}
            ORDER BY created_at DESC, request_id DESC LIMIT %(limit)s""",  # noqa: S608  (own constants)
            {**given, "limit": limit + 1},
        )
        return make_page(rows, limit, _itself, lambda row: moment_cursor(row, "request_id"))

    async def hourly(self, wanted: MetricsFilter, cursor: str | None, limit: int) -> Page[Row]:
        """By (hour, router, model, provider), newest first."""
        conditions, given = of_hours(wanted)
        if cursor is not None:
            conditions.append(
                "(hour, router_id, model, provider) < (%(at)s, %(c_router)s, %(c_model)s, %(c_provider)s)"
            )
            given |= _hour_cursor(cursor)
        rows = await self._database.fetch_all(
            f"""SELECT * FROM hourly_metrics WHERE {" AND ".join(conditions)}
            ORDER BY hour DESC, router_id DESC, model DESC, provider DESC LIMIT %(limit)s""",  # noqa: S608
            {**given, "limit": limit + 1},
        )
        return make_page(rows, limit, _itself, _after_hour)

    async def totals(self, wanted: MetricsFilter) -> Totals:
        """From hourly rows where whole hours are up to date, from single requests otherwise."""
        requests, given = of_requests(wanted, times=False)
        hours, _ = of_hours(wanted, times=False)
        return await read_totals(self._database, wanted, requests, hours, given)


def of_requests(wanted: MetricsFilter, *, times: bool = True) -> tuple[list[str], dict[str, Any]]:
    """Conditions on `requests` and their parameters."""
    conditions = _common(wanted, "created_at" if times else None)
    if wanted.router_id is not None:
        conditions.append("router_id = %(router_id)s" if wanted.router_id else "router_id IS NULL")
    return conditions, _given(wanted)


def of_hours(wanted: MetricsFilter, *, times: bool = True) -> tuple[list[str], dict[str, Any]]:
    """Conditions on `hourly_metrics` (or `hourly_baselines`) and their parameters."""
    conditions = _common(wanted, "hour" if times else None)
    if wanted.router_id is not None:
        conditions.append("router_id = %(router_id)s")
    return conditions, _given(wanted)


def _common(wanted: MetricsFilter, moment: str | None) -> list[str]:
    conditions = ["user_id = %(user_id)s"]
    if wanted.routers is not None:
        conditions.append("router_id = ANY (%(routers)s)")
    conditions += [f"{name} = %({name})s" for name in ("model", "provider") if getattr(wanted, name) is not None]
    if moment and wanted.start is not None:
        conditions.append(f"{moment} >= %(start)s")
    if moment and wanted.end is not None:
        conditions.append(f"{moment} < %(end)s")
    return conditions


def _given(wanted: MetricsFilter) -> dict[str, Any]:
    return {
        "user_id": wanted.user_id,
        "routers": None if wanted.routers is None else sorted(wanted.routers),
        "router_id": wanted.router_id,
        "model": wanted.model,
        "provider": wanted.provider,
        "start": wanted.start,
        "end": wanted.end,
    }


def _itself(row: DictRow) -> Row:
    return row


def _after_hour(row: DictRow) -> str:
    return encode_cursor(int(row["hour"].timestamp()), row["router_id"], row["model"], row["provider"])


def _hour_cursor(cursor: str) -> dict[str, Any]:
    kinds: Sequence[type] = (int, str, str, str)
    hour, router_id, model, provider = decode_cursor(cursor, tuple(kinds))
    try:
        at = datetime.fromtimestamp(hour, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest("cursor is not one that this server returned", param="cursor") from None
    return {"at": at, "c_router": router_id, "c_model": model, "c_provider": provider}
