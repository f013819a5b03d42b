"""The names that clients give their requests: an Idempotency-Key, or an x-request-id of their own."""

import secrets
from contextlib import suppress
from dataclasses import dataclass

from activities.requests.recording import Mac
from api.accepted import Incoming
from modelpilot.errors import Conflict, DependencyUnavailable, IdempotencyMismatch
from modelpilot.requests.ports import Ledger
from modelpilot.requests.records import NameKind, Reservation


@dataclass(frozen=True, slots=True)
class Naming:
    """A request's id. `held`: somebody asked under its name before; `fresh`: the names that this request reserved."""

    request_id: str
    held: bool = False
    fresh: tuple[tuple[NameKind, str], ...] = ()


class RequestNames:
    """Reserves names, and gives them back where their request was refused."""

    def __init__(self, ledger: Ledger, mac: Mac) -> None:
        self._ledger, self._mac = ledger, mac

    async def reserve(self, incoming: Incoming) -> Naming:
        """Reserve what the client named; the key decides where there are both.

        Raises IdempotencyMismatch or Conflict where a name stands for another request of the same owner.
        """
        names = _names(incoming)
        request_id = self._request_id(incoming)
        held = False
        fresh: tuple[tuple[NameKind, str], ...] = ()
        for kind, name in names:
            reservation = await self._ledger.reserve(
                incoming.principal.user_id, kind, name, incoming.digest, request_id
            )
            if not _is_ours(reservation, incoming, request_id):
                await self.release(incoming, Naming(request_id, held, fresh))
                raise _taken(kind)
            held = held or (kind == names[0][0] and not reservation.fresh)
            fresh += ((kind, name),) if reservation.fresh else ()
        return Naming(request_id, held, fresh)

    async def release(self, incoming: Incoming, naming: Naming) -> None:
        """Free the names that this request reserved: it was refused, so another body may have them."""
        # With the database away they stay reserved for this body.
        with suppress(DependencyUnavailable):
            for kind, name in naming.fresh:
                await self._ledger.release(incoming.principal.user_id, kind, name, naming.request_id)

    def _request_id(self, incoming: Incoming) -> str:
        if incoming.idempotency_key is not None:
            named = f"{incoming.principal.user_id}\x00{incoming.idempotency_key}"
            return "key_" + self._mac("idempotency-key", named.encode()).hex()[:32]
        return incoming.client_name or f"req_{secrets.token_hex(16)}"


def _names(incoming: Incoming) -> tuple[tuple[NameKind, str], ...]:
    given: tuple[tuple[NameKind, str | None], ...] = (
        ("idempotency-key", incoming.idempotency_key),
        ("request-id", incoming.client_name),
    )
    return tuple((kind, name) for kind, name in given if name is not None)


def _is_ours(reservation: Reservation, incoming: Incoming, request_id: str) -> bool:
    return reservation.body_digest == incoming.digest and reservation.request_id == request_id


def _taken(kind: NameKind) -> IdempotencyMismatch | Conflict:
    if kind == "idempotency-key":
        return IdempotencyMismatch("This Idempotency-Key was used with another body", param="Idempotency-Key")
    return Conflict("This x-request-id names another request of yours", param="x-request-id")
