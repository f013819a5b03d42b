"""The Overview page, and the names that filters offer.

Sums come from the hourly totals where these are up to date, so that a million requests stay some thousand rows;
percentiles come from the requests themselves, a sample of them where there are many.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection
from infra.db.metrics.dimensions import read_whose
from infra.db.metrics.explore import SAMPLED, percent_of_pages, value_of
from infra.db.metrics.hour_parts import OF_HOURS, Parts, only_raw, read_parts
from infra.db.metrics.measures import (
    BASELINE_COLUMNS,
    BUCKET,
    MEASURES,
    TOTALS,
    Expression,
    Selection,
    add_up,
    baselines_over_requests,
    by_baseline,
    moments,
    over_both,
    over_requests,
    select,
    sums_of,
)
from infra.db.metrics.requests import latest_request_s, read_requests
from modelpilot.metrics.overview import NO_MODEL, Choices, ModelShare, Overview, RequestBucket, RequestSummary
from modelpilot.metrics.requests import NO_FILTER, AnalyticsScope, Order, RequestFilter
from modelpilot.metrics.savings import Correction, Saving, SumsByModel, correction_of, savings
from modelpilot.providers.pricing import carbon_range_g

HOUR_S = 3_600

_PERCENTILES = ("p50", "p95", "ttft", "overhead")
# A row per model and bucket is little to add up here, while GROUPING SETS would sort the whole range twice.
_CELLS = {"model": Expression("model", "model"), "bucket": BUCKET}


def read_overview(
    connection: SyncConnection,
    scope: AnalyticsScope,
    bucket_s: int,
    recent_limit: int,
    carbon_ranges: Mapping[str, tuple[float, float]],
    sample: int,
) -> Overview:
    """The Overview page of a scope. `carbon_ranges`: of each model's carbon, as multiples of its figure. Percentiles of
    many more requests than `sample` are those of about as many (`percent_of_pages`)."""
    start, end = moments(scope)
    hours, selected = read_parts(connection, start, end), select(scope, NO_FILTER)
    # A bucket that is no multiple of an hour cannot be put together from hours.
    parts = only_raw(start, end) if bucket_s % HOUR_S else hours
    given = {**selected.parameters, **parts.parameters, "bucket_s": bucket_s}
    query = over_both(sums_of(TOTALS), _CELLS, selected, parts, "hourly_totals")
    cells = connection.execute(query, given).fetchall()
    saved = connection.execute(_baselines_over_time(selected, parts), given).fetchall()
    shares, baselines = _shares(cells), by_baseline(saved)
    correction = correction_of(baselines)
    between = carbon_range_g({share.model: share.carbon_g for share in shares}, carbon_ranges)
    return Overview(
        summary=replace(_summary(connection, scope, cells, sample), carbon_range_g=between),
        shares=shares,
        buckets=_buckets(cells, saved, correction),
        recent=read_requests(connection, scope, NO_FILTER, Order(), 0, recent_limit),
        latest_request_s=latest_request_s(connection, scope.user_id),
        savings=_savings(baselines, correction),
        aggregated_through_s=hours.through.timestamp() if hours.through else None,
    )


def _summary(
    connection: SyncConnection, scope: AnalyticsScope, cells: Iterable[DictRow], sample: int
) -> RequestSummary:
    sums = add_up(cells, TOTALS, lambda _: "").get("", dict.fromkeys(TOTALS, 0.0))
    percentiles, sampled = _percentiles(connection, scope, int(sums["requests"]), sample)
    return RequestSummary(
        requests=int(sums["requests"]),
        failed=int(sums["failed_count"]),
        canceled=int(sums["canceled_count"]),
        truncated=int(sums["requests"] - sums["failed_count"] - sums["canceled_count"] - sums["success_count"]),
        fallbacks=int(sums["fallback_count"]),
        cost_usd=sums["total_cost_usd"],
        unknown_cost=int(sums["unknown_cost_count"]),
        latency_p50_ms=percentiles["p50"],
        latency_p95_ms=percentiles["p95"],
        overhead_p50_ms=percentiles["overhead"],
        ttft_p50_ms=percentiles["ttft"],
        carbon_g=sums["total_carbon_g"],
        unknown_carbon=int(sums["unknown_carbon_count"]),
        sampled=sampled,
    )


def _percentiles(
    connection: SyncConnection, scope: AnalyticsScope, requests: int, sample: int
) -> tuple[dict[str, float | None], int | None]:
    """Of the completed ones among so many `requests`, and the size of the sample (None: all were read)."""
    percent = percent_of_pages(connection, requests, sample)
    parts, completed = only_raw(*moments(scope)), select(scope, RequestFilter(status="completed"))
    columns = sums_of(("requests", *(name for key in _PERCENTILES for name in MEASURES[key].sums)))
    where, table = f"{parts.of_raw} AND {completed.requests}", "requests" if percent is None else SAMPLED
    given = {**completed.parameters, **parts.parameters, "percent": percent}
    rows = connection.execute(over_requests(columns, {}, where, table), given).fetchall()
    found = {key: value_of(rows, MEASURES[key]).value for key in _PERCENTILES}
    return found, None if percent is None else rows[0]["requests"]


def _shares(cells: Iterable[DictRow]) -> tuple[ModelShare, ...]:
    shares = [
        ModelShare(
            model or NO_MODEL,
            int(sums["requests"]),
            int(sums["failed_count"]),
            sums["total_cost_usd"],
            sums["total_carbon_g"],
        )
        for model, sums in add_up(cells, TOTALS, lambda cell: str(cell["model"])).items()
    ]
    return tuple(sorted(shares, key=lambda share: (-share.requests, share.model)))


def _baselines_over_time(selected: Selection, parts: Parts) -> str:
    """The sums of every baseline by time, for `by_baseline`; for the parameters of the selection and of the parts."""
    sums = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in BASELINE_COLUMNS)
    raw = baselines_over_requests(f"{parts.of_raw} AND {selected.requests}", {"bucket": BUCKET.requests})
    return f"""{raw} UNION ALL SELECT {BUCKET.hours} AS bucket, baseline, baseline_model, {sums}
        FROM hourly_baseline_totals WHERE {OF_HOURS} AND {selected.hours} GROUP BY 1, 2, 3"""  # noqa: S608  (own constants)


def _savings(sums: SumsByModel, correction: Correction) -> tuple[Saving, ...]:
    return tuple(one for one in savings(sums, correction) if one.requests)


def _buckets(cells: Iterable[DictRow], saved: Iterable[DictRow], correction: Correction) -> tuple[RequestBucket, ...]:
    of_bucket: dict[float, list[DictRow]] = {}
    for row in saved:
        of_bucket.setdefault(row["bucket"].timestamp(), []).append(row)
    saved_usd = {
        start_s: {one.baseline: one.saved_cost_usd for one in _savings(by_baseline(rows), correction)}
        for start_s, rows in of_bucket.items()
    }
    buckets = [
        RequestBucket(
            start_s,
            int(sums["requests"]),
            int(sums["failed_count"]),
            sums["total_cost_usd"],
            int(sums["unknown_cost_count"]),
            saved_usd.get(start_s, {}),
        )
        for start_s, sums in add_up(cells, TOTALS, lambda cell: float(cell["bucket"].timestamp())).items()
    ]
    return tuple(sorted(buckets, key=lambda bucket: bucket.start_s))


_DAYS = 90
_MOST = 1_000  # a filter with more is no longer one to choose from

# The hourly sums are few rows; the hours that are not summed up yet are read from the requests themselves. DISTINCT in
# each part: of both together, Postgres would not know how few names there are, and sort.
_CHOICES: LiteralString = """
WITH named AS (
    SELECT DISTINCT router_id, model, provider FROM hourly_metrics
    WHERE hour > now() - make_interval(days => %(days)s) AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
    UNION
    SELECT DISTINCT router_id, model, provider FROM requests
    WHERE created_at > now() - interval '2 hours' AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
)
SELECT array(SELECT DISTINCT router_id FROM named WHERE router_id > '' ORDER BY 1 LIMIT %(most)s) AS routers,
       array(SELECT DISTINCT model FROM named WHERE model > '' ORDER BY 1 LIMIT %(most)s) AS models,
       array(SELECT DISTINCT provider FROM named WHERE provider > '' ORDER BY 1 LIMIT %(most)s) AS providers"""


def read_choices(connection: SyncConnection, user_id: str | None) -> Choices:
    """Names in a tenant's requests of the last 90 days, of every tenant for None."""
    given = {"user_id": user_id, "days": _DAYS, "most": _MOST}
    row = connection.execute(_CHOICES, given).fetchone() or {}
    names = (tuple(row.get(name) or ()) for name in ("routers", "models", "providers"))
    return replace(Choices(*names), **read_whose(connection, user_id))


def read_tenants(connection: SyncConnection) -> tuple[str, ...]:
    """Every tenant, by name."""
    rows = connection.execute("SELECT id FROM users ORDER BY id LIMIT %s", (_MOST,)).fetchall()
    return tuple(row["id"] for row in rows)
