"""Requests are erased: what was said goes, and who said it; what it cost stays, as numbers under a made-up id.

The bill needs the row: hourly sums are made of raw rows, and both have to go on adding up. So its id, its end user,
session, tags, prompt hash and decision go, with its payloads, texts, names, feedback and its share of the vector
history, and the encrypted messages of its attempts; model, router, key, tokens, times and money stay. Rows of a deleted
tenant go to a made-up owner.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from infra.db.engine import Connection
from infra.db.metrics.aggregation import NOTE_STALE
from infra.db.requests.forgetting import ID_HASH, have_recounted
from modelpilot.requests.records import HistoryScope

# Locked, so that nobody rates, judges or scores what is being erased. Whose workflow is not closed is left alone.
_LOCK = """
SELECT r.user_id, r.request_id, r.router_id, r.model, r.prompt_hash, r.created_at FROM requests r
WHERE r.user_id = %(user_id)s AND r.request_id = ANY(%(ids)s) AND r.erased_at IS NULL
    AND NOT EXISTS (SELECT FROM open_requests o WHERE o.user_id = r.user_id AND o.request_id = r.request_id)
ORDER BY r.request_id FOR UPDATE OF r
"""

_NAMED = "unnest(%(ids)s::text[], %(new_ids)s::text[]) AS n (request_id, new_id)"
_OF_NAMED = "{0}.user_id = %(user_id)s AND {0}.request_id = n.request_id"
_MARK = f"""
INSERT INTO erased_requests (id_hash, user_id, router_id, request_id, created_at)
SELECT {ID_HASH.format("r")}, r.user_id, r.router_id, r.request_id, r.created_at FROM requests r
WHERE r.user_id = %(user_id)s AND r.request_id = ANY(%(ids)s)
ON CONFLICT DO NOTHING
"""  # noqa: S608  (own constants)
_BLANK = f"""
UPDATE requests r SET user_id = %(to_user)s, request_id = n.new_id, prompt_hash = '', decision = '{{}}', tags = '{{}}',
    session_id = NULL, end_user = NULL, quality_pending = NULL, erased_at = clock_timestamp()
FROM {_NAMED} WHERE {_OF_NAMED.format("r")}
"""  # noqa: S608  (own constants)
_BLANK_CALLS = f"""
UPDATE attempts a SET user_id = %(to_user)s, request_id = n.new_id, message_encrypted = NULL
FROM {_NAMED} WHERE {_OF_NAMED.format("a")}
"""  # noqa: S608  (own constants)
# What judging cost counts against the budget of its job.
_BLANK_VERDICTS = f"""
UPDATE judgements j SET user_id = %(to_user)s, request_id = n.new_id, reason_encrypted = NULL
FROM {_NAMED} WHERE {_OF_NAMED.format("j")}
"""  # noqa: S608  (own constants)
# One that a worker is just storing is waited for.
_DROP_POINTS = "DELETE FROM outbox WHERE user_id = %(user_id)s AND point ->> 'request_id' = ANY(%(ids)s)"
_GONE = tuple(
    f"DELETE FROM {table} WHERE user_id = %(user_id)s AND request_id = ANY(%(ids)s)"  # noqa: S608  (own constants)
    for table in ("payloads", "stored_texts", "feedback", "request_names", "claims", "regrades")
)


async def erase(connection: Connection, user_id: str, ids: Sequence[str], to_user: str | None = None) -> list[str]:
    """Erase those of the requests that are closed, within a transaction; the made-up ids of their rows.

    `to_user`: who has these from now on, where that is another than their owner.
    """
    rows = await (await connection.execute(_LOCK, {"user_id": user_id, "ids": list(ids)})).fetchall()
    if not rows:
        return []
    found = [row["request_id"] for row in rows]
    new_ids = [f"erased-{secrets.token_hex(16)}" for _ in found]
    given = {"user_id": user_id, "ids": found, "new_ids": new_ids, "to_user": to_user or user_id}
    for statement in (_MARK, _BLANK, _BLANK_CALLS, _BLANK_VERDICTS, _DROP_POINTS, *_GONE):
        await connection.execute(statement, given)
    points: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        if row["router_id"] and row["prompt_hash"]:
            points.setdefault(row["router_id"], set()).add((row["prompt_hash"], row["model"]))
    for router_id, of_router in points.items():
        await have_recounted(connection, HistoryScope(user_id, router_id), sorted(of_router))
    # Tags and users may have sums of their own, and files of the warehouse have the whole row.
    await connection.execute(NOTE_STALE, {"hours": [row["created_at"] for row in rows]})
    return new_ids


# Decisions name the nearest past requests. A day at a time, so that no statement looks at more.
_NAMES = """
SELECT user_id, coalesce(router_id, '') AS router_id, array_agg(request_id) AS ids, min(created_at) AS since
FROM (SELECT * FROM erased_requests e
      WHERE request_id IS NOT NULL AND NOT EXISTS (
          SELECT FROM outbox o WHERE o.user_id = e.user_id AND o.point ->> 'recount' = e.router_id)
      ORDER BY user_id, router_id LIMIT %s) AS next
GROUP BY 1, 2
"""
_DAYS = """
SELECT day FROM generate_series(%(since)s::timestamptz - interval '1 hour', clock_timestamp(), interval '1 day') AS day
"""
_UNNAME = """
UPDATE requests r SET decision = jsonb_set(decision, '{neighbours}', coalesce(
    (SELECT jsonb_agg(n ORDER BY place)
     FROM jsonb_array_elements(decision -> 'neighbours') WITH ORDINALITY AS e (n, place)
     WHERE n ->> 'requestId' <> ALL (%(ids)s)), '[]'))
WHERE r.user_id = %(user_id)s AND r.router_id = %(router_id)s
    AND r.created_at >= %(day)s AND r.created_at < %(day)s::timestamptz + interval '1 day'
    AND jsonb_typeof(decision -> 'neighbours') = 'array'
    AND EXISTS (SELECT FROM jsonb_array_elements(decision -> 'neighbours') AS n WHERE n ->> 'requestId' = ANY (%(ids)s))
"""
_UNNAMED = """
UPDATE erased_requests SET user_id = NULL, router_id = NULL, request_id = NULL, created_at = NULL
WHERE user_id = %(user_id)s AND request_id = ANY (%(ids)s)
"""


async def names_left(connection: Connection, limit: int) -> Sequence[dict[str, Any]]:
    """Erased requests, by owner and router, that decisions may name; those whose points are gone by now."""
    return await (await connection.execute(_NAMES, (limit,))).fetchall()


async def unname(connection: Connection, named: dict[str, Any]) -> None:
    """Take these requests out of the decisions that name them. May be repeated; committed bit by bit."""
    days = await (await connection.execute(_DAYS, named)).fetchall()
    for day in days:
        await connection.execute(_UNNAME, {**named, **day})
    await connection.execute(_UNNAMED, named)
