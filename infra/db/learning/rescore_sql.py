"""The rows that a re-scoring job is about, as SQL: one condition, used to count, to sample, to page and to judge."""

from typing import Any, LiteralString

from infra.db.requests.forgetting import IS_FORGOTTEN
from infra.db.requests.rows import moment
from modelpilot.learning.rescoring import Position, RescoreSpec

# What was erased, or learnt for a router or model that was deleted, is no evidence any more.
_WHICH = f"""
    r.status = 'completed' AND r.erased_at IS NULL AND NOT {IS_FORGOTTEN.format("r")}
    AND (%(router_id)s::text IS NULL OR r.router_id = %(router_id)s)
    AND (%(model)s::text IS NULL OR r.model = %(model)s)
    AND r.created_at < %(to)s
    AND r.purpose = 'request'
    AND (%(below)s::bigint IS NULL OR hashtextextended(r.request_id, 0) <= %(below)s)
"""
_RECENT = "r.created_at >= %(from)s"
# Older ones whose quality changed without the vector history being told: a small partial index finds them.
_PENDING = "%(include_pending)s AND r.quality_pending AND r.created_at < %(from)s"
# Always both bounds: behind an OR, Postgres would read every page's index from its beginning.
_BEHIND = """
    (r.created_at, r.request_id) > (%(at)s::timestamptz, %(id)s::text)
    AND (r.created_at, r.request_id) <= (%(until_at)s::timestamptz, %(until_id)s::text)
"""
# For each page: Postgres expects few rows where user, model and time go together, and would rather read and sort all
# that are left than read the index in order up to the page's end, which makes the work grow with its square.
READ_IN_ORDER: LiteralString = "SET LOCAL enable_sort = off"
_OWN = "(%(user_id)s::text IS NULL OR r.user_id = %(user_id)s)"

COUNT = f"""
SELECT (SELECT count(*) FROM requests r WHERE {_OWN} AND {_WHICH} AND {_RECENT})
    + (SELECT count(*) FROM requests r WHERE {_OWN} AND {_WHICH} AND {_PENDING}) AS rows
"""  # noqa: S608  (own constants)

# Hashes of random ids are a random order: the rows up to the size-th smallest hash are a sample of exactly this size.
SAMPLE = f"""
SELECT max(hash) AS below FROM (
    SELECT hashtextextended(r.request_id, 0) AS hash FROM requests r
    WHERE {_OWN} AND {_WHICH} AND ({_RECENT} OR {_PENDING})
    ORDER BY hash LIMIT %(size)s) AS drawn
"""  # noqa: S608  (own constants)

# Two ordered parts, each read from its own index, merged.
KEYS = f"""
SELECT request_id, created_at FROM (
    (SELECT r.request_id, r.created_at FROM requests r
     WHERE r.user_id = %(user_id)s AND {_WHICH} AND {_RECENT} AND {_BEHIND}
     ORDER BY r.created_at, r.request_id LIMIT %(limit)s)
    UNION ALL
    (SELECT r.request_id, r.created_at FROM requests r
     WHERE r.user_id = %(user_id)s AND {_WHICH} AND {_PENDING} AND {_BEHIND}
     ORDER BY r.created_at, r.request_id LIMIT %(limit)s)
) AS keys
ORDER BY created_at, request_id LIMIT %(limit)s
"""  # noqa: S608  (own constants)

# A verdict that another job is waiting for is left to it, until its call must have ended.
JUDGEABLE = f"""
SELECT r.request_id, r.created_at, r.model, r.tags, r.end_user, r.session_id FROM requests r
WHERE r.user_id = %(user_id)s AND {_WHICH} AND ({_RECENT} OR {_PENDING}) AND {_BEHIND}
    AND (%(own_too)s OR r.model <> %(judge_model)s)
    AND EXISTS (SELECT FROM stored_texts t
        WHERE t.user_id = r.user_id AND t.request_id = r.request_id AND t.expires_at > now())
    AND NOT EXISTS (SELECT FROM judgements j
        WHERE j.user_id = r.user_id AND j.request_id = r.request_id
            AND j.judge_model = %(judge_model)s AND j.rubric = %(rubric)s
            AND (j.status = 'done' OR (j.job_user_id = %(job_user_id)s AND j.job_id = %(job_id)s)
                OR (j.status = 'started' AND j.started_at > now() - make_interval(secs => %(retake_s)s))))
ORDER BY r.created_at, r.request_id LIMIT %(limit)s
"""  # noqa: S608  (own constants)

# Until when the last nightly job that reached its end has looked at all rows; only nightly ones look at pending rows.
LAST_NIGHT = """
SELECT max((spec ->> 'to_s')::float8) AS until FROM rescore_jobs
WHERE user_id = %s AND status = 'completed' AND (spec ->> 'include_pending')::boolean
"""

# What others say changes how much a rating counts: rated rows of routers and models that were rated since are due.
MARK_RATED = """
WITH heard AS (SELECT DISTINCT user_id, router_id, model FROM feedback WHERE updated_at >= %(since)s)
UPDATE requests r SET quality_pending = true FROM feedback f JOIN heard USING (user_id, router_id, model)
WHERE r.user_id = f.user_id AND r.request_id = f.request_id AND r.status = 'completed'
    AND r.created_at >= %(from)s AND r.created_at < %(since)s AND r.quality_pending IS NULL
"""


def selection(spec: RescoreSpec, user_id: str | None) -> dict[str, Any]:
    """The parameters of the condition; `user_id` None: of all users."""
    return {
        "user_id": user_id,
        "router_id": spec.router_id,
        "model": spec.model,
        "from": moment(spec.from_s or 0.0),
        "to": moment(spec.to_s if spec.to_s is not None else float("inf")),
        "include_pending": spec.include_pending,
        "below": None,
    }


def bounds(behind: Position, until: Position | None) -> dict[str, Any]:
    """The parameters of the place in a user's rows: after `behind`, up to and including `until` (None: the last)."""
    last = until or Position(created_at=float("inf"))
    return {
        "at": moment(behind.created_at or 0.0),
        "id": behind.request_id,
        "until_at": moment(last.created_at or 0.0),
        "until_id": last.request_id,
    }
