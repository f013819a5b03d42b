"""What is added up over requests, in SQL, and for which requests: one list for the aggregation and for every reader.

Each sum has an expression over single requests and one over the hourly rows, which hold the same sums. So parts of a
range that come from both are added up, and only then divided.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from psycopg.rows import DictRow

from infra.db.metrics.hour_parts import OF_HOURS, Parts
from modelpilot.metrics.dimensions import TAG, Hourly, hourly_for
from modelpilot.metrics.explore import DIMENSION_OF, METRIC_OF, GroupBy
from modelpilot.metrics.requests import AnalyticsScope, RequestFilter
from modelpilot.metrics.savings import AS_PREDICTED, BaselineSums, SumsByModel, added_up
from modelpilot.wire.jsonb import dump

Key = TypeVar("Key")

# Costs count whatever they were paid for; numbers and rates are about requests.
REQUEST = "purpose = 'request'"
_COMPLETED = f"status = 'completed' AND {REQUEST}"
_HOURLY_COMPLETED = "(requests - failed_count - canceled_count)"


def _sum_of_tokens(name: str) -> str:
    # Rows of before may hold what a provider claimed, up to 2^62: no sum of those fits into a column.
    return f"coalesce(sum(least({name}, 1000000000000)), 0)"


def exact_usd(column: str, condition: str = "") -> str:
    """The sum of a column of USD as `numeric`, to the last digit and whatever the order: amounts are multiples of
    1e-12 USD (`modelpilot.providers.pricing`), which are added up as whole numbers. A million USD is the most that one
    row may say, so that none of them stops the sums of all."""
    whole = f"(least(greatest({column}, 0), 1e6) * 1e12)::bigint"
    return f"coalesce(sum({whole}){condition and ' ' + condition}, 0) * 0.000000000001"


# Columns of the hourly rows that can be added up, over the requests of a group. An unknown cost is counted where an
# answer was delivered: a request that failed before any call has none.
ADDED: Mapping[str, str] = {
    "requests": f"count(*) FILTER (WHERE {REQUEST})",
    "success_count": f"count(*) FILTER (WHERE success AND {REQUEST})",
    "total_latency_ms": f"coalesce(sum(latency_ms) FILTER (WHERE {REQUEST}), 0)",
    "total_cost_usd": exact_usd("cost_usd"),
    "input_tokens": _sum_of_tokens("input_tokens"),
    "output_tokens": _sum_of_tokens("output_tokens"),
    "cached_tokens": _sum_of_tokens("cached_tokens"),
    "reasoning_tokens": _sum_of_tokens("reasoning_tokens"),
    "failed_count": f"count(*) FILTER (WHERE status = 'failed' AND {REQUEST})",
    "canceled_count": f"count(*) FILTER (WHERE status = 'canceled' AND {REQUEST})",
    "fallback_count": f"count(*) FILTER (WHERE fallback_used AND {REQUEST})",
    "degraded_count": f"count(*) FILTER (WHERE cardinality(degraded) > 0 AND {REQUEST})",
    "explored_count": f"count(*) FILTER (WHERE explored AND {REQUEST})",
    "attempt_count": f"coalesce(sum(attempts) FILTER (WHERE {REQUEST}), 0)",
    "known_cost_count": "count(cost_usd)",
    "unknown_cost_count": "count(*) FILTER (WHERE cost_usd IS NULL AND status = 'completed')",
    "total_carbon_g": "coalesce(sum(carbon_g), 0)",
    "unknown_carbon_count": f"count(*) FILTER (WHERE carbon_g IS NULL AND {_COMPLETED})",
    "quality_count": "count(quality)",
}

# Percentiles by their column in the hourly rows: rank, and of which column of a request. Of completed requests only:
# one that failed at once would make the models look quick. Postgres sorts once for all of the same column.
_RANKS: Mapping[str, tuple[float, str]] = {
    "p50_latency_ms": (0.5, "latency_ms"),
    "p95_latency_ms": (0.95, "latency_ms"),
    "p99_latency_ms": (0.99, "latency_ms"),
    "p50_ttft_ms": (0.5, "ttft_ms"),
    "p50_overhead_ms": (0.5, "overhead_ms"),
}
PERCENTILES: Mapping[str, str] = {
    name: f"percentile_cont({rank}) WITHIN GROUP (ORDER BY {column}) FILTER (WHERE {_COMPLETED})"
    for name, (rank, column) in _RANKS.items()
}


@dataclass(frozen=True, slots=True)
class Expression:
    """The same figure over single requests and over hourly rows."""

    requests: str
    hours: str


def _weighted(name: str) -> dict[str, Expression]:
    """A percentile times its requests, and these: exact for a single part, a mean of percentiles for several."""
    count = f"count({_RANKS[name][1]}) FILTER (WHERE {_COMPLETED})"
    weight = f"coalesce(sum({_HOURLY_COMPLETED}) FILTER (WHERE {name} IS NOT NULL), 0)"
    return {
        f"weighted_{name}": Expression(
            f"coalesce({PERCENTILES[name]} * {count}, 0)", f"coalesce(sum({name} * {_HOURLY_COMPLETED}), 0)"
        ),
        f"weight_{name}": Expression(count, weight),
    }


SUMS: Mapping[str, Expression] = {
    **{name: Expression(sql, f"coalesce(sum({name}), 0)") for name, sql in ADDED.items()},
    "completed_count": Expression(f"count(*) FILTER (WHERE {_COMPLETED})", f"coalesce(sum({_HOURLY_COMPLETED}), 0)"),
    "truncated_count": Expression(
        f"count(*) FILTER (WHERE NOT success AND {_COMPLETED})",
        f"coalesce(sum({_HOURLY_COMPLETED} - success_count), 0)",
    ),
    "quality_sum": Expression("coalesce(sum(quality), 0)", "coalesce(sum(avg_quality * quality_count), 0)"),
    **{name: expression for percentile in PERCENTILES for name, expression in _weighted(percentile).items()},
}


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric out of `SUMS`: a total, what it is divided by, and the requests without a known value. Names."""

    total: str
    divisor: str | None = None
    unknown: str | None = None

    @property
    def sums(self) -> tuple[str, ...]:
        """The sums that it needs."""
        return tuple(name for name in (self.total, self.divisor, self.unknown) if name is not None)


