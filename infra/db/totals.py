"""Sums over a range of time: hourly rows where whole hours are up to date, single requests for the rest.

A million requests are some hundred hourly rows. The single requests that remain are those of the two hours that the
range cuts, of the hour in progress, and of hours that are noted as stale.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow

from infra.db.aggregation_sql import BASELINE_COLUMNS, BASELINE_ROWS, BASELINE_SUMS, HAS_BASELINE, MEASURES
from infra.db.engine import Connection, Database
from infra.db.hour_parts import HOURS_KNOWN, OF_HOURS, Parts, split
from modelpilot.metrics.analytics import MetricsFilter, Totals
from modelpilot.metrics.savings import BaselineSums, added_up

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
