"""API keys: made, changed, rotated and recognized. Secrets are hashed before they come near a query."""

import asyncio
import logging
import time
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from psycopg.rows import DictRow

from infra.crypto.secrets import display_prefix, generate_secret, hash_secret, is_well_formed
from infra.db.engine import Database
from infra.db.management.changes import Change, changing, ensure_user, returned
from infra.db.management.paging import newest_first
from infra.db.requests.rows import clean_text, moment, seconds
from modelpilot.errors import Conflict, DependencyUnavailable, NotFound
from modelpilot.management.resources import UNCHANGED, ApiKeyChange, NewApiKey, Page, StoredApiKey
from modelpilot.requests.records import Principal

_FLUSH_EVERY_S = 10.0
_LOG = logging.getLogger(__name__)

_GET = "SELECT *, (expires_at <= now()) IS TRUE AS expired FROM api_keys WHERE user_id = %s AND id = %s"

_INSERT = """
INSERT INTO api_keys (id, user_id, name, prefix, key_hash, scopes, allowed_routers, active, expires_at, rotated_from)
VALUES (%(id)s, %(user_id)s, %(name)s, %(prefix)s, %(key_hash)b, %(scopes)s::text[], %(allowed_routers)s::text[],
    true, %(expires_at)s, %(rotated_from)s)
RETURNING *
"""

_UPDATE = """
UPDATE api_keys SET name = %(name)s, active = %(active)s, expires_at = %(expires_at)s,
    allowed_routers = %(allowed_routers)s::text[]
WHERE user_id = %(user_id)s AND id = %(id)s
RETURNING *
"""

_EXPIRE_AFTER = """
UPDATE api_keys SET expires_at = least(expires_at, now() + %s) WHERE user_id = %s AND id = %s
"""

_DELETE = "DELETE FROM api_keys WHERE user_id = %s AND id = %s"

_AUTHENTICATE = """
SELECT k.id, k.user_id, k.scopes, k.allowed_routers, u.operator
FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.key_hash = %b AND k.active AND (k.expires_at IS NULL OR k.expires_at > now())
"""

_WRITE_USES = """
UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at)
FROM unnest(%s::text[], %s::timestamptz[]) AS used (id, at) WHERE k.id = used.id
"""


def _stored(row: DictRow) -> StoredApiKey:
    routers = row["allowed_routers"]
    return StoredApiKey(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        prefix=row["prefix"],
        scopes=frozenset(row["scopes"]),
        allowed_routers=None if routers is None else frozenset(routers),
        active=row["active"],
        expires_at=seconds(row["expires_at"]),
        last_used_at=seconds(row["last_used_at"]),
        created_at=row["created_at"].timestamp(),
        rotated_from=row["rotated_from"],
    )


def _audited(row: DictRow) -> dict[str, Any]:
    fields = ("id", "name", "prefix", "scopes", "allowed_routers", "active", "rotated_from")
    expires_at: datetime | None = row["expires_at"]
    return {name: row[name] for name in fields} | {"expires_at": expires_at and expires_at.isoformat()}


