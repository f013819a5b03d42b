"""The metrics of `metrics.explore` in SQL: as a sum and what it is divided by, over requests and over hourly rows.

So parts that come from both are added up, and only then divided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpilot.metrics.explore import METRIC_OF, GroupBy, RequestFilter

_COMPLETED = "status = 'completed'"
_ADDED = "NULL::bigint"
_HOURLY_COMPLETED = "(requests - failed_count - canceled_count)"


@dataclass(frozen=True, slots=True)
class Measure:
    """`raw` and `hourly`: (sum, divided by, requests without a known value). `_ADDED`: divided by nothing."""

    raw: tuple[str, str, str]
    hourly: tuple[str, str, str]


def _added(raw: str, hourly: str, unknown: tuple[str, str] = ("0", "0")) -> Measure:
    return Measure(
        (f"coalesce(sum({raw}), 0)", _ADDED, unknown[0]), (f"coalesce(sum({hourly}), 0)", _ADDED, unknown[1])
    )


def _per_request(raw: str, hourly: str) -> Measure:
    return Measure((raw, "count(*)", "0"), (f"sum({hourly})", "sum(requests)", "0"))


def _percentile(rank: float, column: str, hourly: str) -> Measure:
    """Weighted by completed requests: exact for a single part, a mean of percentiles for several."""
    count = f"count({column}) FILTER (WHERE {_COMPLETED})"
    exact = f"percentile_cont({rank}) WITHIN GROUP (ORDER BY {column}) FILTER (WHERE {_COMPLETED})"
    weights = f"coalesce(sum({_HOURLY_COMPLETED}) FILTER (WHERE {hourly} IS NOT NULL), 0)"
    summed = f"coalesce(sum({hourly} * {_HOURLY_COMPLETED}), 0)"
    return Measure((f"coalesce({exact} * {count}, 0)", count, "0"), (summed, weights, "0"))


_UNKNOWN_COST = (f"count(*) FILTER (WHERE cost_usd IS NULL AND {_COMPLETED})", "coalesce(sum(unknown_cost_count), 0)")
_UNKNOWN_CARBON = (
    f"count(*) FILTER (WHERE carbon_g IS NULL AND {_COMPLETED})",
    "coalesce(sum(unknown_carbon_count), 0)",
)
MEASURES: Mapping[str, Measure] = {
    "requests": Measure(("count(*)", _ADDED, "0"), ("sum(requests)", _ADDED, "0")),
    "success": _per_request("count(*) FILTER (WHERE success)", "success_count"),
    "cost": _added("cost_usd", "total_cost_usd", _UNKNOWN_COST),
    "latency": _per_request("sum(latency_ms)", "total_latency_ms"),
    "p50": _percentile(0.5, "latency_ms", "p50_latency_ms"),
    "p95": _percentile(0.95, "latency_ms", "p95_latency_ms"),
    "p99": _percentile(0.99, "latency_ms", "p99_latency_ms"),
    "ttft": _percentile(0.5, "ttft_ms", "p50_ttft_ms"),
    "overhead": _percentile(0.5, "overhead_ms", "p50_overhead_ms"),
    "tokensIn": _added("input_tokens", "input_tokens"),
    "tokensOut": _added("output_tokens", "output_tokens"),
    "fallback": _per_request("count(*) FILTER (WHERE fallback_used)", "fallback_count"),
    "quality": Measure(
        ("coalesce(sum(quality), 0)", "count(quality)", "0"),
        ("coalesce(sum(avg_quality * quality_count), 0)", "sum(quality_count)", "0"),
    ),
    "carbon": _added("carbon_g", "total_carbon_g", _UNKNOWN_CARBON),
    "attempts": _per_request("sum(attempts)", "attempt_count"),
}

# Groups over both tables; types of requests are not in the hourly rows.
GROUPS: Mapping[GroupBy, tuple[str, str | None]] = {
    "none": ("''", "''"),
    "model": ("model", "model"),
    "provider": ("provider", "provider"),
    "router": ("coalesce(router_id, '')", "router_id"),
    "type": ("request_type", None),
}
# Weeks begin on Monday; every other width divides a day.
_BUCKET = "date_bin(make_interval(secs => %(bucket_s)s), {moment}, '1970-01-05Z'::timestamptz)"


def over_requests(
    metrics: Sequence[str], group: GroupBy, bucket_s: int | None, where: str, table: str = "requests"
) -> str:
    """A query with a row per group and bucket, from single requests (`table`: a sample of them)."""
    parts = {key: MEASURES[key].raw for key in metrics}
    bucket = _BUCKET.format(moment="created_at") if bucket_s else "NULL::timestamptz"
    return _query(table, GROUPS[group][0], bucket, ("count(*)", "max(created_at)"), parts, where)


def over_hours(metrics: Sequence[str], group: GroupBy, bucket_s: int | None, where: str) -> str:
    """The same from hourly rows. Raises ValueError for a group that they do not have."""
    parts = {key: MEASURES[key].hourly for key in metrics}
    bucket = _BUCKET.format(moment="hour") if bucket_s else "NULL::timestamptz"
    of_hours = GROUPS[group][1]
    if of_hours is None:
        raise ValueError(f"hourly rows have no {group}")
    return _query("hourly_metrics", of_hours, bucket, ("sum(requests)", "max(hour)"), parts, where)


def columns_of(metric: str) -> tuple[str, str, str]:
    """Where the queries have a metric's sum, what that is divided by, and how many values are unknown."""
    return f"total_{metric}", f"divisor_{metric}", f"unknown_{metric}"


def _query(
    table: str,
    group: str,
    bucket: str,
    about: tuple[str, str],
    parts: Mapping[str, tuple[str, str, str]],
    where: str,
) -> str:
    columns = [f"{group} AS grp", f"{bucket} AS bucket", f"{about[0]} AS requests", f"{about[1]} AS newest"]
    for key, expressions in parts.items():
        columns += [f'{sql} AS "{name}"' for sql, name in zip(expressions, columns_of(key), strict=True)]
    return f"SELECT {', '.join(columns)} FROM {table} WHERE {where} GROUP BY 1, 2"  # noqa: S608  (own constants)


def is_additive(metrics: tuple[str, ...]) -> bool:
    """Whether hourly rows give exactly what single requests would."""
    return all(METRIC_OF[key].kind != "percentile" for key in metrics)


def narrowed(user_id: str | None, wanted: RequestFilter, *, hourly: bool = False) -> tuple[str, dict[str, Any]]:
    """Conditions on `requests`, or on `hourly_metrics`, and their parameters; "true" where nothing is asked."""
    found = ["true"]
    if user_id is not None:
        found.append("user_id = %(user_id)s")
    if wanted.router is not None:
        found.append("router_id = %(router)s" if hourly or wanted.router else "router_id IS NULL")
    found += [f"{name} = %({name})s" for name in ("model", "provider") if getattr(wanted, name) is not None]
    if not hourly:
        found += [f"{name} = %({name})s" for name in ("status", "request_type") if getattr(wanted, name) is not None]
        found += ["fallback_used = %(fallback)s"] if wanted.fallback is not None else []
        found += ["starts_with(request_id, %(request_id)s)"] if wanted.request_id else []
    names = ("router", "model", "provider", "status", "request_type", "fallback", "request_id")
    return " AND ".join(found), {"user_id": user_id, **{name: getattr(wanted, name) for name in names}}


def is_in_hours(wanted: RequestFilter) -> bool:
    """Whether hourly rows can be narrowed to these requests."""
    narrower = (wanted.status, wanted.request_type, wanted.fallback, wanted.request_id)
    return all(value is None for value in narrower)
