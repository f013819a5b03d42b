"""The owner's providers. Keys go in encrypted, bound to owner and id; only `infra.db.configuration` takes them out."""

from typing import Any

from psycopg.rows import DictRow

from infra.crypto.keyring import HEADER_BYTES, Keyring, associate
from infra.db.engine import Connection, Database
from infra.db.repositories.changes import changing
from infra.db.repositories.paging import decode_moment_cursor, make_page, moment_cursor
from modelpilot.catalogue import ProviderSpec
from modelpilot.errors import Conflict, NotFound
from modelpilot.management import Page, StoredProvider

_COLUMNS = "id, kind, base_url, api_key_encrypted IS NOT NULL AS has_key, created_at, updated_at"

_GET = f"SELECT {_COLUMNS} FROM providers WHERE user_id = %s AND id = %s"  # noqa: S608  (own constants)

_LIST = f"""
SELECT {_COLUMNS} FROM providers
WHERE user_id = %(user_id)s AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after_id)s))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s + 1
"""  # noqa: S608

_UPSERT = f"""
INSERT INTO providers (user_id, id, kind, base_url, api_key_encrypted)
VALUES (%(user_id)s, %(id)s, %(kind)s, %(base_url)s, %(sealed)b)
ON CONFLICT (user_id, id) DO UPDATE SET kind = excluded.kind, base_url = excluded.base_url,
    api_key_encrypted = coalesce(excluded.api_key_encrypted, providers.api_key_encrypted),
    updated_at = clock_timestamp()
RETURNING {_COLUMNS}
"""  # noqa: S608

_DELETE = "DELETE FROM providers WHERE user_id = %s AND id = %s"

_STALE = f"""
SELECT user_id, id, api_key_encrypted FROM providers
WHERE api_key_encrypted IS NOT NULL AND substring(api_key_encrypted FROM 1 FOR {HEADER_BYTES}) <> %b
ORDER BY user_id, id LIMIT %s FOR UPDATE SKIP LOCKED
"""  # noqa: S608

_RESEAL = "UPDATE providers SET api_key_encrypted = %b WHERE user_id = %s AND id = %s"


def provider_place(user_id: str, provider_id: str) -> bytes:
    """Associated data of a provider's key: a ciphertext moved to another owner or provider does not decrypt."""
    return associate("provider", user_id, provider_id)


def _stored(row: DictRow) -> StoredProvider:
    times = row["created_at"].timestamp(), row["updated_at"].timestamp()
    return StoredProvider(row["id"], row["kind"], row["base_url"], row["has_key"], *times)


def _audited(row: DictRow | None, *, key_given: bool = False) -> dict[str, Any] | None:
    if row is None:
        return None
    shown = {"id": row["id"], "kind": row["kind"], "baseUrl": row["base_url"], "hasKey": row["has_key"]}
    return {**shown, "keyReplaced": True} if key_given else shown


class PostgresProviderRepository:
    """Implements `modelpilot.management.ProviderRepository`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def create(self, user_id: str, spec: ProviderSpec, actor: str) -> StoredProvider:
        """Raises Conflict."""
        return await self._write(user_id, spec, actor, replace=False)

    async def put(self, user_id: str, spec: ProviderSpec, actor: str) -> StoredProvider:
        """Create or replace; without `api_key` the stored one is kept."""
        return await self._write(user_id, spec, actor, replace=True)

    async def _write(self, user_id: str, spec: ProviderSpec, actor: str, *, replace: bool) -> StoredProvider:
        sealed = self._seal(user_id, spec)
        params = {"user_id": user_id, "id": spec.id, "kind": spec.kind, "base_url": spec.base_url, "sealed": sealed}
        async with changing(self._database, "provider", user_id, spec.id) as change:
            old = await _row(change.connection, user_id, spec.id)
            if old is not None and not replace:
                raise Conflict(f"provider {spec.id!r} exists already", param="id")
            new: Any = await (await change.connection.execute(_UPSERT, params)).fetchone()
            after = _audited(new, key_given=sealed is not None)
            await change.done("create" if old is None else "update", actor, _audited(old), after)
            return _stored(new)

    def _seal(self, user_id: str, spec: ProviderSpec) -> bytes | None:
        if spec.api_key is None:
            return None
        return self._keyring.encrypt(spec.api_key.get_secret_value().encode(), provider_place(user_id, spec.id))

    async def get(self, user_id: str, provider_id: str) -> StoredProvider:
        """Raises NotFound."""
        row = await self._database.fetch_one(_GET, (user_id, provider_id))
        if row is None:
            raise _unknown(provider_id)
        return _stored(row)

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[StoredProvider]:
        """Newest first."""
        params = {"user_id": user_id, "limit": limit, **decode_moment_cursor(cursor)}
        return make_page(await self._database.fetch_all(_LIST, params), limit, _stored, moment_cursor)

    async def delete(self, user_id: str, provider_id: str, actor: str) -> None:
        """Raises NotFound."""
        async with changing(self._database, "provider", user_id, provider_id) as change:
            old = await _row(change.connection, user_id, provider_id)
            if old is None:
                raise _unknown(provider_id)
            await change.connection.execute(_DELETE, (user_id, provider_id))
            await change.done("delete", actor, _audited(old), None)

    async def reencrypt(self, limit: int = 100) -> int:
        """Re-encrypt up to `limit` keys of all owners that are not under the newest key; how many were. Call until 0:
        it goes on where a killed run stopped. Raises DecryptionFailed where an old key is not configured."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_STALE, (self._keyring.current_header, limit))
            rows = await cursor.fetchall()
            for row in rows:
                place = provider_place(row["user_id"], row["id"])
                sealed = self._keyring.encrypt(self._keyring.decrypt(row["api_key_encrypted"], place), place)
                await connection.execute(_RESEAL, (sealed, row["user_id"], row["id"]))
        return len(rows)


async def _row(connection: Connection, user_id: str, provider_id: str) -> DictRow | None:
    cursor = await connection.execute(_GET, (user_id, provider_id))
    return await cursor.fetchone()


def _unknown(provider_id: str) -> NotFound:
    return NotFound(f"provider {provider_id!r} does not exist")
