"""Feedback in Postgres: the newest word of each source per request, and the quality that follows from it."""

from typing import Any

from psycopg.rows import DictRow

from infra.crypto.keyring import Keyring, associate
from infra.db.engine import Connection, Database
from infra.db.metrics.aggregation import NOTE_STALE
from modelpilot.errors import Conflict, NotFound
from modelpilot.learning.feedback import Feedback, Rated
from modelpilot.learning.quality import Evidence, Quality, combine
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
