"""The owner's providers. Keys go in encrypted, bound to owner and id; only the configuration takes them out."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from infra.crypto.keyring import HEADER_BYTES, Keyring, associate
from infra.db.engine import Database
from infra.db.management.changes import Change, returned
from infra.db.management.resources import PostgresRepository, times
from modelpilot.management.resources import ProviderSummary, Stored
from modelpilot.providers.catalogue import ProviderSpec
from modelpilot.providers.manners import Manners

_COLUMNS = """id, kind, base_url, parameters, created_at, updated_at,
    (api_key_encrypted IS NOT NULL)::int + cardinality(further_keys_encrypted) AS key_count"""

_UPSERT = f"""
INSERT INTO providers (user_id, id, kind, base_url, parameters, api_key_encrypted, further_keys_encrypted)
VALUES (%(user_id)s, %(id)s, %(kind)s, %(base_url)s, %(parameters)s, %(first)b, %(further)b::bytea[])
ON CONFLICT (user_id, id) DO UPDATE SET kind = excluded.kind, base_url = excluded.base_url,
    parameters = excluded.parameters,
    api_key_encrypted = coalesce(excluded.api_key_encrypted, providers.api_key_encrypted),
    further_keys_encrypted = CASE WHEN excluded.api_key_encrypted IS NULL
        THEN providers.further_keys_encrypted ELSE excluded.further_keys_encrypted END,
    updated_at = clock_timestamp()
RETURNING {_COLUMNS}
"""  # noqa: S608  (own constants)

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


def _stored(row: DictRow) -> Stored[ProviderSummary]:
    keys = row["key_count"]
    parameters = None if row["parameters"] is None else Manners.model_validate(row["parameters"])
    summary = ProviderSummary(
        id=row["id"],
        kind=row["kind"],
        base_url=row["base_url"],
        has_key=keys > 0,
        key_count=keys,
        parameters=parameters,
    )
    return Stored(summary, *times(row))


class PostgresProviderRepository(PostgresRepository[ProviderSpec, Stored[ProviderSummary]]):
    """Implements `modelpilot.management.resources.ProviderRepository`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        super().__init__(database, "provider", "providers", _stored, _COLUMNS)
        self._keyring = keyring

    def _is_same(self, row: DictRow, body: ProviderSpec) -> bool:
        return False  # its keys are encrypted differently each time

    async def _save(self, change: Change, body: ProviderSpec, old: DictRow | None, actor: str) -> DictRow:
        sealed = self._seal(change.user_id, body.id, [key.encode() for key in body.given_keys])
        keys = {"first": sealed[0] if sealed else None, "further": sealed[1:]}
        parameters = None if body.parameters is None else Jsonb(body.parameters.to_wire())
        plain = {"id": body.id, "kind": body.kind, "base_url": body.base_url, "parameters": parameters}
        params = {"user_id": change.user_id, **plain, **keys}
        return await returned(await change.connection.execute(_UPSERT, params))

    def _audited(self, row: DictRow, written: ProviderSpec | None = None) -> dict[str, Any]:
        state = _stored(row).body.to_wire()
        return {**state, "keyReplaced": True} if written is not None and written.given_keys else state

    def _seal(self, user_id: str, provider_id: str, keys: Sequence[bytes]) -> list[bytes]:
        places = [key_place(user_id, provider_id, index) for index in range(len(keys))]
        return [self._keyring.encrypt(key, place) for key, place in zip(keys, places, strict=True)]

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
