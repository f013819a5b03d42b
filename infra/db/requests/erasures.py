"""Erasures in Postgres: one request now, or jobs for an end user or a tenant, which go on behind every crash because
what they have erased is not found again."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.rows import DictRow

from infra.crypto.keyring import Keyring, associate
from infra.db.engine import Connection, Database
from infra.db.management.changes import Change, changing
from infra.db.management.paging import newest_first
from infra.db.metrics.dimensions import forget_value
from infra.db.requests.erasure import erase, names_left, unname
from infra.db.requests.forgetting import forget_history
from infra.db.requests.rows import clean_text, seconds
from modelpilot.chat.body import MAX_TAG_VALUE
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.resources import OPERATOR_USER, Page
from modelpilot.requests.erasure import (
    EraseClose,
    EraseInput,
    EraseProgress,
    Erasure,
    ErasureKind,
    Forgotten,
    RequestState,
)
from modelpilot.requests.records import RequestKey

# A batch deletes from a dozen tables, and may wait for the worker that stores points of its requests.
_BATCH_LIMIT_S = 60.0
_UNNAME_LIMIT_S = 600.0

_STATE = """
SELECT EXISTS (SELECT FROM requests WHERE user_id = %(user_id)s AND request_id = %(request_id)s AND erased_at IS NULL)
        AS ended,
    EXISTS (SELECT FROM open_requests WHERE user_id = %(user_id)s AND request_id = %(request_id)s) AS open
"""
_ADD = """
INSERT INTO erasures (user_id, id, kind, tenant, subject, status, begun, total, done)
VALUES (%(user_id)s, %(id)s, %(kind)s, %(tenant)s, %(subject)b, 'running', false, 0, 0) RETURNING *
"""
_LIST = "SELECT * FROM erasures"
_GET = f"{_LIST} WHERE user_id = %s AND id = %s"
_MINE = f"{_GET} FOR UPDATE"

_WHOSE = """
    r.user_id = %(tenant)s AND r.erased_at IS NULL AND (%(end_user)s::text IS NULL OR r.end_user = %(end_user)s)
"""
_IS_OPEN = "EXISTS (SELECT FROM open_requests o WHERE o.user_id = r.user_id AND o.request_id = r.request_id)"
_COUNT = f"SELECT count(*) AS rows FROM requests r WHERE {_WHOSE}"  # noqa: S608  (own constants)
_OPEN = """
UPDATE erasures SET begun = true, total = greatest(total, done + %s) WHERE user_id = %s AND id = %s RETURNING *
"""
_DUE = f"SELECT r.request_id FROM requests r WHERE {_WHOSE} AND NOT {_IS_OPEN} LIMIT %(limit)s"  # noqa: S608
_DONE = """
UPDATE erasures SET done = done + %s, total = greatest(total, done + %s) WHERE user_id = %s AND id = %s RETURNING *
"""
# Who asks is not in a running request's row: all of the tenant's that came before the job did are waited for. They are
# committed while their providers are called, hence a moment later than they came.
_WAITS = f"""
SELECT EXISTS (SELECT FROM open_requests WHERE user_id = %(tenant)s AND accepted_at < %(until)s)
    OR EXISTS (SELECT FROM requests r WHERE {_WHOSE}) OR clock_timestamp() < %(until)s AS waits
"""  # noqa: S608  (own constants)
_UNTIL = "SELECT created_at + interval '1 second' AS until FROM erasures WHERE user_id = %s AND id = %s"
_CLOSE = """
UPDATE erasures SET status = %s, error = %s, subject = CASE WHEN %s THEN subject END,
    tenant = CASE WHEN kind = 'tenant' AND NOT %s THEN '' ELSE tenant END, finished_at = clock_timestamp()
