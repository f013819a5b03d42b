"""The ledger in Postgres: accepted requests, terminal rows, attempts, encrypted outcomes and bodies, names.

What is accepted and what has ended goes in with one statement, so one round trip and one commit for all concurrent
callers together: rows travel as one JSON parameter per table, since adapting forty parameters per row costs more than
Postgres' own JSON parser does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infra.crypto.keyring import Keyring, associate
from infra.db.engine import Database
from infra.db.learning.stored_texts import open_text, seal_text
from infra.db.requests.forgetting import NOT_ERASED
from infra.db.requests.rows import (
    attempt_from_row,
    attempt_row,
    dump_json,
    load_outcome,
    outbox_row,
    outcome_from_row,
    record_from_row,
    request_row,
)
from infra.db.schema.requests import RequestRow
from infra.group_commit import GroupCommitter
from modelpilot.learning.feedback import StoredText
from modelpilot.requests.outcome import Attempt
from modelpilot.requests.records import HistoryPoint, NameKind, RequestKey, RequestRecord, Reservation, StoredRequest
from modelpilot.requests.route_request import RouteRequestInput
from modelpilot.wire.jsonb import dump

_MOST_WAITING = 10_000  # rows, in this process: a stuck database costs bounded memory
_NAME_KINDS: tuple[NameKind, NameKind] = ("idempotency-key", "request-id")
_REQUEST_COLUMNS = ", ".join(name for name in RequestRow.model_fields if name != "recorded_at")

_OPEN = f"""
    INSERT INTO open_requests AS o (user_id, request_id, owner, request, ended_at)
    SELECT a.user_id, a.request_id, a.owner, a.request, CASE WHEN a.ended THEN clock_timestamp() END
    FROM unnest(%(open_users)s::text[], %(open_ids)s::text[], %(owners)s::text[], %(opened)b::bytea[],
        %(open_ended)s::bool[]) AS a (user_id, request_id, owner, request, ended)
    WHERE NOT EXISTS (SELECT FROM requests r WHERE r.user_id = a.user_id AND r.request_id = a.request_id)
        AND {NOT_ERASED.format("a")}
    ON CONFLICT (user_id, request_id) DO UPDATE SET ended_at = coalesce(o.ended_at, excluded.ended_at)
    RETURNING user_id, request_id, owner
"""  # noqa: S608  (own constants)

# The payload goes in only with its own terminal row: a late second outcome must not replace the one that stands.
_RECORD = f"""
WITH terminal AS (
    INSERT INTO requests ({_REQUEST_COLUMNS})
    SELECT {_REQUEST_COLUMNS} FROM json_populate_recordset(null::requests, %(requests)s::json) AS n
    WHERE {NOT_ERASED.format("n")}
    ON CONFLICT DO NOTHING
    RETURNING user_id, request_id
), calls AS (
    INSERT INTO attempts SELECT * FROM json_populate_recordset(null::attempts, %(attempts)s::json) AS n
    WHERE {NOT_ERASED.format("n")}
    ON CONFLICT DO NOTHING
), answers AS (
    INSERT INTO payloads (user_id, request_id, kind, ciphertext, expires_at)
    SELECT user_id, request_id, 'outcome', ciphertext, now() + make_interval(secs => %(retention_s)s)
    FROM unnest(%(users)s::text[], %(ids)s::text[], %(sealed)b::bytea[]) AS sealed (user_id, request_id, ciphertext)
    JOIN terminal USING (user_id, request_id)
    ON CONFLICT (user_id, request_id, kind)
    DO UPDATE SET ciphertext = excluded.ciphertext, expires_at = excluded.expires_at
), texts AS (
    INSERT INTO stored_texts (user_id, request_id, router_id, ciphertext, expires_at)
    SELECT user_id, request_id, router_id, ciphertext, now() + make_interval(secs => %(text_retention_s)s)
    FROM unnest(%(text_users)s::text[], %(text_ids)s::text[], %(text_routers)s::text[], %(texts)b::bytea[])
        AS sealed (user_id, request_id, router_id, ciphertext)
    JOIN terminal USING (user_id, request_id)
    ON CONFLICT DO NOTHING
), points AS (
    INSERT INTO outbox (user_id, point, embedding)
    SELECT user_id, point::jsonb, embedding
    FROM unnest(%(point_users)s::text[], %(point_ids)s::text[], %(points)s::text[], %(embeddings)b::bytea[])
        AS learnt (user_id, request_id, point, embedding)
    JOIN terminal USING (user_id, request_id)
), opened AS ({_OPEN}), ended AS (
    UPDATE open_requests o SET ended_at = coalesce(ended_at, clock_timestamp())
    FROM unnest(%(ended_users)s::text[], %(ended_ids)s::text[]) AS e (user_id, request_id)
    WHERE o.user_id = e.user_id AND o.request_id = e.request_id
)
SELECT NULL AS owner, user_id, request_id FROM terminal
UNION ALL SELECT owner, user_id, request_id FROM opened
"""  # noqa: S608  (column names of our own tables)

_FIND = """
SELECT r.*, p.ciphertext, t.ciphertext AS text
FROM requests r
LEFT JOIN payloads p
    ON p.user_id = r.user_id AND p.request_id = r.request_id AND p.kind = 'outcome' AND p.expires_at > now()
