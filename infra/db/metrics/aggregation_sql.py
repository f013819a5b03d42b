"""The statements that compute an hour: its groups and their baselines, and both added up by tenant. Generated from one
list of columns each.

%(hour)s is the beginning of the hour. A group that has vanished (its rows changed model, or were deleted by hand) goes.
"""

from collections.abc import Mapping

from modelpilot.metrics.savings import AS_PREDICTED

_COMPLETED = "FILTER (WHERE status = 'completed')"
# Percentiles of completed requests only: one that failed at once would make the models look quick.
_LATENCY = f"percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms) {_COMPLETED}"

# Over the rows of a group. `latency` is an array that the next mapping takes apart.
MEASURES: Mapping[str, str] = {
    "requests": "count(*)",
    "success_count": "count(*) FILTER (WHERE success)",
    "success_rate": "avg(success::int)",
    "total_latency_ms": "sum(latency_ms)",
    "avg_latency_ms": "avg(latency_ms)",
    "total_cost_usd": "coalesce(sum(cost_usd), 0)",
    "avg_cost_usd": "avg(cost_usd)",
    "latency": _LATENCY,
    "p50_ttft_ms": f"percentile_cont(0.5) WITHIN GROUP (ORDER BY ttft_ms) {_COMPLETED}",
    "p50_overhead_ms": f"percentile_cont(0.5) WITHIN GROUP (ORDER BY overhead_ms) {_COMPLETED}",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "failed_count": "count(*) FILTER (WHERE status = 'failed')",
    "canceled_count": "count(*) FILTER (WHERE status = 'canceled')",
    "fallback_count": "count(*) FILTER (WHERE fallback_used)",
    "degraded_count": "count(*) FILTER (WHERE cardinality(degraded) > 0)",
    "explored_count": "count(*) FILTER (WHERE explored)",
    "attempt_count": "sum(attempts)",
    "known_cost_count": "count(cost_usd)",
    "unknown_cost_count": "count(*) FILTER (WHERE cost_usd IS NULL AND status = 'completed')",
    "total_carbon_g": "coalesce(sum(carbon_g), 0)",
    "unknown_carbon_count": "count(*) FILTER (WHERE carbon_g IS NULL AND status = 'completed')",
    "quality_count": "count(quality)",
    "avg_quality": "avg(quality)",
}
_TAKEN_APART = {"p50_latency_ms": "latency[1]", "p95_latency_ms": "latency[2]", "p99_latency_ms": "latency[3]"}
_COLUMNS = {**{name: name for name in MEASURES if name != "latency"}, **_TAKEN_APART}

_GROUP = ("user_id", "router_id", "model", "provider")
_GROUPED_BY = "user_id, coalesce(router_id, '') AS router_id, model, provider"
_OF_HOUR = "created_at >= %(hour)s AND created_at < %(hour)s + interval '1 hour'"


def _statement(table: str, key: tuple[str, ...], grouped: str, columns: Mapping[str, str]) -> str:
    """Replace the hour in `table` by the rows of the query `grouped`."""
    same = " AND ".join(f"kept.{name} = old.{name}" for name in key)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
    stamp = ", updated_at = clock_timestamp()" if table == "hourly_metrics" else ""
    return f"""
        WITH kept AS MATERIALIZED ({grouped}), vanished AS (
            DELETE FROM {table} AS old
            WHERE old.hour = %(hour)s AND NOT EXISTS (SELECT FROM kept WHERE {same})
        )
        INSERT INTO {table} (hour, {", ".join(key)}, {", ".join(columns)})
        SELECT %(hour)s, {", ".join(key)}, {", ".join(columns.values())} FROM kept
        ON CONFLICT (hour, {", ".join(key)}) DO UPDATE SET {changes}{stamp}
    """  # noqa: S608  (own constants)


METRICS = _statement(
    "hourly_metrics",
    _GROUP,
    f"""SELECT {_GROUPED_BY}, {", ".join(f"{sql} AS {name}" for name, sql in MEASURES.items())}
        FROM requests WHERE {_OF_HOUR} GROUP BY 1, 2, 3, 4""",  # noqa: S608  (own constants)
    _COLUMNS,
)

