"""Pages of re-scoring in Postgres: a page costs the same wherever it is."""

import secrets
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from infra.db.engine import Database
from infra.db.learning.rescore_sql import KEYS, READ_IN_ORDER, bounds, selection
from modelpilot.learning.rescoring import Position, RescoreSpec

# As one tenant's router looks to the planner: user, model and time go together, which its statistics do not tell.
_FILL = """
INSERT INTO requests (user_id, request_id, router_id, api_key_id, config_version, created_at, completed_at, recorded_at,
    status, model, provider, latency_ms, overhead_ms, cost_usd, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens, success, finish_reason, request_type, attempts, fallback_used, degraded, propensity, explored,
    prompt_hash, decision, tags, stream)
SELECT %(user)s, 'r' || n, 'support', 'key_1', 1, %(from)s + n * interval '1 ms', now(), now(), 'completed', %(model)s,
    'simulator', 100, 2, 0.0001, 100, 50, 0, 0, true, 'stop', 'chat', 1, false, '{}', 1.0, false, md5(n::text), '{}',
    '{}', false
FROM generate_series(0, %(rows)s - 1) AS n
"""
_ROWS, _PAGE = 20_000, 1_000


async def test_a_page_reads_the_rows_that_it_returns(migrated_url: str) -> None:
    """Reading all that is left to sort it would make a job's work grow with the square of its rows."""
    user, model = f"user-{secrets.token_hex(4)}", f"sim/{secrets.token_hex(4)}"
    spec = RescoreSpec(model=model, from_s=time.time() - 3_600.0, to_s=time.time() + 60.0)
    params = {**selection(spec, user), "below": None, "limit": _PAGE}
    async with Database(migrated_url) as database, database.transaction(30.0) as connection:
        for number, named in enumerate([model, *(["sim/other"] * 4)]):
            given = {"user": user if number == 0 else f"{user}-{number}", "model": named, "rows": _ROWS}
            began = params["from"] - timedelta(hours=3 * min(number, 1))
            await connection.execute(_FILL, {**given, "from": began})
        await connection.execute("ANALYZE requests")
        await connection.execute(READ_IN_ORDER)
        for behind in (Position(user), Position(user, (spec.from_s or 0.0) + 5.0, "r5000")):
            explain = "EXPLAIN (ANALYZE, FORMAT JSON) " + KEYS
            row = await (await connection.execute(explain, {**params, **bounds(behind, None)})).fetchone()
            assert row is not None
            plan = row["QUERY PLAN"][0]["Plan"]
            assert plan["Actual Rows"] == _PAGE
            assert max(each["Actual Rows"] for each in _nodes(plan)) <= _PAGE + 1


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)