WHERE user_id = %s AND id = %s
"""
_WAITING = """
SELECT user_id, id FROM erasures WHERE status = 'running' AND NOT begun AND created_at < now() - interval '5 seconds'
"""

# What an end user said about answers to others. The rows' quality is worked out anew at night.
_FORGET_VOICE = """
WITH gone AS (DELETE FROM feedback WHERE user_id = %(tenant)s AND source = %(source)s RETURNING user_id, request_id)
UPDATE requests r SET quality_pending = true FROM gone
WHERE r.user_id = gone.user_id AND r.request_id = gone.request_id AND r.status = 'completed'
"""

# A tenant's configuration. What it changed stays in the audit log, which nobody changes.
_TENANT = "SELECT operator FROM users WHERE id = %s FOR UPDATE"
_DELETE_TENANT = (
    *(
        f"DELETE FROM {table} WHERE user_id = %(tenant)s"  # noqa: S608  (own constants)
        for table in ("routers", "router_versions", "models", "providers", "api_keys", "site_users", "dimensions")
    ),
    "DELETE FROM users WHERE id = %(tenant)s",
)
# Hours that are final keep their sums; the others are computed anew from rows that have their made-up owner by now.
_SUMS = (
    "hourly_metrics", "hourly_baselines", "hourly_totals", "hourly_baseline_totals", "hourly_dimensions",
    "hourly_dimension_totals",
)  # fmt: skip
_MOVE_SUMS = tuple(
    f"""UPDATE {table} SET user_id = %(to_user)s
    WHERE user_id = %(tenant)s AND hour < (SELECT through FROM metric_progress WHERE name = 'closed')"""  # noqa: S608
    for table in _SUMS
)
_NOTE_HOURS = """
INSERT INTO stale_hours (hour, reason) SELECT DISTINCT hour, 'revised' FROM hourly_metrics WHERE user_id = %(tenant)s
"""
_KEYED = (
    "regrades",
    "rescore_jobs",
    "request_names",
    "payloads",
    "claims",
    "stored_texts",
    "feedback",
    "judgements",
    "attempts",
)
_FORGET_TENANT = (
    *(f"DELETE FROM {table} WHERE user_id = %(tenant)s" for table in _KEYED),  # noqa: S608  (own constants)
    "DELETE FROM judgements WHERE job_user_id = %(tenant)s",
)


class PostgresErasures:
    """Implements `modelpilot.requests.erasure.ErasureStore`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database, self._keyring = database, keyring

    async def state(self, key: RequestKey) -> RequestState:
        """Whether the request is unknown, runs (or its workflow is not closed yet), or is closed."""
        row = await self._database.fetch_one(_STATE, {"user_id": key.user_id, "request_id": key.request_id})
        if row is None or not (row["ended"] or row["open"]):
            return "unknown"
        return "open" if row["open"] else "closed"

    async def erase(self, key: RequestKey, actor: str) -> bool:
        """Erase a closed request, in one transaction; False where there is none (any more). The audit log has its
        made-up id."""
        async with self._database.transaction(_BATCH_LIMIT_S) as connection:
            new_ids = await erase(connection, key.user_id, [key.request_id])
            for new_id in new_ids:
                await Change(connection, "request", key.user_id, new_id).done("erase", actor, None, None)
        return bool(new_ids)

    async def add(self, user_id: str, kind: ErasureKind, subject: str, actor: str) -> Erasure:
        """Make a job; a tenant's keys and configuration go at once, so that nobody works for it any more."""
        job_id = f"erase-{secrets.token_hex(8)}"
        tenant = subject if kind == "tenant" else user_id
        sealed = self._keyring.encrypt(subject.encode("utf-8", "surrogatepass"), _place(user_id, job_id))
        given = {"user_id": user_id, "id": job_id, "kind": kind, "tenant": tenant, "subject": sealed}
        async with changing(self._database, "user", tenant, tenant) as change:
            if kind == "tenant":
                await _delete_tenant(change)
            row = await (await change.connection.execute(_ADD, given)).fetchone()
            if kind == "tenant":
                await change.done("delete", actor, {"id": tenant}, None)
            else:
                await Change(change.connection, "erasure", user_id, job_id).done("create", actor, None, {"of": kind})
        return _erasure(row or {})

    async def job(self, user_id: str, job_id: str) -> Erasure:
        """The job as it is now. Raises NotFound."""
        return _erasure(await self._row(user_id, job_id))

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[Erasure]:
        """The user's jobs, newest first."""
        return await newest_first(self._database, _LIST, user_id, cursor, limit, _erasure)

    async def open(self, job: EraseInput) -> EraseProgress:
        """Take the job up: count its requests."""
        whose = self._whose(await self._row(job.user_id, job.job_id))
        counted = await self._database.fetch_one(_COUNT, whose)
        total = counted["rows"] if counted else 0
        row = await self._database.fetch_one(_OPEN, (total, job.user_id, job.job_id))
        return _progress(row or {"done": 0, "total": total})

    async def due(self, job: EraseInput, limit: int) -> Sequence[RequestKey]:
        """The next closed requests of the job."""
        whose = self._whose(await self._row(job.user_id, job.job_id))
        rows = await self._database.fetch_all(_DUE, {**whose, "limit": limit})
        return [RequestKey(whose["tenant"], row["request_id"]) for row in rows]

    async def erase_batch(self, job: EraseInput, keys: Sequence[RequestKey]) -> EraseProgress:
        """Erase these, and count them, in one transaction."""
        async with self._database.transaction(_BATCH_LIMIT_S) as connection:
            row = await (await connection.execute(_MINE, (job.user_id, job.job_id))).fetchone()
            if row is None or row["status"] != "running":
                raise NotFound("There is no such job.")
            to_user = _made_up(job) if row["kind"] == "tenant" else None
            gone = len(await erase(connection, row["tenant"], [key.request_id for key in keys], to_user))
            done = await (await connection.execute(_DONE, (gone, gone, job.user_id, job.job_id))).fetchone()
        return _progress(done or row)

    async def waits(self, job: EraseInput) -> bool:
        """Whether requests that the job is about may still run."""
        whose = self._whose(await self._row(job.user_id, job.job_id))
        until = await self._database.fetch_one(_UNTIL, (job.user_id, job.job_id))
        row = await self._database.fetch_one(_WAITS, {**whose, **(until or {})})
        return row is not None and bool(row["waits"])

    async def close(self, close: EraseClose) -> EraseProgress:
        """What is left of the job's subject besides requests goes, and its name; write how the job ended. One that
        failed keeps the name, so that somebody can see to it."""
        job, failed = close.job, close.status == "failed"
        async with self._database.transaction(_BATCH_LIMIT_S) as connection:
            row = await (await connection.execute(_MINE, (job.user_id, job.job_id))).fetchone()
            if row is None:
                raise NotFound("There is no such job.")
            if row["status"] == "running":
                await self._finish(connection, job, row)
                await connection.execute(_CLOSE, (close.status, close.error, failed, failed, job.user_id, job.job_id))
        return _progress(row)

    async def _finish(self, connection: Connection, job: EraseInput, row: DictRow) -> None:
        whose = self._whose(row)
        if row["kind"] == "end_user":
            place = associate(row["tenant"], self._name(row))
            source = self._keyring.mac("end-user", place).hex()[:32]
            await connection.execute(_FORGET_VOICE, {**whose, "source": source})
            if whose["end_user"]:
                await forget_value(connection, row["tenant"], "userId", whose["end_user"])
            return
        for statement in (*_MOVE_SUMS, _NOTE_HOURS, *_FORGET_TENANT):
            await connection.execute(statement, {**whose, "to_user": _made_up(job)})

    async def waiting(self) -> Sequence[EraseInput]:
        """Jobs that no worker has taken up for a while."""
        return [EraseInput(row["user_id"], row["id"]) for row in await self._database.fetch_all(_WAITING)]

    async def unname(self, limit: int = 1_000) -> int:
        """Take erased requests, up to `limit`, out of the decisions that name them; of how many routers."""
        async with self._database.connection(_UNNAME_LIMIT_S) as connection:
            found = await names_left(connection, limit)
            for named in found:
                await unname(connection, named)
        return len(found)

    async def _row(self, user_id: str, job_id: str) -> DictRow:
        row = await self._database.fetch_one(_GET, (user_id, job_id))
        if row is None:
            raise NotFound("There is no such job.")
        return row

    def _whose(self, row: DictRow) -> dict[str, Any]:
        """The parameters of the condition on a job's requests."""
        if row["kind"] == "tenant":
            return {"tenant": row["tenant"], "end_user": None}
        # A job that has ended has no name any more, and "" is nobody's.
        # Rows have a name as far as it can be stored, and not longer than other tags.
        return {"tenant": row["tenant"], "end_user": clean_text(self._name(row))[:MAX_TAG_VALUE]}

    def _name(self, row: DictRow) -> str:
        if row["subject"] is None:
            return ""
        place = _place(row["user_id"], row["id"])
        return self._keyring.decrypt(row["subject"], place).decode("utf-8", "surrogatepass")


