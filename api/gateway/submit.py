"""Submitting a request: name it, decide, launch it; or join one that runs or has ended."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakValueDictionary

from activities.requests.acceptance import Acceptance
from activities.requests.caches import RouterCache
from activities.requests.controller import FlightController
from activities.requests.decision import Decided, DecisionSteps
from activities.requests.flight import Flight, FlightRegistry, State
from activities.requests.recording import Mac
from api.gateway.receive import ReceivedRequest, Submission, open_flight
from modelpilot.chat.profile import profile_request
from modelpilot.errors import (
    Conflict,
    DependencyUnavailable,
    IdempotencyMismatch,
    ModelPilotError,
    NotFound,
)
from modelpilot.requests.outcome import INLINE_LIMIT_BYTES
from modelpilot.requests.ports import Ledger
from modelpilot.requests.records import NameKind, RequestKey, RequestRecord, Reservation, RouterSnapshot
from modelpilot.routing.preferences import followed

# Between two looks for the end of a request that another process carries.
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Naming:
    """A request's id. `held`: somebody asked under its name before; `fresh`: the names that this request reserved."""

    request_id: str
    held: bool = False
    fresh: tuple[tuple[NameKind, str], ...] = ()


class RequestNames:
    """Reserves the names that clients give their requests (an Idempotency-Key, or an x-request-id of their own), and
    gives them back where their request was refused."""

    def __init__(self, ledger: Ledger, mac: Mac) -> None:
        self._ledger, self._mac = ledger, mac

    async def reserve(self, received: ReceivedRequest) -> Naming:
        """Reserve what the client named; the key decides where there are both.

        Raises IdempotencyMismatch or Conflict where a name stands for another request of the same owner.
        """
        names = _names(received)
        request_id = self._request_id(received)
        held = False
        fresh: tuple[tuple[NameKind, str], ...] = ()
        for kind, name in names:
            reservation = await self._ledger.reserve(
                received.principal.user_id, kind, name, received.digest, request_id
            )
            if not _is_ours(reservation, received, request_id):
                await self.release(received, Naming(request_id, held, fresh))
                raise _taken(kind)
            held = held or (kind == names[0][0] and not reservation.fresh)
            fresh += ((kind, name),) if reservation.fresh else ()
        return Naming(request_id, held, fresh)

    async def release(self, received: ReceivedRequest, naming: Naming) -> None:
        """Free the names that this request reserved: it was refused, so another body may have them."""
        # With the database away they stay reserved for this body.
        with suppress(DependencyUnavailable):
            for kind, name in naming.fresh:
                await self._ledger.release(received.principal.user_id, kind, name, naming.request_id)

    def _request_id(self, received: ReceivedRequest) -> str:
        if received.idempotency_key is not None:
            named = f"{received.principal.user_id}\x00{received.idempotency_key}"
            return "key_" + self._mac("idempotency-key", named.encode()).hex()[:32]
        return received.client_name or f"req_{secrets.token_hex(16)}"


def _names(received: ReceivedRequest) -> tuple[tuple[NameKind, str], ...]:
    given: tuple[tuple[NameKind, str | None], ...] = (
        ("idempotency-key", received.idempotency_key),
        ("request-id", received.client_name),
    )
    return tuple((kind, name) for kind, name in given if name is not None)


def _is_ours(reservation: Reservation, received: ReceivedRequest, request_id: str) -> bool:
    return reservation.body_digest == received.digest and reservation.request_id == request_id


def _taken(kind: NameKind) -> IdempotencyMismatch | Conflict:
    if kind == "idempotency-key":
        return IdempotencyMismatch("This Idempotency-Key was used with another body", param="Idempotency-Key")
    return Conflict("This x-request-id names another request of yours", param="x-request-id")


