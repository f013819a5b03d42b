"""One request with its attempts and what was said about it."""

from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from modelpilot.metrics.requests import LoggedAttempt, LoggedRequest, Opinion, RequestDetail
from modelpilot.requests.records import RequestKey

# Through the owners, since the key begins with them: an id alone has no index.
_REQUEST: LiteralString = """
SELECT requests.* FROM users JOIN requests ON requests.user_id = users.id AND requests.request_id = %(request_id)s
WHERE (%(user_id)s::text IS NULL OR users.id = %(user_id)s) AND (%(owner)s::text IS NULL OR users.id = %(owner)s)
ORDER BY created_at DESC LIMIT 1"""

_ATTEMPTS: LiteralString = """
SELECT seq, model, provider, deployment, status, error_type, http_status, started_at, latency_ms, ttft_ms, cost_usd,
       input_tokens, output_tokens
FROM attempts WHERE user_id = %(user_id)s AND request_id = %(request_id)s ORDER BY seq"""

_FEEDBACK: LiteralString = """
SELECT source, score, updated_at FROM feedback WHERE user_id = %(user_id)s AND request_id = %(request_id)s
ORDER BY updated_at"""

_JUDGEMENTS: LiteralString = """
SELECT judge_model, rubric, status, score, coalesce(finished_at, started_at) AS at
FROM judgements WHERE user_id = %(user_id)s AND request_id = %(request_id)s ORDER BY 5"""

# Columns by the names of the fields.
LISTED = tuple(LoggedRequest.__dataclass_fields__)
_SAME = (
    "finish_reason", "error_status", "stream", "config_version", "api_key_id", "session_id", "tags", "propensity",
    "explored", "cached_tokens", "reasoning_tokens", "carbon_g", "quality_source", "quality_confidence", "decision",
)  # fmt: skip


def read_detail(
    connection: Connection[DictRow], user_id: str | None, request_id: str, owner: str | None
) -> RequestDetail | None:
    """The request, or None where this tenant (None: any) has none of this id."""
    given = {"user_id": user_id, "request_id": request_id, "owner": owner}
    row = connection.execute(_REQUEST, given).fetchone()
    if row is None:
        return None
    key = RequestKey(row["user_id"], row["request_id"])
    mine = {"user_id": key.user_id, "request_id": key.request_id}
    known: dict[str, Any] = {name: row[name] for name in _SAME}
    return RequestDetail(
        request=logged(row),
        workflow_id=key.workflow_id,
        completed_at=row["completed_at"].timestamp(),
        **known,
        attempts=tuple(_attempt(one) for one in connection.execute(_ATTEMPTS, mine).fetchall()),
        opinions=tuple(_opinions(connection, mine)),
    )


def logged(row: DictRow) -> LoggedRequest:
    """The part of a row that lists show."""
    values = {name: row[name] for name in LISTED}
    values["created_at"], values["degraded"] = row["created_at"].timestamp(), tuple(row["degraded"])
    return LoggedRequest(**values)


def _attempt(row: DictRow) -> LoggedAttempt:
    return LoggedAttempt(**{**row, "started_at": row["started_at"].timestamp()})


def _opinions(connection: Connection[DictRow], given: dict[str, str]) -> list[Opinion]:
    said = [
        Opinion("feedback of an end user" if row["source"] else "feedback", row["score"], row["updated_at"].timestamp())
        for row in connection.execute(_FEEDBACK, given).fetchall()
    ]
    return said + [
        Opinion(f"judged by {row['judge_model']} ({row['rubric']})", row["score"], row["at"].timestamp(), row["status"])
        for row in connection.execute(_JUDGEMENTS, given).fetchall()
    ]