LEFT JOIN stored_texts t ON t.user_id = r.user_id AND t.request_id = r.request_id AND t.expires_at > now()
WHERE r.user_id = %s AND r.request_id = %s
"""

_FIND_ATTEMPTS = "SELECT * FROM attempts WHERE user_id = %s AND request_id = %s ORDER BY seq"

_PUT_BODY = """
INSERT INTO payloads (user_id, request_id, kind, ciphertext, expires_at)
VALUES (%s, %s, 'body', %b, now() + make_interval(secs => %s))
ON CONFLICT (user_id, request_id, kind)
DO UPDATE SET ciphertext = excluded.ciphertext, expires_at = excluded.expires_at
"""

_GET_BODY = """
SELECT ciphertext FROM payloads
WHERE user_id = %s AND request_id = %s AND kind = 'body' AND expires_at > now()
"""

# The update that changes nothing makes one statement return the holder, whoever that is, without a race.
_RESERVE = """
INSERT INTO request_names (user_id, kind, name_hash, body_digest, request_id)
SELECT * FROM unnest(%s::text[], %s::text[], %b::bytea[], %b::bytea[], %s::text[])
ON CONFLICT (user_id, kind, name_hash) DO UPDATE SET kind = excluded.kind
RETURNING user_id, kind, name_hash, body_digest, request_id, xmax = 0 AS fresh
"""

_RELEASE = "DELETE FROM request_names WHERE user_id = %s AND kind = %s AND name_hash = %b AND request_id = %s"

_RESOLVE = """
SELECT request_id FROM request_names
WHERE user_id = %s AND (kind, name_hash) IN (SELECT * FROM unnest(%s::text[], %b::bytea[]))
ORDER BY kind LIMIT 1
"""

_IS_OPEN = "SELECT 1 FROM open_requests WHERE user_id = %s AND request_id = %s"

_HAND_OVER = """
UPDATE open_requests SET handed_over_at = clock_timestamp() WHERE user_id = %s AND request_id = %s
RETURNING closer IS NOT NULL AS held
"""


@dataclass(frozen=True, slots=True)
class _Write:
    """What one caller wants committed: an accepted request, a terminal row with its outcome, or attempts alone."""

    key: RequestKey
    opened: tuple[str, bytes] | None = None  # owner, and the request encrypted
    request: dict[str, Any] | None = None
    sealed: bytes | None = None
    text: bytes | None = None
    point: tuple[str, bytes] | None = None  # JSON, embedding
    attempts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Name:
    user_id: str
    kind: NameKind
    name_hash: bytes
    body_digest: bytes
    request_id: str

    @property
    def place(self) -> tuple[str, str, bytes]:
        """The primary key."""
        return (self.user_id, self.kind, self.name_hash)


def _nobody_listens() -> None:
    return None


class PostgresLedger:
    """Implements `modelpilot.requests.ports.Ledger`. `retention_hours` bounds how long bodies and answers are kept,
    `text_retention_days` how long the prompts and answers of routers that store them."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        retention_hours: float = 24.0,
        text_retention_days: float = 30.0,
        on_commit: Callable[[], None] = _nobody_listens,
    ) -> None:
        """`on_commit` hears of every group that was written."""
        self._database, self._on_commit = database, on_commit
        self._keyring = keyring
        self._retention_s = retention_hours * 3_600.0
        self._text_retention_s = text_retention_days * 86_400.0
        self._records: GroupCommitter[_Write, bool] = GroupCommitter(self._write_records, capacity=_MOST_WAITING)
        self._names: GroupCommitter[_Name, Reservation] = GroupCommitter(self._write_names, capacity=_MOST_WAITING)

    async def close(self) -> None:
        """Write what was accepted; refuse what comes later."""
        await self._records.close()
        await self._names.close()

    async def accept(self, request: RouteRequestInput) -> bool:
        """Commit the encrypted request, grouped with concurrent calls; False where it was accepted before."""
        return await self._records.submit(_Write(request.key, opened=self._opened(request)))

    def _opened(self, request: RouteRequestInput) -> tuple[str, bytes]:
        return request.owner, self._keyring.encrypt(dump(request), open_place(request.key))

    async def record(
        self, record: RequestRecord, point: HistoryPoint | None = None, request: RouteRequestInput | None = None
    ) -> bool:
        """Commit the terminal row, attempts, encrypted outcome and history point; False where a terminal row was there
        already. `request` where it was not accepted here."""
        key = record.key
        text = None
        if record.stored_body is not None:
            text = seal_text(self._keyring, key, StoredText(record.stored_body, record.outcome.answer))
        write = _Write(
            key,
            opened=self._opened(request) if request is not None else None,
            request=request_row(record),
            sealed=self._keyring.encrypt(dump(record.outcome), payload_place(key, "outcome")),
            text=text,
            point=outbox_row(point) if point is not None else None,
            attempts=[attempt_row(key, attempt, self._keyring) for attempt in record.outcome.attempts],
        )
        return await self._records.submit(write)

    async def record_attempts(self, key: RequestKey, attempts: Sequence[Attempt]) -> None:
        """Commit attempts of a request that is not finished yet. Idempotent by (key, seq)."""
        if attempts:
            rows = [attempt_row(key, attempt, self._keyring) for attempt in attempts]
            await self._records.submit(_Write(key, attempts=rows))

    async def hand_over(self, key: RequestKey, attempts: Sequence[Attempt]) -> bool:
        """Commit the attempts and that a worker goes on from here; whether a closer has begun its workflow already."""
        await self.record_attempts(key, attempts)
        row = await self._database.fetch_one(_HAND_OVER, (key.user_id, key.request_id))
        return row is not None and bool(row["held"])

    async def is_open(self, key: RequestKey) -> bool:
        """Whether the request was accepted and its workflow is not closed yet."""
        return await self._database.fetch_one(_IS_OPEN, (key.user_id, key.request_id)) is not None

    async def _write_records(self, batch: Sequence[_Write]) -> list[bool]:
        terminal: dict[RequestKey, int] = {}  # within a batch, too, the first outcome stands
        opened: dict[RequestKey, int] = {}
        for position, write in enumerate(batch):
            if write.request is not None:
                terminal.setdefault(write.key, position)
            if write.opened is not None:
                opened.setdefault(write.key, position)
        if opened and not terminal and not any(write.attempts for write in batch):
            # What was only accepted, as most that comes alone, needs a tenth of the work.
            rows = await self._database.fetch_all(_OPEN, _opened_columns(batch, terminal, opened))
        else:
            rows = await self._database.fetch_all(_RECORD, self._parameters(batch, terminal, opened))
        self._on_commit()
        # None: a terminal row. What a broken connection left unsaid is ours all the same if we are its owner.
        inserted = {(row["owner"], RequestKey(row["user_id"], row["request_id"])) for row in rows}

        def is_first(position: int, write: _Write) -> bool:
            if write.request is not None:
                return (None, write.key) in inserted and terminal[write.key] == position
            owner = write.opened[0] if write.opened is not None else None
            return (owner, write.key) in inserted and opened.get(write.key) == position

        return [is_first(position, write) for position, write in enumerate(batch)]

    def _parameters(
        self, batch: Sequence[_Write], terminal: dict[RequestKey, int], opened: dict[RequestKey, int]
    ) -> dict[str, Any]:
        firsts = [batch[position] for position in terminal.values()]
        requests = [write.request for write in firsts if write.request is not None]
        texts = [(write, request) for write, request in zip(firsts, requests, strict=True) if write.text is not None]
        points = [(write.key, *write.point) for write in firsts if write.point is not None]
        ended = [key for key in terminal if key not in opened]
        return {
            "requests": dump_json(requests),
            "attempts": dump_json([row for write in batch for row in write.attempts]),
            "users": [write.key.user_id for write in firsts],
            "ids": [write.key.request_id for write in firsts],
            "sealed": [write.sealed for write in firsts],
            "retention_s": self._retention_s,
            "text_users": [write.key.user_id for write, _ in texts],
            "text_ids": [write.key.request_id for write, _ in texts],
            "text_routers": [request["router_id"] or "" for _, request in texts],
            "texts": [write.text for write, _ in texts],
            "text_retention_s": self._text_retention_s,
            "point_users": [key.user_id for key, _, _ in points],
            "point_ids": [key.request_id for key, _, _ in points],
            "points": [point for _, point, _ in points],
            "embeddings": [embedding for _, _, embedding in points],
            **_opened_columns(batch, terminal, opened),
            "ended_users": [key.user_id for key in ended],
            "ended_ids": [key.request_id for key in ended],
        }

    async def find(self, key: RequestKey) -> StoredRequest | None:
        """The finished request, or None. The whole outcome while it is retained, else what the columns know; a
        quality that was revised later shows in either."""
        row = await self._database.fetch_one(_FIND, (key.user_id, key.request_id))
        if row is None:
            return None
        attempts = await self.find_attempts(key)
        if row["ciphertext"] is None:
            outcome = outcome_from_row(row, attempts)
            if row["text"] is not None:
                outcome = replace(outcome, answer=open_text(self._keyring, key, row["text"]).answer)
        else:
            encoded = self._keyring.decrypt(row["ciphertext"], payload_place(key, "outcome"))
            outcome = replace(load_outcome(encoded), quality=row["quality"])
        return StoredRequest(record_from_row(key, row, outcome), attempts)

    async def find_attempts(self, key: RequestKey) -> tuple[Attempt, ...]:
        """The recorded attempts so far, by seq."""
        rows = await self._database.fetch_all(_FIND_ATTEMPTS, (key.user_id, key.request_id))
        return tuple(attempt_from_row(key, row, self._keyring) for row in rows)

    async def put_body(self, key: RequestKey, body: bytes) -> None:
        """Commit an encrypted request body. Not grouped: it may be megabytes, and others should not wait for it."""
        sealed = self._keyring.encrypt(body, payload_place(key, "body"))
        await self._database.fetch_all(_PUT_BODY, (key.user_id, key.request_id, sealed, self._retention_s))

    async def get_body(self, key: RequestKey) -> bytes | None:
        """The body again, or None when it has expired."""
        row = await self._database.fetch_one(_GET_BODY, (key.user_id, key.request_id))
        return None if row is None else self._keyring.decrypt(row["ciphertext"], payload_place(key, "body"))

    async def reserve(
        self, user_id: str, kind: NameKind, name: str, body_digest: bytes, request_id: str
    ) -> Reservation:
        """Reserve a client-given name, committed; the name itself is stored as an HMAC only."""
        name_hash = self._name_hash(user_id, kind, name)
        return await self._names.submit(_Name(user_id, kind, name_hash, body_digest, request_id))

    async def _write_names(self, batch: Sequence[_Name]) -> list[Reservation]:
        first: dict[tuple[str, str, bytes], int] = {}  # one statement cannot update a row twice
        for position, name in enumerate(batch):
            first.setdefault(name.place, position)
        names = [batch[position] for position in first.values()]
        params = [[getattr(name, column) for name in names] for column in _Name.__dataclass_fields__]
        # Not repeated on a broken connection: it may have been committed, and a repeat would say "not fresh".
        rows = await self._database.fetch_all(_RESERVE, params, idempotent=False)
        held = {(row["user_id"], row["kind"], row["name_hash"]): row for row in rows}
        return [
            Reservation(row["fresh"] and first[name.place] == position, row["request_id"], row["body_digest"])
            for position, name in enumerate(batch)
            for row in (held[name.place],)
        ]

    async def release(self, user_id: str, kind: NameKind, name: str, request_id: str) -> None:
        """Free a reservation of `request_id`; nothing happens where another request holds it."""
        await self._database.fetch_all(_RELEASE, (user_id, kind, self._name_hash(user_id, kind, name), request_id))

    async def resolve(self, user_id: str, name: str) -> str | None:
        """The request id behind a client-given name; an Idempotency-Key wins over an x-request-id."""
        hashes = [self._name_hash(user_id, kind, name) for kind in _NAME_KINDS]
        row = await self._database.fetch_one(_RESOLVE, (user_id, list(_NAME_KINDS), hashes))
        return None if row is None else str(row["request_id"])

    def _name_hash(self, user_id: str, kind: NameKind, name: str) -> bytes:
        return self._keyring.mac("request-name", associate(user_id, kind, name))


def _opened_columns(
    batch: Sequence[_Write], terminal: Collection[RequestKey], opened: Mapping[RequestKey, int]
) -> dict[str, Any]:
    news = [(batch[position].key, batch[position].opened or ("", b"")) for position in opened.values()]
    return {
        "open_users": [key.user_id for key, _ in news],
        "open_ids": [key.request_id for key, _ in news],
        "owners": [owner for _, (owner, _) in news],
        "opened": [request for _, (_, request) in news],
        "open_ended": [key in terminal for key, _ in news],
    }


def open_place(key: RequestKey) -> bytes:
    """The associated data of an accepted request."""
    return associate("open-request", key.user_id, key.request_id)


def payload_place(key: RequestKey, kind: str) -> bytes:
    """The associated data of a body or an outcome."""
    return associate("payload", key.user_id, key.request_id, kind)
