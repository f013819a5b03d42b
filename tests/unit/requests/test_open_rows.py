"""Open rows as a closer reads them."""

from datetime import UTC, datetime
from typing import Any

from infra.crypto.keyring import Keyring
from infra.db.requests.ledger import open_place, payload_place
from infra.db.requests.open_requests import OpenRequests
from modelpilot.requests.records import RequestKey
from modelpilot.wire.jsonb import dump
from tests.support.closing import DONE, accepted
from tests.support.core import KEYRING
from tests.support.routing_samples import NOW


class Rows:
    """A database that answers every query with the same rows."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    async def fetch_all(self, query: str, params: Any = None, *, idempotent: bool = True) -> list[dict[str, Any]]:
        """The rows."""
        return list(self._rows)


def stored(name: str, keyring: Keyring = KEYRING, *, ended: bool = False) -> dict[str, Any]:
    """A row of the table."""
    request = accepted(name)
    outcome = keyring.encrypt(dump(DONE), payload_place(request.key, "outcome")) if ended else None
    return {
        "user_id": request.user_id,
        "request_id": name,
        "request": keyring.encrypt(dump(request), open_place(request.key)),
        "accepted": NOW,
        "handed_over": False,
        "owner_alive": True,
        "ciphertext": outcome,
        "completed_at": datetime.fromtimestamp(NOW + 1.0, UTC) if ended else None,
        "prompt_hash": "hash" if ended else None,
    }


async def read(*rows: dict[str, Any]) -> list[Any]:
    """The rows as they are read."""
    return await OpenRequests(Rows(*rows), KEYRING, "closer-1").read([])  # type: ignore[arg-type]


async def test_a_row_is_read_with_its_outcome() -> None:
    """The request as JSON, as the workflow gets it; the outcome once there is one."""
    running, ended = await read(stored("r1"), stored("r2", ended=True))
    assert (running.key, running.request, running.outcome) == (RequestKey("alice", "r1"), dump(accepted("r1")), None)
    assert (ended.outcome, ended.completed_at, ended.prompt_hash) == (DONE, NOW + 1.0, "hash")


async def test_a_row_that_nobody_can_read_is_left_out() -> None:
    """Its key is gone, or it was moved from another row: the others are closed all the same."""
    lost = stored("r1", Keyring(["bG9zdCBrZXkgbG9zdCBrZXkgbG9zdCBrZXkgbG9zdCE="]))
    moved = {**stored("r2"), "request": stored("r3")["request"]}
    sealed = KEYRING.encrypt(b"{", payload_place(accepted("r4").key, "outcome"))
    broken = {**stored("r4", ended=True), "ciphertext": sealed}
    found = await read(lost, moved, stored("r5"), broken)
    assert [row.key.request_id for row in found] == ["r5"]
