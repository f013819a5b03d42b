"""The rows that a closer feeds to Temporal: accepted requests whose workflows are not closed yet."""

from collections.abc import Sequence
from typing import Any

import structlog

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.ledger import open_place, payload_place
from infra.db.requests.rows import load_outcome
from modelpilot.requests.records import Backlog, OpenRequest, RequestKey

log = structlog.get_logger(__name__)

_ALIVE = "SELECT id FROM instances WHERE heartbeat_at > clock_timestamp() - make_interval(secs => %(lease_s)s)"

# What has ended, and what runs for so long that it should be seen running. Rows of a closer that is dead come back.
_CLAIM = f"""
WITH alive AS ({_ALIVE}), lost AS (
    SELECT user_id, request_id FROM open_requests
    WHERE closer IS NOT NULL AND closer NOT IN (SELECT id FROM alive) LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), due AS (
    SELECT user_id, request_id FROM open_requests
    WHERE closer IS NULL
        AND (ended_at IS NOT NULL OR accepted_at < clock_timestamp() - make_interval(secs => %(running_s)s))
    ORDER BY accepted_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE open_requests o SET closer = %(closer)s
FROM (SELECT * FROM lost UNION SELECT * FROM due) AS mine
WHERE o.user_id = mine.user_id AND o.request_id = mine.request_id
RETURNING o.user_id, o.request_id
"""  # noqa: S608  (own constants)

_LET_GO = "UPDATE open_requests SET closer = NULL WHERE closer = %(closer)s"

# `me`: only who has kept its own lease for so long believes that another one is dead (see `infra.db.requests.leases`).
_READ = f"""
WITH alive AS ({_ALIVE}), me AS (
    SELECT id FROM instances WHERE id = %(closer)s
        AND kept_since < clock_timestamp() - make_interval(secs => %(lease_s)s)
)
SELECT o.user_id, o.request_id, o.request, extract(epoch FROM o.accepted_at)::float8 AS accepted,
    o.handed_over_at IS NOT NULL AS handed_over,
    (o.owner IN (SELECT id FROM alive) OR NOT EXISTS (SELECT FROM me)) AS owner_alive, p.ciphertext,
    r.completed_at, r.prompt_hash
FROM unnest(%(users)s::text[], %(ids)s::text[]) AS mine (user_id, request_id)
JOIN open_requests o USING (user_id, request_id)
LEFT JOIN requests r ON r.user_id = o.user_id AND r.request_id = o.request_id
LEFT JOIN payloads p ON p.user_id = o.user_id AND p.request_id = o.request_id AND p.kind = 'outcome'
"""  # noqa: S608  (own constants)

_CHANGED = f"""
SELECT o.user_id, o.request_id FROM unnest(%(users)s::text[], %(ids)s::text[]) AS mine (user_id, request_id)
JOIN open_requests o USING (user_id, request_id)
WHERE o.ended_at IS NOT NULL OR o.handed_over_at IS NOT NULL OR o.owner NOT IN ({_ALIVE})
"""  # noqa: S608  (own constants)

_HAND_OVER = "UPDATE open_requests SET handed_over_at = clock_timestamp() WHERE user_id = %s AND request_id = %s"

# Bodies and outcomes expire so long after their request was closed: before, they may be needed for closing it.
_CLOSE = """
WITH closed AS (
    DELETE FROM open_requests o USING unnest(%(users)s::text[], %(ids)s::text[]) AS done (user_id, request_id)
    WHERE o.user_id = done.user_id AND o.request_id = done.request_id
    RETURNING o.user_id, o.request_id
)
UPDATE payloads p SET expires_at = now() + make_interval(secs => %(retention_s)s)
FROM closed c WHERE p.user_id = c.user_id AND p.request_id = c.request_id
"""

# A long backlog is estimated, and its oldest row looked for among those that no closer has: asked for every second,
# this must not grow with it. A standby answers as well, but takes nothing.
_BACKLOG = """
SELECT current_setting('transaction_read_only') = 'off' AS writable, rows,
    coalesce(extract(epoch FROM clock_timestamp() - CASE WHEN rows > 10000
        THEN (SELECT min(accepted_at) FROM open_requests WHERE closer IS NULL)
        ELSE (SELECT min(accepted_at) FROM open_requests) END), 0)::float8 AS age_s
FROM (SELECT CASE WHEN reltuples > 10000 THEN reltuples::bigint ELSE (SELECT count(*) FROM open_requests) END AS rows
    FROM pg_class WHERE oid = 'open_requests'::regclass) AS counted
"""

