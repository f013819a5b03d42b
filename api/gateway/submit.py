"""Accepting a request: name it, decide, begin the call, start the workflow; or join one that runs or has ended."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import structlog

from activities.requests.caches import RouterCache
from activities.requests.controller import FlightController
from activities.requests.decision import Decided, DecisionSteps
from activities.requests.flight import BackgroundTasks, Flight, FlightRegistry
from activities.requests.recording import Mac
from api.gateway.receive import ReceivedRequest, Submission, open_flight
from modelpilot.chat.profile import profile_request
from modelpilot.errors import (
    Conflict,
    DependencyUnavailable,
    IdempotencyMismatch,
    InvalidRequest,
    ModelPilotError,
    NotFound,
    Overloaded,
)
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.ports import Ledger, WorkflowStarter
from modelpilot.requests.records import NameKind, RequestKey, RequestRecord, Reservation, RouterSnapshot

log = structlog.get_logger(__name__)

OVERLOAD_RETRY_AFTER_S = 1.0


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
    """The gateway's fast path. The answer leaves when the provider has answered and the start is acknowledged."""

    def __init__(
        self,
        *,
        configuration: RouterCache,
        steps: DecisionSteps,
        controller: FlightController,
        registry: FlightRegistry,
        ledger: Ledger,
        starter: WorkflowStarter,
        background: BackgroundTasks,
        mac: Mac,
        max_in_flight: int,
    ) -> None:
        self._configuration, self._steps, self._controller = configuration, steps, controller
        self._registry, self._ledger, self._starter = registry, ledger, starter
        self._background, self._names = background, RequestNames(ledger, mac)
        self._max_in_flight = max_in_flight
        self._naming: WeakValueDictionary[RequestKey, asyncio.Lock] = WeakValueDictionary()

    async def decide(self, received: ReceivedRequest, *, explore: bool = True) -> Decided:
        """The decision alone, without calling a provider; without `explore`, the one that exploration replaces."""
        profile = profile_request(received.body, received.checked)
        return await self._steps.decide(self._loader(received), profile, explore=explore)

    async def prompt_tokens(self, received: ReceivedRequest) -> int:
        """The estimated size of the prompt. Raises NotFound for an unknown target, as `submit` would."""
        await self._loader(received)()
        return profile_request(received.body, received.checked).prompt_tokens

    async def submit(self, received: ReceivedRequest) -> Submission:
        """Accept a request. Raises what stands in its way; then nothing was spent."""
        self._starter.check_up()
        if self._registry.active >= self._max_in_flight:
            raise Overloaded("This gateway is at its limit of requests in flight", retry_after_s=OVERLOAD_RETRY_AFTER_S)
        if received.is_repeat and received.idempotency_key is None:
            running = self._registry.find_running(received.principal.user_id, received.digest)
            if running is not None:
                return _joined(running)
        naming = await self._names.reserve(received)
        key = RequestKey(received.principal.user_id, naming.request_id)
        # Within this process, repeats of a named request wait until the first has an entry to join.
        async with self._naming.setdefault(key, asyncio.Lock()):
            existing = await self._existing(key) if naming.held else None
            if existing is None:
                existing = Submission(key, await self._begin(received, key, naming), owned=True)
        return await self._accepted(existing, named=received.client_name is not None)

    async def _begin(self, received: ReceivedRequest, key: RequestKey, naming: Naming) -> Flight:
        try:
            decided = await self.decide(received)
        except ModelPilotError:
            await self._names.release(received, naming)
            raise
        # Whoever holds the name already may have begun elsewhere in this instant: no call before Temporal has decided.
        return self._launch(received, key, decided, commit_first=naming.held or received.idempotency_key is not None)

    async def _existing(self, key: RequestKey) -> Submission | None:
        """The request that holds the name: in flight here, ended, or running elsewhere (then its end is awaited)."""
        flight = self._registry.find(key)
        if flight is not None and flight.refusal is None:
            return _joined(flight)
        stored = await self._ledger.find(key)
        if stored is not None:
            return Submission(key, record=stored.record)
        if not await self._starter.is_running(key):
            return None
        return Submission(key, record=await self._ended_elsewhere(key))

    async def _ended_elsewhere(self, key: RequestKey) -> RequestRecord:
        """The row of a request that another process carries to its end, which is awaited."""
        await self._starter.wait_closed(key)
        stored = await self._ledger.find(key)
        if stored is None:
            raise DependencyUnavailable("The request has ended, but its outcome is not to be had yet")
        return stored.record

    def _launch(self, received: ReceivedRequest, key: RequestKey, decided: Decided, *, commit_first: bool) -> Flight:
        flight = open_flight(received, key, decided, self._registry.instance, commit_first=commit_first)
        self._registry.add(flight)
        self._controller.launch(flight)
        self._background.spawn(self._start(flight, received.raw))
        return flight

    async def _accepted(self, submission: Submission, *, named: bool) -> Submission:
        """A request with a name is waited for until Temporal has it (no answer leaves before), since another gateway
        may have begun it as well; with `commit_first` its provider has not been called before."""
        flight = submission.flight
        if flight is None or not (flight.commit_first or named) or await self._acknowledged(submission, flight):
            return submission
        if not isinstance(flight.refusal, Conflict):
            raise flight.refusal or DependencyUnavailable("The request was not accepted")
        # Another gateway began the same request a moment earlier.
        await asyncio.shield(flight.final)
        existing = await self._existing(flight.key)
        if existing is None:
            raise DependencyUnavailable("The request has ended, but its outcome is not to be had yet")
        return existing

    async def _acknowledged(self, submission: Submission, flight: Flight) -> bool:
        try:
            return await asyncio.shield(flight.acknowledged)
        except asyncio.CancelledError:
            await self.abandon(submission)
            raise

    async def _start(self, flight: Flight, raw: bytes) -> None:
        try:
            if flight.request.body is None:
                await self._ledger.put_body(flight.key, raw)
            await self._starter.start(flight.request)
        except ModelPilotError as refusal:
            await self._refuse(flight, refusal)
        except Exception:
            # Whatever nobody thought of must not leave the client waiting for ever.
            log.exception("start_failed", request_id=flight.key.request_id)
            text = "The request could not be started"
            await self._refuse(flight, DependencyUnavailable(text, retry_after_s=OVERLOAD_RETRY_AFTER_S))
        else:
            flight.acknowledge(started=True)

    async def _refuse(self, flight: Flight, refusal: ModelPilotError) -> None:
        flight.refusal = refusal
        flight.acknowledge(started=False)
        self._controller.abandon(flight)
        await asyncio.shield(flight.final)
        # Should Temporal have it all the same, its steps find no entry here and recover the request. Only a client
        # with a key can come back for that.
        self._registry.remove(flight)
        if not flight.commit_first and isinstance(refusal, DependencyUnavailable):
            await self._cancel_workflow(flight.key)

    def _loader(self, received: ReceivedRequest) -> Callable[[], Awaitable[RouterSnapshot]]:
        user_id, router_id, model_id = received.principal.user_id, received.router_id, received.model_id
        if router_id is not None:
            return lambda: self._configuration.router_snapshot(user_id, router_id)
        if model_id is None:
            raise InvalidRequest("model: name a router (router/{id}) or a model of the catalogue", param="model")
        return lambda: self._configuration.direct_snapshot(user_id, model_id)

    async def outcome(self, submission: Submission) -> tuple[Outcome, RequestRecord]:
        """The terminal outcome and its row, wherever the rest of the request runs. Waits for the acknowledgement."""
        if submission.record is not None:
            return submission.record.outcome, submission.record
        flight = submission.flight
        if flight is None:
            raise NotFound("There is no such request")
        await asyncio.shield(flight.first)
        if flight.refusal is not None:
            raise flight.refusal
        if not flight.final.done():
            await self._follow(flight)
        outcome = flight.final.result()
        if flight.record is None:
            raise DependencyUnavailable("The outcome is not to be had yet")
        return outcome, replace(flight.record, outcome=outcome)

    async def _follow(self, flight: Flight) -> None:
        """Wait for the fallback's outcome: here, or in the process that Temporal gave a later attempt to."""
        elsewhere = asyncio.ensure_future(self._settle_from_elsewhere(flight))
        try:
            ends: set[asyncio.Future[Any]] = {flight.final, elsewhere}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not flight.final.done():
                await elsewhere  # raises what kept it
        finally:
            elsewhere.cancel()

    async def _settle_from_elsewhere(self, flight: Flight) -> None:
        record = await self._ended_elsewhere(flight.key)
        if not flight.final.done():
            flight.record = record
            flight.settle(record.outcome)
        # No step of this process will come any more: the entry may go at the next sweep.
        if not flight.recorded.done():
            flight.recorded.set_result(None)
        flight.stored_at = flight.stored_at or time.monotonic()

    async def abandon(self, submission: Submission) -> None:
        """The client went away. Its request goes on where another client waits for it, or where this one can come back
        for the answer with its key."""
        flight = submission.flight
        if flight is None:
            return
        if submission.owned and flight.sink is not None:
            flight.sink.close()
        flight.waiting -= 1
        if flight.waiting > 0 or flight.commit_first:
            return
        self._controller.abandon(flight)
        if flight.first.done() and not flight.final.done() and not flight.calling:
            self._background.spawn(self._cancel_workflow(flight.key))

    async def _cancel_workflow(self, key: RequestKey) -> None:
        try:
            await self._starter.cancel(key)
        except DependencyUnavailable:
            return  # it then runs to its end unseen; the health check has noted that Temporal is away


def _joined(flight: Flight) -> Submission:
    """A further client of a request that runs here."""
    flight.waiting += 1
    return Submission(flight.key, flight)