class LastUsed:
    """When keys were last used: noted in memory and written now and then, since every request would be a write."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used_at: dict[str, float] = {}
        self._flush: asyncio.Task[None] | None = None
        self._next_flush = 0.0  # monotonic seconds

    def note(self, api_key_id: str) -> None:
        """The key was used now. Starts a write where the last one is long ago."""
        self._used_at[api_key_id] = time.time()
        idle = self._flush is None or self._flush.done()
        if idle and time.monotonic() >= self._next_flush:
            self._next_flush = time.monotonic() + _FLUSH_EVERY_S
            self._flush = asyncio.create_task(self._flush_quietly(), name="api-keys-last-used")

    async def flush(self) -> None:
        """Write now. What cannot be written is kept for the next time. Raises DependencyUnavailable."""
        noted, self._used_at = self._used_at, {}
        if not noted:
            return
        try:
            await self._database.fetch_all(_WRITE_USES, (list(noted), [moment(at) for at in noted.values()]))
        except DependencyUnavailable:
            self._used_at = {**noted, **self._used_at}
            raise

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except DependencyUnavailable:
            _LOG.info("last use of API keys is written later: Postgres is away")

    async def close(self) -> None:
        """Write what is left, if Postgres is there."""
        if self._flush is not None:
            await self._flush
        await self._flush_quietly()


class PostgresApiKeyRepository:
    """Implements `modelpilot.management.resources.ApiKeyRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_used = LastUsed(database)

    async def close(self) -> None:
        """Write the uses noted so far."""
        await self._last_used.close()

    async def create(self, user_id: str, new: NewApiKey, actor: str | None = None) -> tuple[StoredApiKey, str]:
        """The key and its secret, shown this once. The owner is made where absent."""
        secret = generate_secret()
        return await self.adopt(user_id, new, secret, actor), secret

    async def adopt(self, user_id: str, new: NewApiKey, secret: str, actor: str | None = None) -> StoredApiKey:
        """Like `create`, with a secret that the caller has generated (and kept) beforehand."""
        params = {
            "name": clean_text(new.name),
            "scopes": sorted(new.scopes),
            "allowed_routers": None if new.allowed_routers is None else sorted(new.allowed_routers),
            "expires_at": None if new.expires_at is None else moment(new.expires_at),
            "rotated_from": None,
        }
        key_id = _new_id()
        async with changing(self._database, "api_key", user_id, key_id) as change:
            await ensure_user(change.connection, user_id)
            row = await _insert(change, secret, params)
            await change.done("create", actor or user_id, None, _audited(row))
        return _stored(row)

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[StoredApiKey]:
        """Newest first."""
        return await newest_first(self._database, "SELECT * FROM api_keys", user_id, cursor, limit, _stored)

    async def get(self, user_id: str, key_id: str) -> StoredApiKey:
        """Raises NotFound."""
        row = await self._database.fetch_one(_GET, (user_id, key_id))
        if row is None:
            raise _unknown(key_id)
        return _stored(row)

    async def update(self, user_id: str, key_id: str, wanted: ApiKeyChange, actor: str | None = None) -> StoredApiKey:
        """Change what `wanted` says of the key. Raises NotFound."""
        async with changing(self._database, "api_key", user_id, key_id) as change:
            old = await _row(change)
            params = {"user_id": user_id, "id": key_id, **_changed(old, wanted)}
            new = await returned(await change.connection.execute(_UPDATE, params))
            await change.done("update", actor or user_id, _audited(old), _audited(new))
        return _stored(new)

    async def rotate(
        self, user_id: str, key_id: str, overlap_seconds: float, actor: str | None = None
    ) -> tuple[StoredApiKey, str]:
        """A new key with the same rights (and expiry); the old one expires after the overlap. Raises NotFound, and
        Conflict where the old one is inactive or expired."""
        secret = generate_secret()
        async with changing(self._database, "api_key", user_id, key_id) as change:
            old = await _row(change)
            if not old["active"] or old["expired"]:
                raise Conflict(f"API key {key_id!r} is no longer valid, so it cannot be rotated")
            inherited = {name: old[name] for name in ("name", "scopes", "allowed_routers", "expires_at")}
            successor = Change(change.connection, change.kind, user_id, _new_id())
            new = await _insert(successor, secret, {**inherited, "rotated_from": key_id})
            overlap = timedelta(seconds=min(max(overlap_seconds, 0.0), 1e9))
            await change.connection.execute(_EXPIRE_AFTER, (overlap, user_id, key_id))
            await change.done("rotate", actor or user_id, _audited(old), _audited(new))
        return _stored(new), secret

    async def delete(self, user_id: str, key_id: str, actor: str | None = None) -> None:
        """Remove the key. Raises NotFound."""
        async with changing(self._database, "api_key", user_id, key_id) as change:
            old = await _row(change)
            await change.connection.execute(_DELETE, (user_id, key_id))
            await change.done("delete", actor or user_id, _audited(old), None)

    async def authenticate(self, secret: str) -> Principal | None:
        """Who holds this secret; None for every reason to refuse it. A malformed one costs no query."""
        if not is_well_formed(secret):
            return None
        row = await self._database.fetch_one(_AUTHENTICATE, (hash_secret(secret),))
        if row is None:
            return None
        self.touch(row["id"])
        routers = row["allowed_routers"]
        allowed = None if routers is None else frozenset(routers)
        return Principal(row["user_id"], row["id"], frozenset(row["scopes"]), allowed, row["operator"])

    def touch(self, api_key_id: str) -> None:
        """Note that the key was used now; written in batches."""
        self._last_used.note(api_key_id)


def _new_id() -> str:
    return f"key_{uuid4().hex}"


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"API key {key_id!r} does not exist")


async def _row(change: Change) -> DictRow:
    cursor = await change.connection.execute(_GET, (change.user_id, change.subject))
    row = await cursor.fetchone()
    if row is None:
        raise _unknown(change.subject)
    return row


async def _insert(change: Change, secret: str, params: dict[str, Any]) -> DictRow:
    identity = {"id": change.subject, "user_id": change.user_id}
    hashed = {"prefix": display_prefix(secret), "key_hash": hash_secret(secret)}
    return await returned(await change.connection.execute(_INSERT, {**params, **identity, **hashed}))


def _changed(old: DictRow, wanted: ApiKeyChange) -> dict[str, Any]:
    """The changeable columns after the change."""
    columns = {name: old[name] for name in ("name", "active", "expires_at", "allowed_routers")}
    given = {name: getattr(wanted, name) for name in columns if getattr(wanted, name) is not UNCHANGED}
    if given.get("name") is not None:
        given["name"] = clean_text(given["name"])
    if given.get("expires_at") is not None:
        given["expires_at"] = moment(given["expires_at"])
    if given.get("allowed_routers") is not None:
        given["allowed_routers"] = sorted(given["allowed_routers"])
    return {**columns, **given}
