"""Re-scoring jobs in Postgres: their place in the order of rows is the truth that survives every crash."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.db.engine import Connection, Database
from infra.db.learning.rescore_sql import COUNT, LAST_NIGHT, MARK_RATED, SAMPLE, selection
from infra.db.management.paging import newest_first
from infra.db.requests.rows import moment, seconds
from modelpilot.errors import NotFound
from modelpilot.learning.rescoring import CloseInput, JobState, Position, RescoreInput, RescoreProgress, RescoreSpec
from modelpilot.management.resources import Page

# Counting may look at every row of a tenant.
_COUNT_LIMIT_S = 120.0
# A row may be written so long after the request that it belongs to has begun.
_LATE_S = 3_600.0

_WITH_COSTS = """
SELECT j.*, costs.judged, costs.judge_cost_usd FROM {found} j
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'done') AS judged,
        coalesce(sum(cost_usd), 0) + coalesce(sum(estimated_usd) FILTER (WHERE status = 'started'), 0) AS judge_cost_usd
    FROM judgements WHERE job_user_id = j.user_id AND job_id = j.id
) AS costs
"""

_SELECT = _WITH_COSTS.format(found="rescore_jobs")
_GET = f"{_SELECT} WHERE user_id = %s AND id = %s"

_ADD = """
INSERT INTO rescore_jobs
    (user_id, id, workflow_id, status, paused, spec, total, done, scored, cursor_user, cursor_id)
VALUES (%s, %s, %s, 'running', false, %s, 0, 0, 0, %s, '')
ON CONFLICT DO NOTHING
"""

# Once: a repeated opening must not count rows that came after the sample was drawn.
_OPEN = """
UPDATE rescore_jobs SET total = %(total)s, sample_below = %(below)s, spec = %(spec)s
WHERE user_id = %(user_id)s AND id = %(id)s AND done = 0 AND cursor_at IS NULL
"""

# Moved from exactly where the caller found it, so that a page is counted once, whoever repeats it.
_ADVANCE = """
UPDATE rescore_jobs SET cursor_user = %(to_user)s, cursor_at = %(to_at)s, cursor_id = %(to_id)s,
    done = done + %(done)s, scored = scored + %(scored)s
WHERE user_id = %(user_id)s AND id = %(id)s AND cursor_user = %(from_user)s
    AND cursor_at IS NOT DISTINCT FROM %(from_at)s AND cursor_id = %(from_id)s
"""

_STOP_JUDGING = "UPDATE rescore_jobs SET judge_stopped = %s WHERE user_id = %s AND id = %s"
_PAUSE = "UPDATE rescore_jobs SET paused = %s WHERE user_id = %s AND id = %s AND status = 'running'"
_CLOSE = """
UPDATE rescore_jobs SET status = %s, error = %s, paused = false, finished_at = clock_timestamp()
WHERE user_id = %s AND id = %s AND status = 'running'
"""


class PostgresRescoreJobs:
    """Implements `modelpilot.learning.rescoring.RescoreJobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, job: RescoreInput, workflow_id: str) -> None:
        """Make the job, unless it is there."""
        params = (job.user_id, job.job_id, workflow_id, Jsonb(asdict(job.spec)), "" if job.all_users else job.user_id)
        await self._database.fetch_all(_ADD, params)

    async def open(self, job: RescoreInput, workflow_id: str) -> JobState:
        """Make the job, count its rows and draw its sample, once."""
        await self.add(job, workflow_id)
        async with self._database.connection(_COUNT_LIMIT_S) as connection:
            spec = await _since_last_night(connection, job) if job.nightly else job.spec
            params, below = selection(spec, None if job.all_users else job.user_id), None
            if spec.sample_size is not None:
                cursor = await connection.execute(SAMPLE, {**params, "size": spec.sample_size})
                below = (await cursor.fetchone() or {})["below"]
            counted = await (await connection.execute(COUNT, {**params, "below": below})).fetchone()
            total = counted["rows"] if counted else 0
            names = {"user_id": job.user_id, "id": job.job_id, "spec": Jsonb(asdict(spec))}
            await connection.execute(_OPEN, {**names, "total": total, "below": below})
        return await self.job(job.user_id, job.job_id)

    async def job(self, user_id: str, job_id: str) -> JobState:
        """The job as it is now. Raises NotFound."""
        row = await self._database.fetch_one(_GET, (user_id, job_id))
        if row is None:
            raise NotFound("There is no such job.")
        return _state(row)

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[JobState]:
        """The user's jobs, newest first."""
        return await newest_first(self._database, _SELECT, user_id, cursor, limit, _state)

    async def advance(self, state: JobState, to: Position, done: int, scored: int) -> JobState:
        """Move the position and add to the counts, unless the job is not at `state.position` any more."""
        params = {"user_id": state.user_id, "id": state.id, "done": done, "scored": scored}
        await self._database.fetch_all(_ADVANCE, {**params, **_place("from", state.position), **_place("to", to)})
        return await self.job(state.user_id, state.id)

    async def stop_judging(self, user_id: str, job_id: str, reason: str) -> None:
        """Note why judging ended early."""
        await self._database.fetch_all(_STOP_JUDGING, (reason, user_id, job_id))

    async def set_paused(self, user_id: str, job_id: str, *, paused: bool) -> None:
        """Note whether the job waits; one that has ended does not."""
        await self._database.fetch_all(_PAUSE, (paused, user_id, job_id))

    async def close(self, close: CloseInput) -> JobState:
        """Write how the job ended; the first end stands."""
        job = close.job
        await self._database.fetch_all(_CLOSE, (close.status, close.error, job.user_id, job.job_id))
        return await self.job(job.user_id, job.job_id)


async def _since_last_night(connection: Connection, job: RescoreInput) -> RescoreSpec:
    """The job's rows without those that the last night has looked at, unless something was said since."""
    found = await (await connection.execute(LAST_NIGHT, (job.user_id,))).fetchone()
    first_s, last_s = job.spec.from_s or 0.0, found["until"] if found else None
    if last_s is None or last_s - _LATE_S <= first_s:
        return job.spec
    since_s: float = last_s - _LATE_S
    await connection.execute(MARK_RATED, {"from": moment(first_s), "since": moment(since_s)})
    return replace(job.spec, from_s=since_s)


def _place(name: str, position: Position) -> dict[str, Any]:
    at = None if position.created_at is None else moment(position.created_at)
    return {f"{name}_user": position.user_id, f"{name}_at": at, f"{name}_id": position.request_id}


def _state(row: DictRow) -> JobState:
    created: datetime = row["created_at"]
    spec = dict(row["spec"])
    spec["sources"] = tuple(spec["sources"])
    return JobState(
        user_id=row["user_id"],
        id=row["id"],
        workflow_id=row["workflow_id"],
        status=row["status"],
        paused=row["paused"],
        spec=RescoreSpec(**spec),
        progress=RescoreProgress(row["done"], row["total"], row["scored"], row["judge_stopped"]),
        position=Position(row["cursor_user"], seconds(row["cursor_at"]), row["cursor_id"]),
        sample_below=row["sample_below"],
        judged=row["judged"],
        judge_cost_usd=row["judge_cost_usd"],
        created_at=created.timestamp(),
        finished_at=seconds(row["finished_at"]),
        error=row["error"],
    )
