"""How models, their deployments and routers are used."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any, LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection
from infra.db.metrics.explore import ask
from infra.db.metrics.hour_parts import read_parts
from infra.db.metrics.measures import Expression, add_up, moments, over_both, select, sums_of
from infra.db.metrics.requests import latest_request_s
from infra.db.requests.deployment_states import read_states
from modelpilot.metrics.explore import Question
from modelpilot.metrics.requests import NO_FILTER, AnalyticsScope, RequestFilter
from modelpilot.metrics.use import (
    HEALTH_S,
    HEAT_METRIC,
    MODEL_METRICS,
    MOST_VERSIONS,
    NO_PREDICTOR,
    DeploymentUse,
    FindOrigin,
    ModelsRead,
    PredictorState,
    Price,
    PriceOrigin,
    RouterUse,
    RouterVersion,
)

# All calls of the range: a million rows, so as few figures as the page needs.
_CALLS: LiteralString = """
SELECT model, provider, deployment, count(*) AS calls,
       count(*) FILTER (WHERE error_type = 'rate_limited') AS rate_limited, max(started_at) AS last_call
FROM attempts
WHERE started_at >= %(start)s AND started_at < %(end)s"""
_RECENT: LiteralString = """
SELECT model, provider, deployment, count(*) AS recent_calls,
       count(*) FILTER (WHERE status = 'error') AS recent_errors,
       count(*) FILTER (WHERE error_type = 'rate_limited') AS recent_rate_limited,
       count(*) FILTER (WHERE error_type IN ('authentication', 'permission')) AS recent_refused,
       max(started_at) AS last_call, max(started_at) FILTER (WHERE status <> 'error') AS last_good
FROM attempts
WHERE started_at >= %(recent)s AND started_at < %(end)s"""
# Apart, since an ordered aggregate would sort all calls of the range.
_LAST_ERRORS: LiteralString = """
SELECT DISTINCT ON (model, provider, deployment) model, provider, deployment, error_type FROM attempts
WHERE started_at >= %(recent)s AND started_at < %(end)s AND status = 'error'"""
_NEWEST: LiteralString = " ORDER BY model, provider, deployment, started_at DESC"
_PER_DEPLOYMENT: LiteralString = " GROUP BY 1, 2, 3"

# A tenant's own version hides the shared one; who sees everybody is shown the shared one first.
_PRICES: LiteralString = """
SELECT DISTINCT ON (id) id, user_id, body, updated_at FROM models
WHERE id = ANY (%(ids)s) AND (%(user_id)s::text IS NULL OR user_id IN ('', %(user_id)s))
ORDER BY id, (user_id = '') = (%(user_id)s::text IS NULL) DESC, user_id"""


def read_models(
    connection: SyncConnection, scope: AnalyticsScope, wanted: RequestFilter, bucket_s: int, origin_of: FindOrigin
) -> ModelsRead:
    """The page of models and providers; health is that of the last hour before the scope's end. `origin_of` knows where
    the prices of the shared catalogue come from."""
    by_model = ask(connection, scope, Question(MODEL_METRICS, "model", None, wanted))
    deployments = _deployments(connection, scope, wanted)
    names = {cell.group for cell in by_model.cells} | {one.model for one in deployments}
    prices = connection.execute(_PRICES, {"ids": sorted(names), "user_id": scope.user_id}).fetchall()
    return ModelsRead(
        by_model=replace(by_model, latest_request_s=latest_request_s(connection, scope.user_id)),
        over_time=ask(connection, scope, Question((HEAT_METRIC,), "model", bucket_s, wanted)),
        deployments=tuple(deployments),
        prices=tuple(_price(row, origin_of) for row in prices),
        states=read_states(connection, scope.user_id),
    )


def _deployments(connection: SyncConnection, scope: AnalyticsScope, wanted: RequestFilter) -> list[DeploymentUse]:
    start, end = moments(scope)
    selected = select(scope, RequestFilter(model=wanted.model, provider=wanted.provider))
    given = {**selected.parameters, "start": start, "end": end, "recent": end - timedelta(seconds=HEALTH_S)}
    narrowed = f" AND {selected.requests}"
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for query in (_CALLS + narrowed + _PER_DEPLOYMENT, _RECENT + narrowed + _PER_DEPLOYMENT):
        for row in connection.execute(query, given).fetchall():
            found.setdefault(_place(row), {}).update(row)
    failures = connection.execute(_LAST_ERRORS + narrowed + _NEWEST, given).fetchall()
    last_errors = {_place(row): row["error_type"] for row in failures}
    return [_deployment(row, last_errors.get(place)) for place, row in sorted(found.items())]


def _place(row: DictRow) -> tuple[str, str, str]:
    return row["model"], row["provider"], row["deployment"]


def _deployment(row: dict[str, Any], newest_error: str | None) -> DeploymentUse:
    last_good = row.get("last_good")
    failed_last = last_good is None or last_good < row["last_call"]
    values = {name: row[name] for name in DeploymentUse.__dataclass_fields__ if name in row}
    last_error = newest_error if failed_last else None
    return DeploymentUse(**{**values, "last_error": last_error, "last_call_s": row["last_call"].timestamp()})


def _price(row: DictRow, origin_of: FindOrigin) -> Price:
    body, owner = row["body"], row["user_id"]
    priced = body.get("costPerInputToken"), body.get("costPerOutputToken")
    # When a row of the shared catalogue was written says when it was seeded, and nothing about its price.
    origin = PriceOrigin("", row["updated_at"].astimezone(UTC).date()) if owner else origin_of(row["id"], *priced)
    return Price(row["id"], owner, *priced, origin.source, origin.since)


_MOST_ROUTERS = 1_000

_ROUTERS: LiteralString = """
SELECT routers.*, served.version AS served_version, served.fitted_at, served.rows,
       newest.fitted_at AS newest_at, newest.accepted, newest.report ->> 'refused_because' AS refused_because
