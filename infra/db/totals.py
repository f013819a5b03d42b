"""Sums over a range of time: hourly rows where whole hours are up to date, single requests for the rest.

A million requests are some hundred hourly rows. The single requests that remain are those of the two hours that the
range cuts, of the hour in progress, and of hours that are noted as stale.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.rows import DictRow

from infra.db.aggregation_sql import BASELINE_COLUMNS, BASELINE_ROWS, BASELINE_SUMS, HAS_BASELINE
from infra.db.engine import Connection, Database
from modelpilot.metrics import MetricsFilter, Totals
from modelpilot.savings import BaselineSums, added_up

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_HOUR = timedelta(hours=1)
# Reading single requests takes about a second per million; more than this is not waited for.
_READ_S = 30.0

# name: (over requests, over hourly rows)
_SUMS: Mapping[str, tuple[str, str]] = {
    "requests": ("count(*)", "sum(requests)"),
    "success_count": ("count(*) FILTER (WHERE success)", "sum(success_count)"),
    "failed_count": ("count(*) FILTER (WHERE status = 'failed')", "sum(failed_count)"),
    "canceled_count": ("count(*) FILTER (WHERE status = 'canceled')", "sum(canceled_count)"),
    "fallback_count": ("count(*) FILTER (WHERE fallback_used)", "sum(fallback_count)"),
    "degraded_count": ("count(*) FILTER (WHERE cardinality(degraded) > 0)", "sum(degraded_count)"),
    "explored_count": ("count(*) FILTER (WHERE explored)", "sum(explored_count)"),
    "attempt_count": ("sum(attempts)", "sum(attempt_count)"),
    "total_latency_ms": ("sum(latency_ms)", "sum(total_latency_ms)"),
    "total_cost_usd": ("sum(cost_usd)", "sum(total_cost_usd)"),
    "unknown_cost_count": (
        "count(*) FILTER (WHERE cost_usd IS NULL AND status = 'completed')",
        "sum(unknown_cost_count)",
    ),
    "known_cost_count": ("count(cost_usd)", "sum(known_cost_count)"),
    "input_tokens": ("sum(input_tokens)", "sum(input_tokens)"),
    "output_tokens": ("sum(output_tokens)", "sum(output_tokens)"),
    "cached_tokens": ("sum(cached_tokens)", "sum(cached_tokens)"),
    "reasoning_tokens": ("sum(reasoning_tokens)", "sum(reasoning_tokens)"),
    "total_carbon_g": ("sum(carbon_g)", "sum(total_carbon_g)"),
    "unknown_carbon_count": (
        "count(*) FILTER (WHERE carbon_g IS NULL AND status = 'completed')",
        "sum(unknown_carbon_count)",
    ),
    "quality_count": ("count(quality)", "sum(quality_count)"),
    "quality_sum": ("sum(quality)", "sum(avg_quality * quality_count)"),
}
_OVER_REQUESTS = ", ".join(f"coalesce({raw}, 0) AS {name}" for name, (raw, _) in _SUMS.items())
_OVER_HOURS = ", ".join(f"coalesce({hourly}, 0) AS {name}" for name, (_, hourly) in _SUMS.items())

_STATE = "SELECT name, through FROM metric_progress"
_STALE = """
SELECT DISTINCT hour FROM stale_hours
WHERE hour >= greatest(%(first)s, %(closed)s) AND hour < %(last)s ORDER BY hour
"""
_PARTS = """unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS part (part_start, part_end)
    JOIN requests ON created_at >= part_start AND created_at < part_end"""
_IN_HOURS = "hour >= %(first)s AND hour < %(last)s AND NOT hour = ANY (%(stale)s)"
_BASELINES_OVER_HOURS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in BASELINE_COLUMNS)


async def read_totals(
    database: Database, wanted: MetricsFilter, requests: Sequence[str], hours: Sequence[str], given: dict[str, Any]
) -> Totals:
    """The sums, all as of one moment. `requests` and `hours` are conditions on the two tables, without times."""
    async with database.transaction(_READ_S) as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        plan = await _split(connection, wanted)
        given = {**given, **plan}
        over_requests, over_hours = " AND ".join(["true", *requests]), " AND ".join([_IN_HOURS, *hours])
        sums = [
            await _all(connection, f"SELECT {_OVER_REQUESTS} FROM {_PARTS} WHERE {over_requests}", given),  # noqa: S608
            await _all(connection, f"SELECT {_OVER_HOURS} FROM hourly_metrics WHERE {over_hours}", given),  # noqa: S608
        ]
        baselines = [
            await _all(
                connection,
                f"""SELECT side.* FROM (SELECT {BASELINE_SUMS} FROM {_PARTS} WHERE {over_requests}) AS sums,
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
        baselines=added_up((row["baseline"], _baseline_sums(row)) for part in baselines for row in part),
        hours_from_metrics=max(int((plan["last"] - plan["first"]) / _HOUR) - len(plan["stale"]), 0),
        aggregated_through=plan["through"] if plan["through"] > _EARLIEST else None,
    )


async def _split(connection: Connection, wanted: MetricsFilter) -> dict[str, Any]:
    """`first` and `last` of the whole hours, the `stale` ones among them, `starts` and `ends` of all other parts."""
    state = {row["name"]: row["through"] for row in await _all(connection, _STATE, {})}
    start, end = wanted.start or _EARLIEST, wanted.end or _LATEST
    first = _beginning(start) if start == _beginning(start) else _beginning(start) + _HOUR
    last = max(min(_beginning(end), _beginning(state["aggregated"])), first)
    given = {"first": first, "last": last, "closed": state["closed"]}
    stale = [row["hour"] for row in await _all(connection, _STALE, given)] if first < last else []
    edges = [(start, min(first, end)), *((hour, hour + _HOUR) for hour in stale), (last, end)]
    parts = [(begin, finish) for begin, finish in edges if begin < finish]
    return {
        "first": first,
        "last": last,
        "stale": stale,
        "through": state["aggregated"],
        "starts": [begin for begin, _ in parts],
        "ends": [finish for _, finish in parts],
    }


def _beginning(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def _all(connection: Connection, query: str, given: Mapping[str, Any]) -> list[DictRow]:
    return await (await connection.execute(query, given)).fetchall()


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else float(value)


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