# Columns of `requests` by their prefix. Where the baseline's model is the one that answered,
# `modelpilot.metrics.savings` has put the measured figure there.
_SIDES: Mapping[str, str] = {
    "alwaysPreferred": "preferred",
    "alwaysBest": "best",
    "alwaysCheapest": "cheapest",
    AS_PREDICTED: "predicted",
}
BASELINE_COLUMNS = (
    "requests",
    "estimated",
    "cost_usd",
    "actual_cost_usd",
    "carbon_requests",
    "carbon_g",
    "actual_carbon_g",
)


def _side_sums(side: str) -> Mapping[str, str]:
    """The sums of one baseline, in the order of `BASELINE_COLUMNS`."""
    costs = f"FILTER (WHERE {side}_cost_usd IS NOT NULL AND cost_usd IS NOT NULL)"
    emissions = f"FILTER (WHERE {side}_carbon_g IS NOT NULL AND carbon_g IS NOT NULL)"
    other = "true" if side == "predicted" else f"{side}_model <> model"
    sums = (
        f"count(*) {costs}",
        f"count(*) FILTER (WHERE {other} AND {side}_cost_usd IS NOT NULL AND cost_usd IS NOT NULL)",
        f"coalesce(sum({side}_cost_usd) {costs}, 0)",
        f"coalesce(sum(cost_usd) {costs}, 0)",
        f"count(*) {emissions}",
        f"coalesce(sum({side}_carbon_g) {emissions}, 0)",
        f"coalesce(sum(carbon_g) {emissions}, 0)",
    )
    return {f"{side}__{name}": sql for name, sql in zip(BASELINE_COLUMNS, sums, strict=True)}


# All sides in one row, and then each in a row of its own: four times as fast as adding up four rows per request.
# `SELECT baseline, … FROM (SELECT {BASELINE_SUMS} FROM requests …) AS sums, {BASELINE_ROWS} WHERE {HAS_BASELINE}`
BASELINE_SUMS = ", ".join(f"{sql} AS {name}" for side in _SIDES.values() for name, sql in _side_sums(side).items())
BASELINE_ROWS = f"""LATERAL (VALUES
    {", ".join(f"('{name}', {', '.join(_side_sums(side))})" for name, side in _SIDES.items())}
) AS side (baseline, {", ".join(BASELINE_COLUMNS)})"""
HAS_BASELINE = "requests + carbon_requests > 0"

BASELINES = _statement(
    "hourly_baselines",
    (*_GROUP, "baseline"),
    f"""SELECT {", ".join(_GROUP)}, side.*
        FROM (SELECT {_GROUPED_BY}, {BASELINE_SUMS} FROM requests WHERE {_OF_HOUR} GROUP BY 1, 2, 3, 4) AS sums,
            {BASELINE_ROWS} WHERE {HAS_BASELINE}""",  # noqa: S608  (own constants)
    {name: name for name in BASELINE_COLUMNS},
)

# What the first page of the site adds up, by tenant and model or baseline: where routers and providers are many, a
# small share of the rows above, of which these are sums. To be run after both of them.
TOTALS_COLUMNS = (
    "requests", "failed_count", "canceled_count", "fallback_count", "total_cost_usd", "unknown_cost_count",
    "total_carbon_g", "unknown_carbon_count",
)  # fmt: skip


def _added_up(table: str, key: str, source: str, columns: tuple[str, ...]) -> str:
    sums = ", ".join(f"sum({name}) AS {name}" for name in columns)
    grouped = f"SELECT user_id, {key}, {sums} FROM {source} WHERE hour = %(hour)s GROUP BY 1, 2"  # noqa: S608
    return _statement(table, ("user_id", key), grouped, {name: name for name in columns})


TOTALS = _added_up("hourly_totals", "model", "hourly_metrics", TOTALS_COLUMNS)
BASELINE_TOTALS = _added_up("hourly_baseline_totals", "baseline", "hourly_baselines", BASELINE_COLUMNS)