async def _delete_tenant(change: Change) -> None:
    """Raises NotFound, Conflict."""
    tenant = change.subject
    found = await (await change.connection.execute(_TENANT, (tenant,))).fetchone()
    if found is None:
        raise NotFound(f"user {tenant!r} does not exist")
    if found["operator"] or tenant == OPERATOR_USER:
        raise Conflict("An operator cannot be deleted: nobody could administer this installation any more.")
    for statement in _DELETE_TENANT:
        await change.connection.execute(statement, {"tenant": tenant})
    await forget_history(change.connection, Forgotten(tenant))


def _place(user_id: str, job_id: str) -> bytes:
    return associate("erasure", user_id, job_id)


def _made_up(job: EraseInput) -> str:
    """Who has the rows of a deleted tenant: the same whenever the job is repeated."""
    return f"erased-{job.job_id.rpartition('-')[2]}"


def _progress(row: Mapping[str, Any]) -> EraseProgress:
    return EraseProgress(row["done"], row["total"])


def _erasure(row: Mapping[str, Any]) -> Erasure:
    return Erasure(
        user_id=row["user_id"],
        id=row["id"],
        status=row["status"],
        progress=_progress(row),
        created_at=row["created_at"].timestamp(),
        finished_at=seconds(row["finished_at"]),
        error=row["error"],
    )
