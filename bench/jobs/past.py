"""Synthetic requests for `bench jobs` and `bench dashboard`, made by Postgres itself: many routers, models, tenants."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg

MODELS = tuple(f"sim/model-{number}" for number in range(8))
TYPES = ("chat", "chat", "code", "math", "translation")
TENANTS, ROUTERS = 4, 5

_EMPTY = """TRUNCATE requests, attempts, hourly_metrics, hourly_baselines, hourly_totals, hourly_baseline_totals,
    aggregated_hours, stale_hours, exported_files"""
_RESTART = "UPDATE metric_progress SET through = '1970-01-01Z'"
# random() once per row and figure; every 25th request fell back, and every 50th failed.
_FILL = """
INSERT INTO requests (user_id, request_id, router_id, api_key_id, config_version, created_at, completed_at, recorded_at,
    status, model, provider, latency_ms, ttft_ms, overhead_ms, cost_usd, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens, success, finish_reason, request_type, quality, quality_source, attempts, fallback_used, degraded,
    propensity, explored, prompt_hash, decision, tags, session_id, stream, carbon_g, preferred_model,
    preferred_cost_usd, preferred_carbon_g, best_model, best_cost_usd, best_carbon_g, cheapest_model, cheapest_cost_usd,
    cheapest_carbon_g, predicted_cost_usd, predicted_carbon_g, end_user)
SELECT 'tenant-' || n / 40 %% %(tenants)s, 'bench-' || n, 'router-' || n / 8 %% %(routers)s, 'key-' || n %% 20, 1,
    %(hour)s + n * %(step)s::interval, %(hour)s + n * %(step)s::interval + interval '1 s',
    %(hour)s + n * %(step)s::interval + interval '1 s',
    CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'completed' END, model, 'simulator', -800 * ln(1 - random()),
    100 * random(), 2 * random(), 0.01 * random(), (1000 * random())::bigint, (500 * random())::bigint, 0, 0,
    n %% 50 <> 0, 'stop', (%(types)s::text[])[1 + n / 3 %% 5], random(), 'checks', 1, n %% 25 = 0, '{}', 1.0, false,
    md5(n::text), (%(decisions)s::jsonb) -> model -> (n / 8 %% %(each)s)::int, '{}',
    null, false, random(), 'sim/model-3', 0.01 * random(), random(), 'sim/model-7', 0.02 * random(), random(),
    'sim/model-0', 0.001 * random(), random(), 0.01 * random(), random(),
    'user-' || n %% 5000
FROM generate_series(0, %(rows)s - 1) AS n
CROSS JOIN LATERAL (SELECT (%(models)s::text[])[1 + n %% 8] AS model) AS named
"""


def past_hour() -> datetime:
    """An hour that is long over, so that its export is due."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


def fill(
    url: str,
    rows: int,
    hour: datetime,
    span: timedelta = timedelta(hours=1),
    decisions: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    """Put `rows` requests into `hour`, or into a longer `span` from there, and nothing else into the database.

    `decisions` by the model that was chosen, equally many of each, are used in turns; without them, every model has one
    that is as long as one of eight candidates.
    """
    decided = decisions or {model: [_decision(model)] for model in MODELS}
    given = {
        "rows": rows,
        "hour": hour,
        "step": span / rows,
        "models": list(MODELS),
        "tenants": TENANTS,
        "routers": ROUTERS,
        "types": list(TYPES),
        "decisions": orjson.dumps(decided).decode(),
        "each": len(decided[MODELS[0]]),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (_EMPTY, _RESTART):
            connection.execute(statement)
        connection.execute(_FILL, given)
        connection.execute("VACUUM ANALYZE requests")


def sums(url: str) -> tuple[int, int, int]:
    """Requests in the table, in hourly rows, and the number of those."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM requests), (SELECT coalesce(sum(requests), 0)::bigint FROM hourly_metrics),"
            " (SELECT count(*) FROM hourly_metrics)"
        ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1]), int(found[2])


def sql_ms(url: str) -> float:
    """How long the transaction of the hour took by Postgres' own clock."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT max(duration_ms) FROM aggregated_hours").fetchone()
    return float(found[0]) if found and found[0] is not None else 0.0


def _decision(chosen: str) -> dict[str, Any]:
    draw = random.Random(chosen)

    def part(unit: str) -> dict[str, Any]:
        return {"raw": draw.random(), "unit": unit, "score": draw.random(), "weight": 0.25}

    candidates = [
        {
            "model": model,
            "provider": "simulator",
            "cost": part("USD"),
            "latency": part("ms"),
            "quality": part("share"),
            "carbon": part("gCO2e"),
            "total": draw.random(),
            "excludedBecause": None,
            "evidence": 10,
        }
        for model in MODELS
    ]
    return {"mode": "smartRouter", "selectedModel": chosen, "candidates": candidates, "neighbours": []}