def percentile_measure(name: str) -> Measure:
    """The measure of a column of `PERCENTILES`."""
    return Measure(f"weighted_{name}", f"weight_{name}")


# By the keys of `modelpilot.metrics.explore.METRICS`.
MEASURES: Mapping[str, Measure] = {
    "requests": Measure("requests"),
    "completed": Measure("completed_count", "requests"),
    "truncated": Measure("truncated_count", "completed_count"),
    "failed": Measure("failed_count", "requests"),
    "canceled": Measure("canceled_count", "requests"),
    "cost": Measure("total_cost_usd", unknown="unknown_cost_count"),
    "latency": Measure("total_latency_ms", "requests"),
    "p50": percentile_measure("p50_latency_ms"),
    "p95": percentile_measure("p95_latency_ms"),
    "p99": percentile_measure("p99_latency_ms"),
    "ttft": percentile_measure("p50_ttft_ms"),
    "overhead": percentile_measure("p50_overhead_ms"),
    "tokensIn": Measure("input_tokens"),
    "tokensOut": Measure("output_tokens"),
    "fallback": Measure("fallback_count", "requests"),
    "quality": Measure("quality_sum", "quality_count"),
    "carbon": Measure("total_carbon_g", unknown="unknown_carbon_count"),
    "attempts": Measure("attempt_count", "requests"),
}


def is_additive(metrics: Iterable[str]) -> bool:
    """Whether hourly rows give exactly what single requests would."""
    return all(METRIC_OF[key].kind != "percentile" for key in metrics)