class Submissions:
    """The requests of one gateway."""

    def __init__(
        self,
        *,
        configuration: RouterCache,
        steps: DecisionSteps,
        controller: FlightController,
        acceptance: Acceptance,
        registry: FlightRegistry,
        ledger: Ledger,
        mac: Mac,
        poll_s: float = POLL_S,
    ) -> None:
        self._configuration, self._steps, self._controller = configuration, steps, controller
        self._acceptance, self._registry, self._ledger = acceptance, registry, ledger
        self._names = RequestNames(ledger, mac)
        self._poll_s = poll_s
        self._naming: WeakValueDictionary[RequestKey, asyncio.Lock] = WeakValueDictionary()

    async def decide(self, received: ReceivedRequest, *, explore: bool = True) -> Decided:
        """The decision alone, without calling a provider; without `explore`, the one that exploration replaces."""
        profile = profile_request(received.body, received.checked)
        return await self._steps.decide(self._loader(received), profile, explore=explore)

    async def prompt_tokens(self, received: ReceivedRequest) -> int:
        """The size of the prompt (see `DecisionSteps.prompt_tokens`). Raises NotFound for an unknown target, as
        `submit` would."""
        snapshot = await self._loader(received)()
        return self._steps.prompt_tokens(snapshot, profile_request(received.body, received.checked))

    async def submit(self, received: ReceivedRequest) -> Submission:
        """Take a request. Raises what stands in its way; then nothing was spent."""
        named = bool(_names(received))
        self._acceptance.check(needs_ledger=named or len(received.raw) > INLINE_LIMIT_BYTES)
        self._registry.check_room()
        if received.is_repeat and received.idempotency_key is None:
            running = self._registry.find_running(received.principal.user_id, received.router_id, received.raw)
            if running is not None:
                return _joined(running)
        if not named:
            key = RequestKey(received.principal.user_id, f"req_{secrets.token_hex(16)}")
            return Submission(key, self._launch(received, key, await self.decide(received)), owned=True)
        return await self._submit_named(received)

    async def _submit_named(self, received: ReceivedRequest) -> Submission:
        naming = await self._names.reserve(received)
        key = RequestKey(received.principal.user_id, naming.request_id)
        # Within this process, repeats of a named request wait until the first has an entry to join.
        async with self._naming.setdefault(key, asyncio.Lock()):
            existing = await self._existing(key) if naming.held else None
            if existing is not None:
                return existing
            try:
                decided = await self.decide(received)
            except ModelPilotError:
                await self._names.release(received, naming)
                raise
            kept = naming.held or received.idempotency_key is not None
            flight = self._launch(received, key, decided, named=True, kept=kept)
        submission = Submission(key, flight, owned=True)
        try:
            await asyncio.shield(flight.accepted)
        except Conflict:
            # Another gateway accepted the same request a moment earlier.
            return Submission(key, record=await self._ended_elsewhere(key))
        except asyncio.CancelledError:
            await self.abandon(submission)
            raise
        return submission

    async def _existing(self, key: RequestKey) -> Submission | None:
        """The request that holds the name: in flight here, ended, or running elsewhere (then its end is awaited)."""
        flight = self._registry.find(key)
        if flight is not None and flight.state is not State.REFUSED:
            return _joined(flight)
        stored = await self._ledger.find(key)
        if stored is not None:
            return Submission(key, record=stored.record)
        if not await self._ledger.is_open(key):
            return None
        return Submission(key, record=await self._ended_elsewhere(key))

    async def find(self, key: RequestKey) -> RequestRecord | None:
        """The end of an earlier request, awaited while it runs; None: there is no such request."""
        flight = self._registry.find(key)
        if flight is not None and flight.state is not State.REFUSED:
            return await asyncio.shield(flight.ended)
        is_open = await self._ledger.is_open(key)  # first: what is not open any more has its row by now
        stored = await self._ledger.find(key)
        if stored is not None:
            return stored.record
        return await self._ended_elsewhere(key) if is_open else None

    async def _ended_elsewhere(self, key: RequestKey) -> RequestRecord:
        """The row of a request that another process carries to its end, which is awaited."""
        while True:
            is_open = await self._ledger.is_open(key)
            stored = await self._ledger.find(key)
            if stored is not None:
                return stored.record
            if not is_open:
                raise DependencyUnavailable("The request has ended, but its outcome is not to be had")
            await asyncio.sleep(self._poll_s)

    def _launch(
        self, received: ReceivedRequest, key: RequestKey, decided: Decided, *, named: bool = False, kept: bool = False
    ) -> Flight:
        flight = open_flight(received, key, decided, self._registry.instance, named=named, kept=kept)
        self._controller.launch(flight)
        return flight

    def _loader(self, received: ReceivedRequest) -> Callable[[], Awaitable[RouterSnapshot]]:
        user_id, router_id, model_id = received.principal.user_id, received.router_id, received.model_id
        wanted, configuration = received.preferences, self._configuration

        async def load() -> RouterSnapshot:
            if router_id is not None:
                found = await configuration.router_snapshot(user_id, router_id)
            else:
                found = await configuration.direct_snapshot(user_id, model_id or "", *(wanted.names if wanted else ()))
            return found if wanted is None else followed(found, wanted)

        return load

    async def ended(self, submission: Submission) -> RequestRecord:
        """The terminal row with its outcome, wherever the request is carried. Raises what refused it."""
        if submission.record is not None:
            return submission.record
        if submission.flight is None:
            raise NotFound("There is no such request")
        try:
            return await asyncio.shield(submission.flight.ended)
        except Conflict:  # who joined a request that another gateway had accepted a moment earlier
            return await self._ended_elsewhere(submission.key)

    async def abandon(self, submission: Submission) -> None:
        """The client went away. Its request goes on where another client waits for it, or where this one can come back
        for the answer with its name."""
        flight = submission.flight
        if flight is None:
            return
        if submission.owned and flight.sink is not None:
            flight.sink.close()
        flight.waiting -= 1
        if flight.waiting == 0 and not flight.kept:
            self._controller.abandon(flight)


def _joined(flight: Flight) -> Submission:
    """A further client of a request that runs here."""
    flight.waiting += 1
    return Submission(flight.key, flight)