FROM routers
LEFT JOIN LATERAL (
    SELECT version, fitted_at, rows, accepted FROM predictors
    WHERE predictors.user_id = routers.user_id AND predictors.router_id = routers.id
    ORDER BY version DESC LIMIT 1
) AS served ON served.accepted
LEFT JOIN LATERAL (
    SELECT fitted_at, accepted, report FROM predictors
    WHERE predictors.user_id = routers.user_id AND predictors.router_id = routers.id ORDER BY version DESC LIMIT 1
) AS newest ON true
WHERE %(user_id)s::text IS NULL OR routers.user_id = %(user_id)s
ORDER BY routers.user_id, routers.id LIMIT %(limit)s"""

_USE = ("requests", "total_cost_usd", "unknown_cost_count")
_NO_USE = dict.fromkeys(_USE, 0.0)
_PER_ROUTER = {name: Expression(name, name) for name in ("user_id", "router_id")}

_VERSIONS: LiteralString = """
SELECT found.version, found.created_at, found.body, coalesce(nullif(api_keys.name, ''), found.created_by) AS made_by
FROM router_versions AS found
LEFT JOIN api_keys ON api_keys.id = found.created_by AND api_keys.user_id = found.user_id
WHERE found.user_id = %s AND found.router_id = %s ORDER BY found.version DESC LIMIT %s"""


def read_routers(connection: SyncConnection, scope: AnalyticsScope) -> list[RouterUse]:
    """The routers of a scope, the busiest first."""
    rows = connection.execute(_ROUTERS, {"user_id": scope.user_id, "limit": _MOST_ROUTERS}).fetchall()
    parts, selected = read_parts(connection, *moments(scope)), select(scope, NO_FILTER)
    query = over_both(sums_of(_USE), _PER_ROUTER, selected, parts)
    sums = connection.execute(query, {**selected.parameters, **parts.parameters}).fetchall()
    use = add_up(sums, _USE, lambda row: (row["user_id"], row["router_id"]))
    found = [_router(row, use.get((row["user_id"], row["id"]), _NO_USE)) for row in rows]
    return sorted(found, key=lambda one: (-one.requests, one.user_id, one.router_id))


def read_versions(connection: SyncConnection, user_id: str, router_id: str) -> list[RouterVersion]:
    """The newest versions of a router, newest first."""
    rows = connection.execute(_VERSIONS, (user_id, router_id, MOST_VERSIONS)).fetchall()
    return [RouterVersion(row["version"], row["created_at"].timestamp(), row["made_by"], row["body"]) for row in rows]


def _router(row: DictRow, use: Mapping[str, float]) -> RouterUse:
    return RouterUse(
        user_id=row["user_id"],
        router_id=row["id"],
        body=row["body"],
        version=row["version"],
        created_at=row["created_at"].timestamp(),
        updated_at=row["updated_at"].timestamp(),
        requests=int(use["requests"]),
        cost_usd=use["total_cost_usd"],
        unknown_cost=int(use["unknown_cost_count"]),
        predictor=NO_PREDICTOR if row["newest_at"] is None else _predictor(row),
    )


def _predictor(row: DictRow) -> PredictorState:
    def seconds(moment: Any) -> float | None:
        return None if moment is None else float(moment.timestamp())

    refused = {} if row["accepted"] else {"refused_at": seconds(row["newest_at"])}
    because = None if row["accepted"] else row["refused_because"]
    return PredictorState(
        row["served_version"], seconds(row["fitted_at"]), row["rows"], **refused, refused_because=because
    )
