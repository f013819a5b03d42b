"""What Responses requests said, in Postgres beside their outcomes: encrypted, bound to their row, for a while."""

from collections.abc import Collection, Sequence

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.forgetting import NOT_ERASED
from infra.db.requests.ledger import payload_place
from infra.group_commit import GroupCommitter
from modelpilot.requests.outcome import INLINE_LIMIT_BYTES
from modelpilot.requests.records import RequestKey
from modelpilot.wire.jsonb import dump, load
from modelpilot.wire.responses_chain import KeptResponse

_MOST_WAITING = 10_000  # rows, in this process: a stuck database costs bounded memory
_KIND = "response"

_PUT = f"""
INSERT INTO payloads (user_id, request_id, kind, ciphertext, expires_at)
SELECT user_id, request_id, 'response', ciphertext, now() + make_interval(secs => %s)
FROM unnest(%s::text[], %s::text[], %b::bytea[]) AS sealed (user_id, request_id, ciphertext)
WHERE {NOT_ERASED.format("sealed")}
ON CONFLICT (user_id, request_id, kind)
DO UPDATE SET ciphertext = excluded.ciphertext, expires_at = excluded.expires_at
"""  # noqa: S608  (own constants)

_FIND = """
SELECT request_id, ciphertext FROM payloads
WHERE user_id = %s AND request_id = ANY(%s) AND kind = 'response' AND expires_at > now()
"""

_Row = tuple[RequestKey, bytes]


class PostgresResponses:
    """Implements `modelpilot.requests.ports.ResponseStore`."""

    def __init__(self, database: Database, keyring: Keyring, *, retention_hours: float = 24.0) -> None:
        self._database, self._keyring = database, keyring
        self._retention_s = retention_hours * 3_600.0
        self._puts: GroupCommitter[_Row, None] = GroupCommitter(self._write, capacity=_MOST_WAITING)

    async def close(self) -> None:
        """Write what was accepted; refuse what comes later."""
        await self._puts.close()

    async def put(self, key: RequestKey, kept: KeptResponse) -> None:
        """Keep it, encrypted; small ones that come at the same time are written together."""
        row = key, self._keyring.encrypt(dump(kept), payload_place(key, _KIND))
        if len(row[1]) > INLINE_LIMIT_BYTES:
            await self._write([row])  # others should not wait for it
        else:
            await self._puts.submit(row)

    async def find(self, user_id: str, request_ids: Collection[str]) -> dict[str, KeptResponse]:
        """What is kept and has not expired, by request id."""
        found: dict[str, KeptResponse] = {}
        for row in await self._database.fetch_all(_FIND, (user_id, list(request_ids))):
            key = RequestKey(user_id, row["request_id"])
            plain = load(self._keyring.decrypt(row["ciphertext"], payload_place(key, _KIND)))
            known = {name: plain[name] for name in KeptResponse.__dataclass_fields__ if name in plain}
            found[key.request_id] = KeptResponse(**known)
        return found

    async def _write(self, batch: Sequence[_Row]) -> list[None]:
        rows = dict(batch)  # one statement cannot write a row twice
        users, ids = [key.user_id for key in rows], [key.request_id for key in rows]
        await self._database.fetch_all(_PUT, (self._retention_s, users, ids, list(rows.values())))
        return [None] * len(batch)
