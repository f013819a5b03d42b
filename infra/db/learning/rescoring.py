"""The rows of re-scoring in Postgres: pages of outcomes with all that was said about them, and revised qualities."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import DictRow

from infra.db.engine import Database
from infra.db.learning.learners import NOTE_REGRADED
from infra.db.learning.rescore_sql import KEYS, READ_IN_ORDER, bounds, selection
from infra.db.metrics.aggregation import NOTE_STALE
from infra.db.requests.forgetting import IS_FORGOTTEN
from infra.db.requests.rows import moment
from modelpilot.learning.feedback import WINDOW_DAYS, SourceTotal
from modelpilot.learning.rescoring import (
    JobState,
    Opinion,
    OutcomePage,
    Position,
    RescoreInput,
    Revision,
    StoredOutcome,
)
from modelpilot.requests.records import HistoryScope, QualityUpdate

_PAGE_LIMIT_S = 30.0

_PAGE = f"""
WITH keys AS ({KEYS})
SELECT r.request_id, coalesce(r.router_id, '') AS router_id, r.model, r.prompt_hash, r.created_at, r.checks_quality,
    r.quality, r.quality_source, coalesce(r.quality_pending, false) AS pending,
    (SELECT json_agg(json_build_array(f.api_key_id, f.source, f.score)) FROM feedback f
     WHERE f.user_id = r.user_id AND f.request_id = r.request_id) AS opinions,
    (SELECT avg(j.score) FROM judgements j
     WHERE j.user_id = r.user_id AND j.request_id = r.request_id AND j.status = 'done') AS judge,
    EXISTS (SELECT FROM stored_texts t
        WHERE t.user_id = r.user_id AND t.request_id = r.request_id AND t.expires_at > now()) AS has_text
FROM keys JOIN requests r ON r.user_id = %(user_id)s AND r.request_id = keys.request_id
ORDER BY keys.created_at, keys.request_id
"""  # noqa: S608  (own constants)

_NEXT_USER = "SELECT min(user_id) AS user_id FROM requests WHERE user_id > %s"

_TOTALS = """
SELECT api_key_id AS api_key, source, count(*) AS count, sum(score) AS score_sum FROM feedback
WHERE user_id = %s AND router_id = %s AND model = %s AND updated_at > now() - make_interval(days => %s)
GROUP BY api_key_id, source
"""

# The rows that are revised come on top of this with their new values. Weights as `Quality.weight` has them.
_OTHERS = f"""
SELECT prompt_hash, model, sum(quality * weight) AS total, sum(weight) AS weight FROM requests r
CROSS JOIN LATERAL (SELECT least(quality_confidence / nullif(1.0 - quality_confidence, 0.0), 1.0) AS weight) AS counted
WHERE prompt_hash = ANY (%(hashes)s) AND user_id = %(user_id)s AND router_id = %(router_id)s
    AND status = 'completed' AND quality IS NOT NULL AND request_id <> ALL (%(ids)s)
    AND NOT {IS_FORGOTTEN.format("r")}
GROUP BY prompt_hash, model
"""  # noqa: S608  (own constants)

# A row that somebody rated since it was read keeps that, and is still pending for the next run.
_WRITE = """
UPDATE requests r SET quality = n.quality, quality_source = n.source, quality_confidence = n.confidence,
    checks_quality = n.checks, quality_pending = NULL
FROM unnest(%(ids)s::text[], %(qualities)s::float8[], %(sources)s::text[], %(confidences)s::float8[],
    %(checks)s::float8[], %(before)s::float8[], %(pending)s::bool[])
    AS n (request_id, quality, source, confidence, checks, before, pending)
WHERE r.user_id = %(user_id)s AND r.request_id = n.request_id
    AND r.quality IS NOT DISTINCT FROM n.before AND coalesce(r.quality_pending, false) = n.pending
