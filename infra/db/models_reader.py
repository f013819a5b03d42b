"""`modelpilot.metrics.use.ModelsReader` on Postgres."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from infra.db.explore_reader import SORT_IN_MEMORY, ask
from infra.db.site_scope import latest_request_s, moments
from infra.db.sync_pool import SyncPool
from modelpilot.metrics.explore import Question, RequestFilter
from modelpilot.metrics.overview import AnalyticsScope
from modelpilot.metrics.use import HEALTH_S, HEAT_METRIC, MODEL_METRICS, DeploymentUse, ModelsRead, Price

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
_OF_USER: LiteralString = " AND user_id = %(user_id)s"
_OF_MODEL: LiteralString = " AND model = %(model)s"
_OF_PROVIDER: LiteralString = " AND provider = %(provider)s"
_PER_DEPLOYMENT: LiteralString = " GROUP BY 1, 2, 3"

# A tenant's own version hides the shared one; who sees everybody is shown the shared one first.
_PRICES: LiteralString = """
SELECT DISTINCT ON (id) id, user_id, body, updated_at FROM models
WHERE id = ANY (%(ids)s) AND (%(user_id)s::text IS NULL OR user_id IN ('', %(user_id)s))
ORDER BY id, (user_id = '') = (%(user_id)s::text IS NULL) DESC, user_id"""


class PostgresModelsReader:
    """Implements `modelpilot.metrics.use.ModelsReader`. May be called from many threads."""

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool

    def models(self, scope: AnalyticsScope, wanted: RequestFilter, bucket_s: int) -> ModelsRead:
        """All in one snapshot. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            connection.execute(SORT_IN_MEMORY)
            by_model = ask(connection, scope, Question(MODEL_METRICS, "model", None, wanted))
            over_time = ask(connection, scope, Question((HEAT_METRIC,), "model", bucket_s, wanted))
            latest_s = latest_request_s(connection, scope.user_id)
            deployments = _deployments(connection, scope, wanted)
            names = {cell.group for cell in by_model.cells} | {one.model for one in deployments}
            prices = connection.execute(_PRICES, {"ids": sorted(names), "user_id": scope.user_id}).fetchall()
        return ModelsRead(
            by_model=replace(by_model, latest_request_s=latest_s),
            over_time=over_time,
            deployments=tuple(deployments),
            prices=tuple(_price(row) for row in prices),
        )


def _deployments(connection: Connection[DictRow], scope: AnalyticsScope, wanted: RequestFilter) -> list[DeploymentUse]:
    start, end = moments(scope)
    given: dict[str, Any] = {"start": start, "end": end, "recent": end - timedelta(seconds=HEALTH_S)}
    given |= {"user_id": scope.user_id, "model": wanted.model, "provider": wanted.provider}
    narrowed = _OF_USER if scope.user_id is not None else ""
    narrowed += _OF_MODEL if wanted.model is not None else ""
    narrowed += _OF_PROVIDER if wanted.provider is not None else ""
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


def _price(row: DictRow) -> Price:
    body = row["body"]
    per_input, per_output = body.get("costPerInputToken"), body.get("costPerOutputToken")
    return Price(row["id"], row["user_id"], per_input, per_output, row["updated_at"].timestamp())
