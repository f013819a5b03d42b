"""What people and judges say about answers, in Postgres.

Feedback: the newest word of each source per request, and the quality that follows from it. Judgements: the row is
reserved and committed before the judge is called, so that each is called at most once.
"""

from typing import Any

from psycopg.rows import DictRow

from infra.crypto.keyring import Keyring, associate
from infra.db.engine import Connection, Database
from infra.db.learning.learners import NOTE_REGRADED
from infra.db.learning.rescore_sql import JUDGEABLE, READ_IN_ORDER, bounds, selection
from infra.db.metrics.aggregation import NOTE_STALE
from modelpilot.errors import Conflict, NotFound
from modelpilot.learning.feedback import Feedback, Rated
from modelpilot.learning.judge import RETAKE_S, RUBRIC_VERSION, JudgeOutcome, JudgeSpent, JudgeTask
from modelpilot.learning.quality import Evidence, Quality, combine
from modelpilot.learning.rescoring import JobState, RescoreInput
from modelpilot.requests.records import RequestKey

_ROUTER = "SELECT coalesce(router_id, '') AS router_id FROM requests WHERE user_id = %s AND request_id = %s"

# Locked, so that two who speak at once do not each compute a quality without the other.
_LOCK = """
SELECT status, coalesce(router_id, '') AS router_id, model, checks_quality, created_at
FROM requests WHERE user_id = %s AND request_id = %s FOR UPDATE
"""

_PUT = """
INSERT INTO feedback (user_id, request_id, api_key_id, source, router_id, model, score, comment_encrypted)
VALUES (%(user_id)s, %(request_id)s, %(api_key_id)s, %(source)s, %(router_id)s, %(model)s, %(score)s, %(comment)b)
ON CONFLICT (user_id, request_id, api_key_id, source) DO UPDATE
SET score = excluded.score, comment_encrypted = excluded.comment_encrypted, updated_at = clock_timestamp()
"""

_EVIDENCE = """
SELECT (SELECT avg(score) FROM feedback WHERE user_id = %(user_id)s AND request_id = %(request_id)s) AS feedback,
    (SELECT count(*) FROM feedback WHERE user_id = %(user_id)s AND request_id = %(request_id)s) AS voices,
    (SELECT avg(score) FROM judgements
     WHERE user_id = %(user_id)s AND request_id = %(request_id)s AND status = 'done') AS judge
"""

_REVISE = """
UPDATE requests SET quality = %(value)s, quality_source = %(source)s, quality_confidence = %(confidence)s,
    quality_pending = true
WHERE user_id = %(user_id)s AND request_id = %(request_id)s
"""


class PostgresFeedback:
    """Implements `modelpilot.learning.feedback.FeedbackStore`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database, self._keyring = database, keyring

    async def router_of(self, key: RequestKey) -> str | None:
        """The router of an ended request; "" for a model called directly, None where there is no such request."""
        row = await self._database.fetch_one(_ROUTER, (key.user_id, key.request_id))
        return None if row is None else str(row["router_id"])

    async def put(self, feedback: Feedback) -> Rated:
        """Store what a source says and revise the quality, in one transaction: no accepted word is missing from it."""
        key = feedback.key
        names = {"user_id": key.user_id, "request_id": key.request_id}
        async with self._database.transaction() as connection:
            request = await _one(connection, _LOCK, (key.user_id, key.request_id))
            if request is None:
                raise NotFound("There is no such request.")
            if request["status"] != "completed":
                raise Conflict("The request has no answer to rate.", param="requestId")
            about = {"router_id": request["router_id"], "model": request["model"]}
            await connection.execute(_PUT, {**names, **about, **self._row(feedback)})
            quality = await self._quality(connection, names, request["checks_quality"])
            revised = {"value": quality.value, "source": quality.source, "confidence": quality.confidence}
            await connection.execute(_REVISE, {**names, **revised})
            await connection.execute(NOTE_REGRADED, {"user_id": key.user_id, "ids": [key.request_id]})
            await connection.execute(NOTE_STALE, {"hours": [request["created_at"]]})
        return Rated(key.request_id, feedback.score, quality.value, quality.source)

    def _row(self, feedback: Feedback) -> dict[str, Any]:
        key, source, comment = feedback.key, "", None
        if feedback.end_user is not None:
            source = self._keyring.mac("end-user", associate(key.user_id, feedback.end_user)).hex()[:32]
        if feedback.comment is not None:
            place = associate("comment", key.user_id, key.request_id, feedback.api_key_id, source)
            comment = self._keyring.encrypt(feedback.comment.encode("utf-8", "surrogatepass"), place)
        return {"api_key_id": feedback.api_key_id, "source": source, "score": feedback.score, "comment": comment}

    async def _quality(self, connection: Connection, names: dict[str, str], checks: float | None) -> Quality:
        found = await _one(connection, _EVIDENCE, names) or {}
        evidence = Evidence(checks, found["feedback"], found["judge"], float(found["voices"]))
        quality = combine(evidence)
        if quality is None:  # there is feedback now, so somebody has said something
            raise RuntimeError("feedback without a quality")
        return quality


async def _one(connection: Connection, query: str, params: Any) -> DictRow | None:
    return await (await connection.execute(query, params)).fetchone()


# Rows with a text may be rare among many without.
_FIND_LIMIT_S = 60.0

# Taken again: what failed in another job, and what was begun so long ago that its caller must have died. The row is
# locked, so that its request is not erased meanwhile.
_RESERVE = """
INSERT INTO judgements (user_id, request_id, judge_model, rubric, job_user_id, job_id, status, calls, estimated_usd,
    cost_usd)
SELECT user_id, request_id, %(judge_model)s, %(rubric)s, %(job_user_id)s, %(job_id)s, 'started', 1, %(estimated_usd)s, 0
FROM requests WHERE user_id = %(user_id)s AND request_id = %(request_id)s FOR KEY SHARE
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
        return [JudgeTask(user_id, **{**row, "created_at": row["created_at"].timestamp()}) for row in rows]

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
