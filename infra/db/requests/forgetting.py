"""What was learnt and has to go: marks in `forgotten`, and word to the vector store in the outbox, in one transaction
with what deletes.

The marks keep it from coming back: an outcome that was in flight, a point that waited, a fit that was under way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from infra.db.engine import Connection
from infra.db.routing.notifications import CHANNEL
from modelpilot.requests.erasure import Forgotten, PointTotals
from modelpilot.requests.records import HistoryScope

# A row of `requests` whose router, model or owner was deleted since: nothing is learnt from it any more.
IS_FORGOTTEN = """EXISTS (SELECT FROM forgotten f WHERE f.user_id = {0}.user_id AND f.router_id IN ('', {0}.router_id)
    AND f.model IN ('', {0}.model) AND {0}.created_at < f.history_at)"""
# What was erased must not be written again by whoever still has it.
ID_HASH = "sha256(convert_to({0}.user_id || '/' || {0}.request_id, 'UTF8'))"
NOT_ERASED = f"NOT EXISTS (SELECT FROM erased_requests e WHERE e.id_hash = {ID_HASH})"

_MARK = """
INSERT INTO forgotten (user_id, router_id, model, history_at, fits_at)
VALUES (%(user_id)s, %(router_id)s, %(model)s, CASE WHEN %(history)s THEN clock_timestamp() END, clock_timestamp())
ON CONFLICT (user_id, router_id, model) DO UPDATE
SET history_at = coalesce(excluded.history_at, forgotten.history_at), fits_at = excluded.fits_at
"""

# Points that wait are not worth storing any more; those that a worker is just storing are waited for.
_DROP_WAITING = """
DELETE FROM outbox WHERE user_id = %(user_id)s AND point ? 'request_id'
    AND (%(router_id)s = '' OR point -> 'scope' ->> 'router_id' = %(router_id)s)
    AND (%(model)s = '' OR point ->> 'model' = %(model)s)
"""
_ENTER = "INSERT INTO outbox (user_id, point, embedding) VALUES (%s, %s, '')"

# A router that is deleted may have other versions than its newest that knew the model.
_DROP_FITS = """
DELETE FROM predictors p WHERE p.user_id = %(user_id)s AND (%(router_id)s = '' OR p.router_id = %(router_id)s)
    AND (%(model)s = '' OR EXISTS (SELECT FROM router_versions v
        WHERE v.user_id = p.user_id AND v.router_id = p.router_id
            AND (v.body -> 'availableModels' ? %(model)s OR v.body -> 'fallbackStrategy' -> 'fallbackModels' ? %(model)s
                OR v.body ->> 'preferredModel' = %(model)s)))
