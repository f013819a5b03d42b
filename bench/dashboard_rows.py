"""The past that `bench dashboard` looks at: the requests of `bench jobs`, over days, with attempts and hourly rows."""

from datetime import UTC, datetime, timedelta

import psycopg

from bench import job_rows
from infra.db.aggregation import PostgresAggregator
from infra.db.engine import Database

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
_HOURS_AT_ONCE = 1_000


async def fill(url: str, rows: int, days: float) -> None:
    """`rows` requests of the last `days`, aggregated up to the hour in progress as the worker would have done."""
    span = timedelta(days=days)
    job_rows.fill(url, rows, datetime.now(UTC) - span, span)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TENANTS)
        connection.execute(_ATTEMPTS)
        connection.execute("VACUUM ANALYZE attempts")
    await aggregate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE hourly_metrics")


async def aggregate(url: str) -> None:
    """Compute every hour that is due."""
    async with Database(url) as database:
        aggregator = PostgresAggregator(database)
        await aggregator.plan()
        while hours := await aggregator.next_hours(_HOURS_AT_ONCE):
            for hour in hours:
                await aggregator.aggregate(hour)
