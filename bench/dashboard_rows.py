"""The past that `bench dashboard` looks at: the requests of `bench jobs`, over days, with attempts and hourly rows, the
routers that decided them, and what scheduled work has left behind."""

from datetime import UTC, datetime, timedelta

import psycopg

from bench import decision_rows, job_rows
from infra.db.engine import Database
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import seed_catalogue
from infra.db.metrics.aggregation import PostgresAggregator

# One call per request; every 25th fell back after a first one that failed, every third of those by a rate limit.
_ATTEMPTS = """
INSERT INTO attempts (user_id, request_id, seq, model, provider, status, error_type, http_status, latency_ms, ttft_ms,
    cost_usd, input_tokens, output_tokens, cached_tokens, reasoning_tokens, started_at, deployment)
SELECT user_id, request_id, call, model, provider,
    CASE WHEN failed THEN 'error' ELSE 'ok' END,
    CASE WHEN failed THEN (ARRAY['rate_limited', 'server_error', 'timeout_idle'])[1 + n % 3] END,
    CASE WHEN failed THEN 503 ELSE 200 END, latency_ms / (last + 1), ttft_ms, cost_usd, input_tokens, output_tokens,
    0, 0, created_at + call * interval '100 ms', provider || '/' || model
FROM (SELECT *, substring(request_id FROM 7)::bigint AS n FROM requests) AS numbered
    CROSS JOIN LATERAL (SELECT (n % 25 = 0)::int AS last) AS counted
    CROSS JOIN LATERAL generate_series(0, last) AS call
    CROSS JOIN LATERAL (SELECT call < last OR status = 'failed' AS failed) AS ended
"""
_TENANTS = "INSERT INTO users (id, operator) SELECT DISTINCT user_id, false FROM requests ON CONFLICT DO NOTHING"
# A night's re-scoring per tenant, a refit of every router at six hours' distance, an export per hour.
_RESCORES = """
INSERT INTO rescore_jobs (user_id, id, workflow_id, status, paused, spec, total, done, scored, cursor_user, cursor_id,
    created_at, finished_at)
SELECT users.id, 'night-' || n, 'rescore/' || n, 'completed', false, '{}', 1000, 1000, 500, '', '',
    now() - n * interval '1 day', now() - n * interval '1 day' + interval '5 min'
FROM users CROSS JOIN generate_series(1, %(days)s::int) AS n"""
_FITS = """
INSERT INTO predictors (user_id, router_id, version, fitted_at, rows, accepted, report)
SELECT user_id, id, n, now() - (%(fits)s - n) * interval '6 hours', 1000 + n, false, '{"refused_because": "worse"}'
FROM routers CROSS JOIN generate_series(1, %(fits)s) AS n"""
_FILES = """
INSERT INTO exported_files (path, hour, recorded_hour, revision, exported_revision, requests, bytes, exported_at)
SELECT 'hour-' || hour, hour, hour, 1, 1, requests, requests * 200, hour + interval '1 hour' FROM aggregated_hours"""
_HOURS_AT_ONCE = 1_000
_DECISIONS_EACH, _VERSIONS, _FITS_A_DAY = 20, 5, 4


async def fill(url: str, rows: int, days: float) -> None:
    """`rows` requests of the last `days`, aggregated up to the hour in progress as the worker would have done."""
    span, decided = timedelta(days=days), decision_rows.decisions(job_rows.MODELS, _DECISIONS_EACH)
    job_rows.fill(url, rows, datetime.now(UTC) - span, span, decided)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TENANTS)
        connection.execute(_ATTEMPTS)
        connection.execute("VACUUM ANALYZE attempts")
    await aggregate(url)
    await configure(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (_RESCORES, _FITS, _FILES):
            connection.execute(statement, {"days": max(round(days), 1), "fits": max(round(days * _FITS_A_DAY), 1)})
        connection.execute("VACUUM ANALYZE")


async def aggregate(url: str) -> None:
    """Compute every hour that is due."""
    async with Database(url) as database:
        aggregator = PostgresAggregator(database)
        await aggregator.plan()
        while hours := await aggregator.next_hours(_HOURS_AT_ONCE):
            for hour in hours:
                await aggregator.aggregate(hour)


async def configure(url: str) -> None:
    """The models, and every tenant's routers, each of them changed a few times."""
    async with Database(url) as database:
        await seed_catalogue(database, [decision_rows.spec(model) for model in job_rows.MODELS])
        routers = PostgresRouterRepository(database)
        for tenant in range(job_rows.TENANTS):
            for number in range(job_rows.ROUTERS):
                for version in range(_VERSIONS):
                    made = decision_rows.router(f"router-{number}", job_rows.MODELS, 0.02 * (1 + version))
                    await routers.put(f"tenant-{tenant}", made, "bench")