"""
_TELL = "SELECT pg_notify(%s, %s)"


async def forget_history(connection: Connection, which: Forgotten) -> None:
    """Have points deleted, within the transaction that deletes what they were learnt for: nobody who makes a router or
    model of the same name inherits them."""
    await connection.execute(_MARK, {**_names(which), "history": True})
    await connection.execute(_DROP_WAITING, _names(which))
    await connection.execute(_ENTER, (which.user_id, Jsonb({"forget": which.router_id, "model": which.model})))
    await connection.execute(_DROP_FITS, _names(which))


async def forgotten(connection: Connection, which: Forgotten) -> None:
    """The vector store has none of it any more: neither may predictors, nor what gateways hold in memory."""
    await connection.execute(_MARK, {**_names(which), "history": False})
    await connection.execute(_DROP_FITS, _names(which))
    await connection.execute(_TELL, (CHANNEL, f"history:{which.user_id}:{which.router_id or '*'}"))


async def have_recounted(connection: Connection, scope: HistoryScope, points: Sequence[tuple[str, str]]) -> None:
    """Have points (prompt hash, model) counted anew, or deleted where no request is left of them; within the
    transaction in which requests of theirs go."""
    entry = {"recount": scope.router_id, "points": [list(point) for point in points], "erased": True}
    await connection.execute(_ENTER, (scope.user_id, Jsonb(entry)))


async def recounted(connection: Connection, scope: HistoryScope, *, erased: bool) -> None:
    """The points are what is left of them. `erased`: their predictors go as well, since these hold the vectors of
    prompts; after retention they are fitted anew by the schedule."""
    which = _names(Forgotten(scope.user_id, scope.router_id))
    await connection.execute(_MARK, {**which, "history": False})
    if erased:
        await connection.execute(_DROP_FITS, which)
    await connection.execute(_TELL, (CHANNEL, f"recount:{scope.user_id}:{scope.router_id}"))


# What waits in the outbox is counted when it gets to the vector store. Weights as `Quality.weight` has them.
_TOTALS = f"""
WITH waiting AS (
    SELECT point ->> 'request_id' AS request_id FROM outbox
    WHERE user_id = %(user_id)s AND point -> 'scope' ->> 'router_id' = %(router_id)s
), wanted AS (
    SELECT DISTINCT * FROM unnest(%(hashes)s::text[], %(models)s::text[]) AS w (prompt_hash, model)
)
SELECT w.prompt_hash, w.model, count(r.request_id) AS requests,
    coalesce((array_agg(r.request_id ORDER BY r.completed_at DESC) FILTER (WHERE r.request_id IS NOT NULL))[1], '')
        AS request_id,
    coalesce(sum(r.quality * r.weight) / nullif(sum(r.weight) FILTER (WHERE r.quality IS NOT NULL), 0), 0) AS quality,
    coalesce(sum(r.weight) FILTER (WHERE r.quality IS NOT NULL), 0) AS quality_count,
    coalesce(avg(r.cost_usd), 0) AS cost_usd, count(r.cost_usd)::float8 AS cost_count,
    coalesce(avg(r.ttft_ms), 0) AS ttft_ms, count(r.ttft_ms)::float8 AS ttft_count,
    coalesce(avg(r.latency_ms), 0) AS latency_ms, coalesce(avg(r.input_tokens), 0)::float8 AS input_tokens,
    coalesce(avg(r.output_tokens), 0)::float8 AS output_tokens,
    coalesce(extract(epoch FROM max(r.completed_at)), 0)::float8 AS timestamp
FROM wanted w LEFT JOIN LATERAL (
    SELECT r.request_id, r.completed_at, r.quality,
        least(coalesce(r.quality_confidence / nullif(1.0 - r.quality_confidence, 0.0), 1.0), 1.0) AS weight,
        coalesce(a.cost_usd, r.cost_usd) AS cost_usd, coalesce(a.ttft_ms, r.ttft_ms) AS ttft_ms,
        coalesce(a.latency_ms, r.latency_ms) AS latency_ms, coalesce(a.input_tokens, r.input_tokens) AS input_tokens,
        coalesce(a.output_tokens, r.output_tokens) AS output_tokens
    FROM requests r LEFT JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.user_id = r.user_id AND a.request_id = r.request_id AND a.status = 'ok'
        ORDER BY a.seq DESC LIMIT 1) AS a ON true
    WHERE r.prompt_hash = w.prompt_hash AND r.user_id = %(user_id)s AND r.router_id = %(router_id)s
        AND r.model = w.model AND r.status = 'completed' AND r.purpose = 'request'
        AND r.request_id NOT IN (SELECT request_id FROM waiting WHERE request_id IS NOT NULL)
        AND NOT {IS_FORGOTTEN.format("r")}
) AS r ON true
GROUP BY w.prompt_hash, w.model
"""  # noqa: S608  (own constants)


async def totals(connection: Connection, scope: HistoryScope, points: Sequence[Sequence[str]]) -> Sequence[PointTotals]:
    """What is left of the points by the rows that there are."""
    given = {
        "user_id": scope.user_id,
        "router_id": scope.router_id,
        "hashes": [prompt_hash for prompt_hash, _ in points],
        "models": [model for _, model in points],
    }
    rows = await (await connection.execute(_TOTALS, given)).fetchall()
    return [PointTotals(point_id=f"{row.pop('prompt_hash')}/{row['model']}", **row) for row in rows]


def _names(which: Forgotten) -> Mapping[str, Any]:
    return {"user_id": which.user_id, "router_id": which.router_id, "model": which.model}