# What the API groups by, `%(group_tag)s` being a tag's name. Hourly rows of a dimension have its value; NULL: none do.
DIMENSION_SQL: Mapping[str, Expression] = {
    "model": Expression("model", "model"),
    "provider": Expression("provider", "provider"),
    "routerId": Expression("coalesce(router_id, '')", "router_id"),
    "requestType": Expression("request_type", "NULL"),
    "userId": Expression("coalesce(end_user, '')", "value"),
    "keyId": Expression("coalesce(api_key_id, '')", "value"),
    "sessionId": Expression("coalesce(session_id, '')", "NULL"),
    "purpose": Expression("purpose", "value"),
    "tag": Expression("coalesce(tags ->> %(group_tag)s, '')", "value"),
}
# What the site groups by.
GROUPS: Mapping[GroupBy, Expression] = {
    "none": Expression("''", "''"),
    **{group: DIMENSION_SQL[name] for group, name in DIMENSION_OF.items()},
}
# %(bucket_s)s seconds. Weeks begin on Monday; every other width divides a day.
_BUCKET = "date_bin(make_interval(secs => %(bucket_s)s), {moment}, '1970-01-05Z'::timestamptz)"
BUCKET = Expression(_BUCKET.format(moment="created_at"), _BUCKET.format(moment="hour"))


