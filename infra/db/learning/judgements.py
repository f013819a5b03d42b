"""Judgements in Postgres. The row is reserved and committed before the judge is called: at most one call for each."""

from infra.crypto.keyring import Keyring, associate
from infra.db.engine import Database
from infra.db.learning.rescore_sql import JUDGEABLE, READ_IN_ORDER, bounds, selection
from modelpilot.learning.judge import RETAKE_S, RUBRIC_VERSION, JudgeOutcome, JudgeSpent, JudgeTask
from modelpilot.learning.rescoring import JobState, RescoreInput

# Rows with a text may be rare among many without.
_FIND_LIMIT_S = 60.0

# Taken again: what failed in another job, and what was begun so long ago that its caller must have died.
_RESERVE = """
INSERT INTO judgements (user_id, request_id, judge_model, rubric, job_user_id, job_id, status, calls, estimated_usd,
    cost_usd)
VALUES (%(user_id)s, %(request_id)s, %(judge_model)s, %(rubric)s, %(job_user_id)s, %(job_id)s, 'started', 1,
    %(estimated_usd)s, 0)
ON CONFLICT (user_id, request_id, judge_model, rubric) DO UPDATE
SET status = 'started', calls = judgements.calls + 1, started_at = clock_timestamp(), finished_at = NULL,
    estimated_usd = excluded.estimated_usd, job_user_id = excluded.job_user_id, job_id = excluded.job_id
WHERE (judgements.status = 'failed' AND judgements.job_id <> excluded.job_id)
    OR (judgements.status = 'started' AND judgements.started_at < now() - make_interval(secs => %(retake_s)s))
RETURNING calls
"""

_RECORD = """
UPDATE judgements SET status = %(status)s, score = %(score)s, reason_encrypted = %(reason)b, error_type = %(error)s,
    cost_usd = cost_usd + coalesce(%(cost_usd)s, estimated_usd), finished_at = clock_timestamp()
WHERE user_id = %(user_id)s AND request_id = %(request_id)s AND judge_model = %(judge_model)s AND rubric = %(rubric)s
    AND job_user_id = %(job_user_id)s AND job_id = %(job_id)s AND status = 'started'
"""

_SPENT = """
SELECT coalesce(sum(cost_usd), 0) + coalesce(sum(estimated_usd) FILTER (WHERE status = 'started'), 0) AS cost_usd,
    coalesce(extract(epoch FROM clock_timestamp() - max(started_at)), 1e9)::float8 AS since_last_s
FROM judgements WHERE job_user_id = %s AND job_id = %s
"""


class PostgresJudgements:
    """Implements `modelpilot.learning.judge.JudgementLedger`. Reasons are encrypted: they may quote the text."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database, self._keyring = database, keyring

    async def tasks(self, job: RescoreInput, state: JobState, limit: int) -> list[JudgeTask]:
        """The next answers that this judge has not judged and whose text is stored."""
        user_id = job.user_id
        params = {
            **selection(state.spec, user_id),
            **bounds(state.position, None),
            **_names(job),
            "below": state.sample_below,
            "own_too": job.spec.allow_self_judging,
            "retake_s": RETAKE_S,
            "limit": limit,
        }
        async with self._database.transaction(_FIND_LIMIT_S) as connection:
            await connection.execute(READ_IN_ORDER)
            rows = await (await connection.execute(JUDGEABLE, params)).fetchall()
        return [JudgeTask(user_id, row["request_id"], row["created_at"].timestamp(), row["model"]) for row in rows]

    async def reserve(self, job: RescoreInput, task: JudgeTask, estimated_usd: float) -> bool:
        """Take the right to one call. Not repeated on a broken connection: it may have been committed."""
        params = {**_names(job), **_row(task), "estimated_usd": estimated_usd, "retake_s": RETAKE_S}
        return await self._database.fetch_one(_RESERVE, params, idempotent=False) is not None

    async def record(self, job: RescoreInput, task: JudgeTask, outcome: JudgeOutcome) -> None:
        """Write what the call came to, where this job still holds it."""
        verdict, reason = outcome.verdict, None
        if verdict is not None and verdict.reason:
            place = associate("reason", task.user_id, task.request_id, job.spec.judge_model or "")
            reason = self._keyring.encrypt(verdict.reason.encode("utf-8", "surrogatepass"), place)
        verdict_columns = {
            "status": "failed" if verdict is None else "done",
            "score": verdict and verdict.score,
            "reason": reason,
            "error": outcome.error_type,
            "cost_usd": outcome.cost_usd,
        }
        await self._database.fetch_all(_RECORD, {**_names(job), **_row(task), **verdict_columns})

    async def spent(self, job: RescoreInput) -> JudgeSpent:
        """What the job's calls have cost; those without an end count as estimated."""
        row = await self._database.fetch_one(_SPENT, (job.user_id, job.job_id))
        return JudgeSpent(row["cost_usd"], row["since_last_s"]) if row else JudgeSpent(0.0, 1e9)


def _names(job: RescoreInput) -> dict[str, str]:
    return {
        "judge_model": job.spec.judge_model or "",
        "rubric": RUBRIC_VERSION,
        "job_user_id": job.user_id,
        "job_id": job.job_id,
    }


def _row(task: JudgeTask) -> dict[str, str]:
    return {"user_id": task.user_id, "request_id": task.request_id}
