"""Prompts and answers of routers that store them: encrypted, bound to their row, read back and deleted."""

from collections.abc import Sequence

import structlog

from infra.crypto.keyring import DecryptionFailed, Keyring, associate
from infra.db.engine import Connection, Database
from modelpilot.learning.feedback import StoredText
from modelpilot.requests.records import RequestKey
from modelpilot.wire.jsonb import dump, load

log = structlog.get_logger(__name__)

_READ = """
SELECT request_id, ciphertext FROM stored_texts WHERE user_id = %s AND request_id = ANY(%s) AND expires_at > now()
"""

# Deleting the text means all of it: the payloads kept for recovery go with it, as do words about it.
_DELETE_TEXT = "DELETE FROM stored_texts WHERE user_id = %(user_id)s AND request_id = %(request_id)s"
_DELETE_PAYLOADS = "DELETE FROM payloads WHERE user_id = %(user_id)s AND request_id = %(request_id)s"
_FORGET_COMMENTS = """
UPDATE feedback SET comment_encrypted = NULL
WHERE user_id = %(user_id)s AND request_id = %(request_id)s AND comment_encrypted IS NOT NULL
"""
_FORGET_REASONS = """
UPDATE judgements SET reason_encrypted = NULL
WHERE user_id = %(user_id)s AND request_id = %(request_id)s AND reason_encrypted IS NOT NULL
"""

_DELETE_ROUTER = (
    """
UPDATE judgements j SET reason_encrypted = NULL FROM stored_texts t
WHERE t.user_id = %(user_id)s AND t.router_id = %(router_id)s
    AND j.user_id = t.user_id AND j.request_id = t.request_id AND j.reason_encrypted IS NOT NULL
""",
    """
UPDATE feedback SET comment_encrypted = NULL
WHERE user_id = %(user_id)s AND router_id = %(router_id)s AND comment_encrypted IS NOT NULL
""",
    "DELETE FROM stored_texts WHERE user_id = %(user_id)s AND router_id = %(router_id)s",
)


def _place(key: RequestKey) -> bytes:
    return associate("text", key.user_id, key.request_id)


def seal_text(keyring: Keyring, key: RequestKey, text: StoredText) -> bytes:
    """The encrypted text of a request."""
    return keyring.encrypt(dump({"body": text.body, "answer": text.answer}), _place(key))


def open_text(keyring: Keyring, key: RequestKey, sealed: bytes) -> StoredText:
    """The text again. Raises DecryptionFailed."""
    plain = load(keyring.decrypt(sealed, _place(key)))
    return StoredText(plain["body"], plain["answer"])


async def delete_texts_of_router(connection: Connection, user_id: str, router_id: str) -> None:
    """Within the transaction that deletes the router."""
    for statement in _DELETE_ROUTER:
        await connection.execute(statement, {"user_id": user_id, "router_id": router_id})


class StoredTexts:
    """Implements `modelpilot.learning.feedback.TextStore`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database, self._keyring = database, keyring

    async def read(self, user_id: str, request_ids: Sequence[str]) -> dict[str, StoredText]:
        """Texts that are stored and can be decrypted, by request id."""
        texts: dict[str, StoredText] = {}
        for row in await self._database.fetch_all(_READ, (user_id, list(request_ids))):
            try:
                key = RequestKey(user_id, row["request_id"])
                texts[key.request_id] = open_text(self._keyring, key, row["ciphertext"])
            except DecryptionFailed as error:  # one lost text must not stop a batch
                log.warning("stored_text_unreadable", request_id=row["request_id"], reason=error.message)
        return texts

    async def delete(self, key: RequestKey) -> bool:
        """Delete every word of a request: text, payloads, comments and reasons. False where there was no text."""
        params = {"user_id": key.user_id, "request_id": key.request_id}
        async with self._database.transaction() as connection:
            deleted = (await connection.execute(_DELETE_TEXT, params)).rowcount
            deleted += (await connection.execute(_DELETE_PAYLOADS, params)).rowcount
            await connection.execute(_FORGET_COMMENTS, params)
            await connection.execute(_FORGET_REASONS, params)
        return deleted > 0
