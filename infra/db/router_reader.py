"""`modelpilot.metrics.use.RouterReader` on Postgres."""

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from infra.db.hour_parts import OF_HOURS, read_parts
from infra.db.site_scope import OF_USER, moments
from infra.db.sync_pool import SyncPool
from modelpilot.metrics.overview import AnalyticsScope
from modelpilot.metrics.use import MOST_VERSIONS, NO_PREDICTOR, PredictorState, RouterUse, RouterVersion

_MOST_ROUTERS = 1_000

_ROUTERS: LiteralString = """
SELECT routers.*, served.version AS served_version, served.fitted_at, served.rows,
       newest.fitted_at AS newest_at, newest.accepted, newest.report ->> 'refused_because' AS refused_because
FROM routers
LEFT JOIN LATERAL (
    SELECT version, fitted_at, rows FROM predictors
    WHERE predictors.user_id = routers.user_id AND predictors.router_id = routers.id AND accepted
    ORDER BY version DESC LIMIT 1
) AS served ON true
LEFT JOIN LATERAL (
    SELECT fitted_at, accepted, report FROM predictors
    WHERE predictors.user_id = routers.user_id AND predictors.router_id = routers.id ORDER BY version DESC LIMIT 1
) AS newest ON true
WHERE %(user_id)s::text IS NULL OR routers.user_id = %(user_id)s
ORDER BY routers.user_id, routers.id LIMIT %(limit)s"""

_OVER_REQUESTS: LiteralString = """
SELECT user_id, router_id, count(*) AS requests, coalesce(sum(cost_usd), 0) AS cost_usd,
       count(*) FILTER (WHERE cost_usd IS NULL AND status = 'completed') AS unknown_cost
FROM requests WHERE router_id > '' AND """
_OVER_HOURS: LiteralString = """
SELECT user_id, router_id, sum(requests)::bigint AS requests, coalesce(sum(total_cost_usd), 0) AS cost_usd,
       sum(unknown_cost_count)::bigint AS unknown_cost
FROM hourly_metrics WHERE router_id > '' AND """
_PER_ROUTER: LiteralString = " GROUP BY 1, 2"

_VERSIONS: LiteralString = """
SELECT found.version, found.created_at, found.body, coalesce(nullif(api_keys.name, ''), found.created_by) AS made_by
FROM router_versions AS found
LEFT JOIN api_keys ON api_keys.id = found.created_by AND api_keys.user_id = found.user_id
WHERE found.user_id = %s AND found.router_id = %s ORDER BY found.version DESC LIMIT %s"""


class PostgresRouterReader:
    """Implements `modelpilot.metrics.use.RouterReader`. May be called from many threads."""

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool

    def routers(self, scope: AnalyticsScope) -> Sequence[RouterUse]:
        """See RouterReader."""
        with self._pool.transaction() as connection:
            rows = connection.execute(_ROUTERS, {"user_id": scope.user_id, "limit": _MOST_ROUTERS}).fetchall()
            use = _use(connection, scope)
        found = [_router(row, use.get((row["user_id"], row["id"]), (0, 0.0, 0))) for row in rows]
        return sorted(found, key=lambda one: (-one.requests, one.user_id, one.router_id))

    def versions(self, user_id: str, router_id: str) -> Sequence[RouterVersion]:
        """See RouterReader."""
        with self._pool.transaction() as connection:
            rows = connection.execute(_VERSIONS, (user_id, router_id, MOST_VERSIONS)).fetchall()
        return [
            RouterVersion(row["version"], row["created_at"].timestamp(), row["made_by"], row["body"]) for row in rows
        ]


def _use(connection: Connection[DictRow], scope: AnalyticsScope) -> dict[tuple[str, str], tuple[int, float, int]]:
    """Requests, known cost and requests of unknown cost per owner and router."""
    parts = read_parts(connection, *moments(scope))
    given = {**parts.parameters, "user_id": scope.user_id}
    rows: list[DictRow] = []
    if parts.raw:
        query = f"{_OVER_REQUESTS}{parts.of_raw} AND {OF_USER}{_PER_ROUTER}"
        rows += connection.execute(query, given).fetchall()
    if parts.first < parts.last:
        rows += connection.execute(f"{_OVER_HOURS}{OF_HOURS} AND {OF_USER}{_PER_ROUTER}", given).fetchall()
    sums: dict[tuple[str, str], tuple[int, float, int]] = {}
    for row in rows:
        key = (row["user_id"], row["router_id"])
        requests, cost_usd, unknown = sums.get(key, (0, 0.0, 0))
        sums[key] = requests + row["requests"], cost_usd + row["cost_usd"], unknown + row["unknown_cost"]
    return sums


def _router(row: DictRow, use: tuple[int, float, int]) -> RouterUse:
    return RouterUse(
        user_id=row["user_id"],
        router_id=row["id"],
        body=row["body"],
        version=row["version"],
        created_at=row["created_at"].timestamp(),
        updated_at=row["updated_at"].timestamp(),
        requests=use[0],
        cost_usd=use[1],
        unknown_cost=use[2],
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
