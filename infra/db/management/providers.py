"""The owner's providers. Keys go in encrypted, bound to owner and id; only the configuration takes them out."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from psycopg.rows import DictRow

from infra.crypto.keyring import HEADER_BYTES, Keyring, associate
from infra.db.engine import Connection, Database
from infra.db.management.changes import changing
from infra.db.management.paging import decode_moment_cursor, make_page, moment_cursor
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.resources import Page, StoredProvider
from modelpilot.providers.catalogue import ProviderSpec

_COLUMNS = """id, kind, base_url, created_at, updated_at,
    (api_key_encrypted IS NOT NULL)::int + cardinality(further_keys_encrypted) AS key_count"""

_GET = f"SELECT {_COLUMNS} FROM providers WHERE user_id = %s AND id = %s"  # noqa: S608  (own constants)

_LIST = f"""
SELECT {_COLUMNS} FROM providers
WHERE user_id = %(user_id)s AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after_id)s))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s + 1
"""  # noqa: S608

_UPSERT = f"""
INSERT INTO providers (user_id, id, kind, base_url, api_key_encrypted, further_keys_encrypted)
VALUES (%(user_id)s, %(id)s, %(kind)s, %(base_url)s, %(first)b, %(further)b::bytea[])
ON CONFLICT (user_id, id) DO UPDATE SET kind = excluded.kind, base_url = excluded.base_url,
    api_key_encrypted = coalesce(excluded.api_key_encrypted, providers.api_key_encrypted),
    further_keys_encrypted = CASE WHEN excluded.api_key_encrypted IS NULL
        THEN providers.further_keys_encrypted ELSE excluded.further_keys_encrypted END,
    updated_at = clock_timestamp()
RETURNING {_COLUMNS}
"""  # noqa: S608

_DELETE = "DELETE FROM providers WHERE user_id = %s AND id = %s"

_STALE = f"""
SELECT user_id, id, api_key_encrypted, further_keys_encrypted FROM providers
WHERE EXISTS (SELECT 1 FROM unnest(array_prepend(api_key_encrypted, further_keys_encrypted)) AS sealed
              WHERE substring(sealed FROM 1 FOR {HEADER_BYTES}) <> %b)
ORDER BY user_id, id LIMIT %s FOR UPDATE SKIP LOCKED
"""  # noqa: S608

_RESEAL = """
UPDATE providers SET api_key_encrypted = %b, further_keys_encrypted = %b::bytea[] WHERE user_id = %s AND id = %s
"""


def key_place(user_id: str, provider_id: str, index: int) -> bytes:
    """Associated data of a provider's key: a ciphertext moved to another owner, provider or position does not decrypt.

    The first one's is what it was when there was only one.
    """
    return associate("provider", user_id, provider_id, *([str(index)] if index else []))


def sealed_keys(row: Mapping[str, Any]) -> list[bytes]:
    """The encrypted keys of a provider's row, by index."""
    first = row["api_key_encrypted"]
    return [] if first is None else [first, *row["further_keys_encrypted"]]


def _stored(row: DictRow) -> StoredProvider:
    times = row["created_at"].timestamp(), row["updated_at"].timestamp()
    return StoredProvider(row["id"], row["kind"], row["base_url"], row["key_count"] > 0, *times, row["key_count"])


def _audited(row: DictRow | None, *, key_given: bool = False) -> dict[str, Any] | None:
    if row is None:
        return None
    keys = {"hasKey": row["key_count"] > 0, "keyCount": row["key_count"]}
    shown = {"id": row["id"], "kind": row["kind"], "baseUrl": row["base_url"], **keys}
    return {**shown, "keyReplaced": True} if key_given else shown


class PostgresProviderRepository:
    """Implements `modelpilot.management.resources.ProviderRepository`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def create(self, user_id: str, spec: ProviderSpec, actor: str) -> StoredProvider:
        """Raises Conflict."""
        return await self._write(user_id, spec, actor, replace=False)

    async def put(self, user_id: str, spec: ProviderSpec, actor: str) -> StoredProvider:
        """Create or replace; without any key the stored ones are kept, otherwise all of them are replaced."""
        return await self._write(user_id, spec, actor, replace=True)

    async def _write(self, user_id: str, spec: ProviderSpec, actor: str, *, replace: bool) -> StoredProvider:
        sealed = self._seal(user_id, spec.id, [key.encode() for key in spec.given_keys])
        keys = {"first": sealed[0] if sealed else None, "further": sealed[1:]}
        params = {"user_id": user_id, "id": spec.id, "kind": spec.kind, "base_url": spec.base_url, **keys}
        async with changing(self._database, "provider", user_id, spec.id) as change:
            old = await _row(change.connection, user_id, spec.id)
            if old is not None and not replace:
                raise Conflict(f"provider {spec.id!r} exists already", param="id")
            new: Any = await (await change.connection.execute(_UPSERT, params)).fetchone()
            after = _audited(new, key_given=bool(sealed))
            await change.done("create" if old is None else "update", actor, _audited(old), after)
            return _stored(new)

    def _seal(self, user_id: str, provider_id: str, keys: Sequence[bytes]) -> list[bytes]:
        places = [key_place(user_id, provider_id, index) for index in range(len(keys))]
        return [self._keyring.encrypt(key, place) for key, place in zip(keys, places, strict=True)]

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
        """Re-encrypt the keys of up to `limit` providers, of all owners, that have one that is not under the newest
        key; how many providers that were. Call until 0: it goes on where a killed run stopped. Raises
        DecryptionFailed where an old key is not configured."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_STALE, (self._keyring.current_header, limit))
            rows = await cursor.fetchall()
            for row in rows:
                sealed = self._seal(row["user_id"], row["id"], self._opened(row))
                await connection.execute(_RESEAL, (sealed[0], sealed[1:], row["user_id"], row["id"]))
        return len(rows)

    def _opened(self, row: DictRow) -> Sequence[bytes]:
        places = (key_place(row["user_id"], row["id"], index) for index in count())
        return [self._keyring.decrypt(sealed, place) for sealed, place in zip(sealed_keys(row), places, strict=False)]


async def _row(connection: Connection, user_id: str, provider_id: str) -> DictRow | None:
    cursor = await connection.execute(_GET, (user_id, provider_id))
    return await cursor.fetchone()


def _unknown(provider_id: str) -> NotFound:
    return NotFound(f"provider {provider_id!r} does not exist")