def moments(scope: AnalyticsScope) -> tuple[datetime, datetime]:
    """The scope's bounds as Postgres wants them."""
    return datetime.fromtimestamp(scope.start_s, UTC), datetime.fromtimestamp(scope.end_s, UTC)


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions, without times, on single requests and on hourly rows, and their parameters. `hourly` are the rows
    that tell these requests apart; None: no hourly rows do, and `hours` is of no use."""

    requests: str
    hours: str
    parameters: Mapping[str, Any]
    hourly: Hourly | None = None


# Columns that may be null, by the filter's name for them; "" asks for the rows that have none.
_NAMED: Mapping[str, str] = {
    "router": "router_id",
    "end_user": "end_user",
    "key": "api_key_id",
    "session": "session_id",
}


def select(scope: AnalyticsScope, wanted: RequestFilter, group: str | None = None, tag: str = "") -> Selection:
    """Whose requests, and which of them, to be grouped by `group` of `DIMENSION_SQL` (`tag`: the tag's name). Only
    conditions on what is asked: one plan for all filters would suit none."""
    common = [f"{name} = %({name})s" for name in ("model", "provider") if getattr(wanted, name) is not None]
    common += ["user_id = %(user_id)s"] if scope.user_id is not None else []
    common += ["router_id = ANY (%(routers)s)"] if scope.routers is not None else []
    hourly = hourly_for(scope, wanted, TAG + tag if group == "tag" else group)
    hours = [*common, *(["router_id = %(router)s"] if wanted.router is not None else []), *_of_dimension(hourly)]
    tags = wanted.tags or {}
    parameters = {
        "user_id": scope.user_id,
        "routers": None if scope.routers is None else sorted(scope.routers),
        **{name: getattr(wanted, name) for name in RequestFilter.__dataclass_fields__ if name != "tags"},
        "tags": dump({name: value for name, value in tags.items() if value}).decode(),
        "no_tags": [name for name, value in tags.items() if not value],
        "group_tag": tag,
        "dimension": hourly.dimension if hourly else None,
        "value": hourly.value if hourly else None,
    }
    only = " AND ".join(["true", *common, *_of_requests(wanted)])
    return Selection(only, " AND ".join(["true", *hours]), parameters, hourly)


def _of_requests(wanted: RequestFilter) -> list[str]:
    """The conditions that single requests alone have a column for."""
    exact = ("status", "request_type", "purpose")
    found = [f"{name} = %({name})s" for name in exact if getattr(wanted, name) is not None]
    for name, column in _NAMED.items():
        if (value := getattr(wanted, name)) is not None:
            found.append(f"{column} = %({name})s" if value else f"({column} IS NULL OR {column} = '')")
    tags = wanted.tags or {}
    found += ["tags @> %(tags)s::jsonb AND tags <> '{}'::jsonb"] if any(tags.values()) else []
    if not all(tags.values()):
        has_one = "SELECT FROM unnest(%(no_tags)s::text[]) AS name WHERE coalesce(tags ->> name, '') <> ''"
        found.append(f"NOT EXISTS ({has_one})")
    found += ["fallback_used = %(fallback)s"] if wanted.fallback is not None else []
    found += ["starts_with(request_id, %(request_id)s)"] if wanted.request_id else []
    return found


def _of_dimension(hourly: Hourly | None) -> list[str]:
    if hourly is None or hourly.dimension is None:
        return []
    return ["dimension = %(dimension)s", *(["value = %(value)s"] if hourly.value is not None else [])]


def over_requests(
    columns: Mapping[str, Expression], keys: Mapping[str, Expression], where: str, table: str = "requests"
) -> str:
    """A query of these columns by the keys, from single requests (`table`: a sample of them)."""
    return _query({name: one.requests for name, one in (*keys.items(), *columns.items())}, len(keys), where, table)


def over_hours(
    columns: Mapping[str, Expression], keys: Mapping[str, Expression], where: str, table: str = "hourly_metrics"
) -> str:
    """The same from hourly rows."""
    return _query({name: one.hours for name, one in (*keys.items(), *columns.items())}, len(keys), where, table)


def over_both(
    columns: Mapping[str, Expression],
    keys: Mapping[str, Expression],
    selected: Selection,
    parts: Parts,
    hourly: str | None = None,
) -> str:
    """Both, each for its parts of the time; for the parameters of the selection and of the parts. Hours are those of
    the table `hourly` instead of the selection's own; there are none in the parts where it has none."""
    raw = over_requests(columns, keys, f"{parts.of_raw} AND {selected.requests}")
    table = hourly or (selected.hourly.table if selected.hourly else None)
    if table is None:
        return raw
    return f"""{raw} UNION ALL {over_hours(columns, keys, f"{OF_HOURS} AND {selected.hours}", table)}"""


def _query(columns: Mapping[str, str], keys: int, where: str, table: str) -> str:
    named = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    grouped = f"GROUP BY {', '.join(str(place + 1) for place in range(keys))}" if keys else ""
    return f"SELECT {named} FROM {table} WHERE {where} {grouped}"  # noqa: S608  (own constants)


def sums_of(names: Iterable[str]) -> dict[str, Expression]:
    """These of `SUMS`."""
    return {name: SUMS[name] for name in names}


def add_up(rows: Iterable[DictRow], names: Sequence[str], key: Callable[[DictRow], Key]) -> dict[Key, dict[str, float]]:
    """Sums by what `key` says of a row, as floats: what Postgres gives as numeric (USD, and sums of bigint) is added up
    exactly before that."""
    found: dict[Key, dict[str, Any]] = {}
    for row in rows:
        sums = found.setdefault(key(row), dict.fromkeys(names, 0))
        for name in names:
            sums[name] += row[name]
    return {place: {name: float(total) for name, total in sums.items()} for place, sums in found.items()}


# What the first page of the site adds up. `hourly_totals` has these by tenant and model: where routers and providers
# are many, a small share of the rows of `hourly_metrics`, of which they are sums.
TOTALS = (
    "requests", "success_count", "failed_count", "canceled_count", "fallback_count", "total_cost_usd",
    "unknown_cost_count", "total_carbon_g", "unknown_carbon_count",
)  # fmt: skip

# Baselines by the prefix of their columns of `requests`. Where the baseline's model is the one that answered,
# `modelpilot.metrics.savings` has put the measured figure there.
_SIDES: Mapping[str, str] = {
    "alwaysPreferred": "preferred",
    "alwaysBest": "best",
    "alwaysCheapest": "cheapest",
    AS_PREDICTED: "predicted",
}
BASELINE_COLUMNS = tuple(BaselineSums.__dataclass_fields__)
BASELINE_KEY = ("baseline", "baseline_model")
# `predicted` are predictions for the model that answered.
_SIDE_MODEL = {side: "model" if side == "predicted" else f"{side}_model" for side in _SIDES.values()}


def _side_sums(side: str) -> dict[str, str]:
    """The sums of one baseline, in the order of `BASELINE_COLUMNS`."""
    both = f"{side}_cost_usd IS NOT NULL AND cost_usd IS NOT NULL"
    carbon = f"{side}_carbon_g IS NOT NULL AND carbon_g IS NOT NULL"
    other = "true" if side == "predicted" else f"{side}_model <> model"
    costs, estimates = f"FILTER (WHERE {both})", f"FILTER (WHERE {other} AND {both})"
    emissions, predicted = f"FILTER (WHERE {carbon})", side == "predicted"
    sums = (
        f"count(*) {costs}",
        f"count(*) {estimates}",
        exact_usd(f"{side}_cost_usd", costs),
        exact_usd("cost_usd", costs),
        exact_usd(f"{side}_cost_usd", estimates),
        f"coalesce(sum({side}_cost_usd * {side}_cost_usd) {estimates}, 0)",
        f"coalesce(sum({side}_cost_usd * cost_usd) {costs}, 0)" if predicted else "0::float8",
        f"coalesce(sum(cost_usd * cost_usd) {costs}, 0)" if predicted else "0::float8",
        f"count(*) {emissions}",
        f"coalesce(sum({side}_carbon_g) {emissions}, 0)",
        f"coalesce(sum(carbon_g) {emissions}, 0)",
        f"coalesce(sum({side}_carbon_g) FILTER (WHERE {other} AND {carbon}), 0)",
    )
    return {f"{side}__{name}": sql for name, sql in zip(BASELINE_COLUMNS, sums, strict=True)}


_ALL_SIDES = ", ".join(f"{sql} AS {name}" for side in _SIDES.values() for name, sql in _side_sums(side).items())
_MODELS = ", ".join(f"{column} AS {side}__of" for side, column in _SIDE_MODEL.items())
_ROWS = ", ".join(f"('{name}', {side}__of, {', '.join(_side_sums(side))})" for name, side in _SIDES.items())
_ADDED_UP = ", ".join(f"sum({name}) AS {name}" for name in BASELINE_COLUMNS)


def baselines_over_requests(where: str, keys: Mapping[str, str]) -> str:
    """The sums of every baseline that has any, by the keys and by the baseline's model. All sides come in one row for
    each set of models, and then each in a row of its own: four times as fast as adding up four rows per request."""
    named = "".join(f"{sql} AS {name}, " for name, sql in keys.items())
    count, sides = len(keys), len(_SIDES)
    by = ", ".join(str(place + 1) for place in range(count + sides))
    return f"""SELECT {"".join(f"{name}, " for name in keys)} baseline, baseline_model, {_ADDED_UP}
        FROM (SELECT {named} {_MODELS}, {_ALL_SIDES} FROM requests WHERE {where} GROUP BY {by}) AS sums,
            LATERAL (VALUES {_ROWS}) AS side ({", ".join((*BASELINE_KEY, *BASELINE_COLUMNS))})
        WHERE requests + carbon_requests > 0
        GROUP BY {", ".join(str(place + 1) for place in range(count + 2))}"""  # noqa: S608  (own constants)


def baselines_over_both(selected: Selection, parts: Parts, hourly: str = "hourly_baselines") -> str:
    """A row per baseline, its model and kind of part, for `by_baseline`."""
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in BASELINE_COLUMNS)
    return f"""{baselines_over_requests(f"{parts.of_raw} AND {selected.requests}", {})}
        UNION ALL SELECT baseline, baseline_model, {sums} FROM {hourly} WHERE {OF_HOURS} AND {selected.hours}
        GROUP BY 1, 2"""  # noqa: S608  (own constants)


def by_baseline(rows: Iterable[DictRow]) -> SumsByModel:
    """Rows of a baseline, its model and `BASELINE_COLUMNS`, added up."""
    return added_up(((row["baseline"], row["baseline_model"]), _baseline_sums(row)) for row in rows)


def _baseline_sums(row: DictRow) -> BaselineSums:
    nothing = BaselineSums()
    values: dict[str, Any] = {name: type(getattr(nothing, name))(row[name]) for name in BASELINE_COLUMNS}
    return BaselineSums(**values)
