"""Logged decisions with what came of them, for replays."""

import asyncio
from collections.abc import Sequence

import orjson
from psycopg.rows import DictRow

from infra.db.engine import Database
from infra.db.requests.forgetting import IS_FORGOTTEN
from infra.db.requests.rows import moment
from modelpilot.learning.replay import LoggedRequest, ModelHistory
from modelpilot.requests.records import HistoryScope

# Neighbours are half of a decision, and a replay has no use for them. As text, so that it is parsed off the event loop.
_DECISIONS = f"""
SELECT (decision - 'neighbours')::text AS decision, model, status, fallback_used, cost_usd, latency_ms, quality
FROM requests r
WHERE user_id = %(user_id)s AND router_id = %(router_id)s AND status <> 'canceled'
  AND purpose = 'request' AND erased_at IS NULL AND NOT {IS_FORGOTTEN.format("r")}
  AND (%(start)s::timestamptz IS NULL OR created_at >= %(start)s)
  AND (%(end)s::timestamptz IS NULL OR created_at < %(end)s)
ORDER BY created_at DESC LIMIT %(limit)s
"""  # noqa: S608  (own constants)

_HISTORIES = f"""
SELECT model, count(*) AS outcomes, count(quality) AS graded, avg(quality) AS quality, avg(latency_ms) AS latency_ms,
       avg(output_tokens)::float8 AS output_tokens, coalesce(stddev_samp(latency_ms), 0) AS latency_sd_ms,
       coalesce(stddev_samp(output_tokens), 0)::float8 AS output_tokens_sd
FROM requests r
WHERE user_id = %s AND router_id = %s AND model = ANY(%s) AND status = 'completed' AND NOT fallback_used
  AND purpose = 'request'
  AND created_at > now() - interval '90 days' AND NOT {IS_FORGOTTEN.format("r")}
GROUP BY model
"""  # noqa: S608  (own constants)


class PostgresDecisionLog:
    """Implements `modelpilot.learning.replay.report.DecisionLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def decisions(
        self, scope: HistoryScope, start_s: float | None, end_s: float | None, limit: int
    ) -> Sequence[LoggedRequest]:
        """The newest `limit` requests that ended within these times (Unix seconds)."""
        params = {
            "user_id": scope.user_id,
            "router_id": scope.router_id,
            "start": None if start_s is None else moment(start_s),
            "end": None if end_s is None else moment(end_s),
            "limit": limit,
        }
        rows = await self._database.fetch_all(_DECISIONS, params)
        return await asyncio.to_thread(lambda: [_logged(row) for row in rows])

    async def histories(self, scope: HistoryScope, models: Sequence[str]) -> dict[str, ModelHistory]:
        """What was seen of these models lately, by model."""
        rows = await self._database.fetch_all(_HISTORIES, (scope.user_id, scope.router_id, list(models)))
        return {row.pop("model"): ModelHistory(**row) for row in rows}


def _logged(row: DictRow) -> LoggedRequest:
    answered = row["status"] == "completed" and not row["fallback_used"]
    return LoggedRequest(
        decision=orjson.loads(row["decision"]),
        answered_by=row["model"] if answered else None,
        cost_usd=row["cost_usd"],
        latency_ms=row["latency_ms"],
        quality=row["quality"],
    )