"""


class PostgresRescoring:
    """Implements `modelpilot.learning.rescoring.RescoreRows`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, job: RescoreInput, state: JobState, until: Position | None, limit: int) -> OutcomePage:
        """The next rows of one user; of all users' jobs, the next user where these are through."""
        position = state.position
        user_id = position.user_id
        if job.all_users and not user_id:
            return await self._next_user("")
        params = {**selection(state.spec, user_id), **bounds(position, until), "below": state.sample_below}
        async with self._database.transaction(_PAGE_LIMIT_S) as connection:
            await connection.execute(READ_IN_ORDER)
            found = await (await connection.execute(_PAGE, {**params, "limit": limit})).fetchall()
        rows = tuple(_outcome(user_id, row) for row in found)
        last = rows[-1].position if rows else position
        if len(rows) == limit:
            return OutcomePage(rows, last, more=True)
        if not job.all_users:
            return OutcomePage(rows, last, more=False)
        following = await self._next_user(user_id)
        return OutcomePage(rows, following.next if following.more else last, following.more)

    async def _next_user(self, after: str) -> OutcomePage:
        row = await self._database.fetch_one(_NEXT_USER, (after,))
        user_id = row["user_id"] if row else None
        return OutcomePage((), Position(user_id or after), more=user_id is not None)

    async def totals(self, user_id: str, router_id: str, model: str) -> list[SourceTotal]:
        """What each source has said about a router and model within the window."""
        rows = await self._database.fetch_all(_TOTALS, (user_id, router_id, model, WINDOW_DAYS))
        return [SourceTotal(**row) for row in rows]

    async def point_updates(self, revisions: Sequence[Revision]) -> dict[HistoryScope, list[QualityUpdate]]:
        """What the points of these rows will be worth: means over all requests of the same prompt and model."""
        scopes: dict[HistoryScope, list[Revision]] = defaultdict(list)
        for revision in revisions:
            if revision.row.router_id:  # models called directly have no history
                scopes[revision.row.scope].append(revision)
        return {scope: await self._points(scope, revised) for scope, revised in scopes.items()}

    async def _points(self, scope: HistoryScope, revised: Sequence[Revision]) -> list[QualityUpdate]:
        sums: dict[tuple[str, str], tuple[float, float]] = {}
        for revision in revised:
            point = (revision.row.prompt_hash, revision.row.model)
            total, weight = sums.get(point, (0.0, 0.0))
            value, counts = (revision.quality.value, revision.quality.weight) if revision.quality else (0.0, 0.0)
            sums[point] = (total + value * counts, weight + counts)
        for row in await self._database.fetch_all(_OTHERS, _others(scope, revised)):
            point = (row["prompt_hash"], row["model"])
            if point in sums:
                total, weight = sums[point]
                sums[point] = (total + row["total"], weight + row["weight"])
        return [_update(prompt_hash, model, *known) for (prompt_hash, model), known in sums.items()]

    async def write(self, revisions: Sequence[Revision]) -> None:
        """Write the qualities and note the hours as stale, in one transaction."""
        users: dict[str, list[Revision]] = defaultdict(list)
        for revision in revisions:
            users[revision.row.user_id].append(revision)
        async with self._database.transaction(_PAGE_LIMIT_S) as connection:
            for user_id, revised in users.items():
                columns = _columns(revised)
                await connection.execute(_WRITE, {"user_id": user_id, **columns})
                await connection.execute(NOTE_REGRADED, {"user_id": user_id, "ids": columns["ids"]})
            hours = {int(revision.row.created_at // 3600) * 3600.0 for revision in revisions}
            await connection.execute(NOTE_STALE, {"hours": [moment(hour) for hour in sorted(hours)]})


def _outcome(user_id: str, row: DictRow) -> StoredOutcome:
    return StoredOutcome(
        user_id=user_id,
        request_id=row["request_id"],
        router_id=row["router_id"],
        model=row["model"],
        prompt_hash=row["prompt_hash"],
        created_at=row["created_at"].timestamp(),
        checks=row["checks_quality"],
        opinions=tuple(Opinion(*opinion) for opinion in row["opinions"] or ()),
        judge=row["judge"],
        quality=row["quality"],
        quality_source=row["quality_source"],
        pending=row["pending"],
        has_text=row["has_text"],
    )


def _others(scope: HistoryScope, revised: Sequence[Revision]) -> Mapping[str, Any]:
    return {
        "user_id": scope.user_id,
        "router_id": scope.router_id,
        "hashes": list({revision.row.prompt_hash for revision in revised}),
        "ids": [revision.row.request_id for revision in revised],
    }


def _update(prompt_hash: str, model: str, total: float, weight: float) -> QualityUpdate:
    return QualityUpdate(f"{prompt_hash}/{model}", model, total / weight if weight else None, weight)


def _columns(revised: Sequence[Revision]) -> dict[str, list[Any]]:
    qualities = [revision.quality for revision in revised]
    return {
        "ids": [revision.row.request_id for revision in revised],
        "qualities": [quality and quality.value for quality in qualities],
        "sources": [quality and quality.source for quality in qualities],
        "confidences": [quality and quality.confidence for quality in qualities],
        "checks": [revision.checks for revision in revised],
        "before": [revision.row.quality for revision in revised],
        "pending": [revision.row.pending for revision in revised],
    }