# Asked over and over, and by whoever wants to know whether Postgres is there.
_BACKLOG_WITHIN_S = 1.0

_FIND = """
SELECT owner, accepted_at, ended_at, handed_over_at, closer FROM open_requests WHERE user_id = %s AND request_id = %s
"""


class OpenRequests:
    """Implements `modelpilot.requests.ports.OpenRequests` for the process `closer`. Raises DependencyUnavailable."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        closer: str,
        *,
        lease_seconds: float = 15.0,
        running_seconds: float = 1.0,
        retention_hours: float = 24.0,
    ) -> None:
        self._database, self._keyring = database, keyring
        self._given = {"closer": closer, "lease_s": lease_seconds, "running_s": running_seconds}
        self._retention_s = retention_hours * 3_600.0

    async def claim(self, limit: int) -> list[RequestKey]:
        """Take up to `limit` rows that are due and nobody's; they stay this closer's as long as it lives."""
        rows = await self._database.fetch_all(_CLAIM, {**self._given, "limit": limit}, idempotent=False)
        return [RequestKey(row["user_id"], row["request_id"]) for row in rows]

    async def let_go(self) -> None:
        """Give back what was claimed and perhaps never heard of: a connection may break behind a claim's commit."""
        await self._database.fetch_all(_LET_GO, self._given)

    async def read(self, keys: Sequence[RequestKey]) -> list[OpenRequest]:
        """What the rows are now; those that are gone, or that cannot be read, are left out."""
        rows = await self._database.fetch_all(_READ, {**self._given, **_columns(keys)})
        found: list[OpenRequest] = []
        for row in rows:
            try:
                found.append(self._open_request(row))
            except Exception:  # one that nobody can read must not hold up the others
                log.exception("open_request_unreadable", request_id=row["request_id"])
        return found

    async def changed(self, keys: Sequence[RequestKey]) -> list[RequestKey]:
        """Which of the rows that ran when they were read have ended, were handed over, or lost their owner."""
        rows = await self._database.fetch_all(_CHANGED, {**self._given, **_columns(keys)})
        return [RequestKey(row["user_id"], row["request_id"]) for row in rows]

    async def note_handed_over(self, key: RequestKey) -> None:
        """A worker carries the workflow of this request from now on."""
        await self._database.fetch_all(_HAND_OVER, (key.user_id, key.request_id))

    async def close(self, keys: Sequence[RequestKey]) -> None:
        """Forget requests whose workflows are closed."""
        if keys:
            await self._database.fetch_all(_CLOSE, {**_columns(keys), "retention_s": self._retention_s})

    async def backlog(self) -> Backlog:
        """How many rows there are, and whether the server takes more."""
        row = await self._database.probe_one(_BACKLOG, _BACKLOG_WITHIN_S)
        return Backlog(int(row["rows"]), float(row["age_s"]), row["writable"]) if row else Backlog()

    async def find(self, key: RequestKey) -> dict[str, Any] | None:
        """The row for people, without its request; None where there is none."""
        return await self._database.fetch_one(_FIND, (key.user_id, key.request_id))

    def _open_request(self, row: dict[str, Any]) -> OpenRequest:
        key = RequestKey(row["user_id"], row["request_id"])
        sealed, outcome = row["ciphertext"], None
        if sealed is not None:
            outcome = load_outcome(self._keyring.decrypt(sealed, payload_place(key, "outcome")))
        return OpenRequest(
            key=key,
            request=self._keyring.decrypt(row["request"], open_place(key)),
            owner_alive=row["owner_alive"],
            handed_over=row["handed_over"],
            accepted_at=row["accepted"],
            outcome=outcome,
            completed_at=row["completed_at"].timestamp() if outcome is not None else 0.0,
            prompt_hash=row["prompt_hash"] or "",
        )


def _columns(keys: Sequence[RequestKey]) -> dict[str, list[str]]:
    return {"users": [key.user_id for key in keys], "ids": [key.request_id for key in keys]}
