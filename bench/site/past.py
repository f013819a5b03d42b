"""The past that `bench dashboard` looks at: the requests of `bench jobs`, over days, with attempts and hourly rows, the
routers that decided them, and what scheduled work has left behind."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import psycopg

from bench.jobs import past
from infra.db.engine import Database
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import seed_catalogue
from infra.db.metrics.aggregation import PostgresAggregator
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import profile_request
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import Neighbours, RouterSnapshot
from modelpilot.routing.router import Objective, Router
from modelpilot.routing.selection import decide

_NOW = 1_790_000_000.0
_HOURS_AT_ONCE = 1_000
_DECISIONS_EACH, _VERSIONS, _FITS_A_DAY = 20, 5, 4
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
_TAGS = "INSERT INTO dimensions (user_id, tag) SELECT id, unnest(ARRAY['customer', 'team']) FROM users"
_KEYS = """
INSERT INTO api_keys (id, user_id, name, prefix, key_hash, scopes, active)
SELECT id || '-' || n, id, 'Key ' || n, 'mp_', sha256((id || n)::bytea), '{route}', true
FROM users CROSS JOIN generate_series(0, 2) AS n"""
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


async def fill(url: str, rows: int, days: float) -> None:
    """`rows` requests of the last `days`, aggregated up to the hour in progress as the worker would have done."""
    span, decided = timedelta(days=days), decisions(past.MODELS, _DECISIONS_EACH)
    past.fill(url, rows, datetime.now(UTC) - span, span, decided, whose=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TENANTS)
        connection.execute(_TAGS)
        connection.execute(_KEYS)
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
        await seed_catalogue(database, [spec(model) for model in past.MODELS])
        routers = PostgresRouterRepository(database)
        for tenant in range(past.TENANTS):
            for number in range(past.ROUTERS):
                for version in range(_VERSIONS):
                    made = router(f"router-{number}", past.MODELS, 0.02 * (1 + version))
                    await routers.put(f"tenant-{tenant}", made, "bench")


def decisions(models: Sequence[str], each: int) -> Mapping[str, list[dict[str, Any]]]:
    """`each` decisions by the model that was chosen, as the ledger stores them; the same every time.

    They are made by the product's own arithmetic, over catalogues that are drawn by lot.
    """
    rules = router("bench", models)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Why is the sky blue? " * 10}]}
    profile = profile_request(body, ChatBody.model_validate(body))
    found: dict[str, list[dict[str, Any]]] = {model: [] for model in models}
    for seed in count():
        draw = random.Random(seed)
        wanted = min(models, key=lambda model: len(found[model]))
        snapshot = RouterSnapshot("tenant-0", rules, 1, _drawn(models, wanted, draw), {})
        made = decide(snapshot, profile, Neighbours.empty(), draw)
        if len(found[made.selected]) < each:
            found[made.selected].append(made.to_wire())
        if all(len(known) == each for known in found.values()):
            return found
    raise AssertionError  # counting has no end


def router(router_id: str, models: Sequence[str], exploration: float = 0.1) -> Router:
    """A router over all of them that explores."""
    weights = Objective(cost_weight=0.1, latency_weight=0.1, quality_weight=0.7, carbon_weight=0.1)
    return Router(
        id=router_id, name=router_id, available_models=list(models), objective=weights, exploration=exploration
    )


def spec(model: str) -> ModelSpec:
    """A model `sim/…` of the catalogue; dearer ones are better and slower."""
    rank = int(model.rpartition("-")[2])
    return ModelSpec(
        id=model,
        provider="simulator",
        provider_model="small",
        capabilities=["chat", "json", "streaming"],
        avg_latency_ms=400.0 + 100.0 * rank,
        cost_per_input_token=1e-7 * 1.5**rank,
        cost_per_output_token=4e-7 * 1.5**rank,
        quality_score=0.5 + 0.05 * rank,
        carbon_g_per_1k_tokens=0.1 * (1 + rank),
    )


def _drawn(models: Sequence[str], favourite: str, draw: random.Random) -> dict[str, ModelSpec]:
    """The models with qualities and latencies drawn by lot, one of which is better than all others."""
    return {
        model: spec(model).model_copy(
            update={
                "quality_score": 0.95 if model == favourite else draw.uniform(0.1, 0.6),
                "avg_latency_ms": draw.uniform(300.0, 1_500.0),
            }
        )
        for model in models
    }
