"""Taking over a request of another process: only when that process is dead, only once, and never deciding anew."""

import asyncio
import time
from dataclasses import replace

import structlog

from activities.requests.controller import FlightController
from activities.requests.flight import Flight, FlightRegistry
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.retries import FALLBACK_SEQ
from modelpilot.requests.outcome import Attempt, Outcome
from modelpilot.requests.ports import Leases, Ledger
from modelpilot.requests.records import RouterSnapshot
from modelpilot.requests.route_request import RouteRequestInput
from modelpilot.routing.router import Router
from modelpilot.wire.jsonb import load

log = structlog.get_logger(__name__)

POLL_S = 0.2
# An owner that lives but has not recorded an outcome this long after the request's total time has lost it.
LOST_AFTER_S = 30.0


class Recovery:
    """Finds out who may call the provider: in-flight entry → ledger → living owner → this process."""

    def __init__(
        self,
        registry: FlightRegistry,
        controller: FlightController,
        ledger: Ledger,
        leases: Leases,
        poll_s: float = POLL_S,
    ) -> None:
        self._registry, self._controller = registry, controller
        self._ledger, self._leases = ledger, leases
        self._poll_s = poll_s

    async def resume(self, request: RouteRequestInput) -> Outcome:
        """The outcome of the first phase of a request that has no entry here, however long that takes."""
        while True:
            flight = self._registry.find(request.key)
            if flight is not None:
                return await asyncio.shield(flight.first)
            try:
                outcome = await self._recorded(request) or await self._take_over(request)
            except DependencyUnavailable:
                outcome = None  # without Postgres nobody knows what was spent, so nothing is
            if outcome is not None:
                return outcome
            await asyncio.sleep(self._poll_s)

    async def _recorded(self, request: RouteRequestInput) -> Outcome | None:
        stored = await self._ledger.find(request.key)
        if stored is not None:
            return stored.record.outcome
        attempts = await self._ledger.find_attempts(request.key)
        return _first_phase_of(request, attempts) if attempts else None

    async def _take_over(self, request: RouteRequestInput) -> Outcome | None:
        mine = self._registry.instance
        if request.owner != mine and await self._leases.is_alive(request.owner):
            return _lost(request) if time.time() > _lost_at(request) else None
        if await self._leases.claim(request.key, mine, request.owner) != mine:
            return None
        flight = self._registry.find(request.key) or await self.reopen(request)
        return await asyncio.shield(flight.first)

    async def reopen(self, request: RouteRequestInput) -> Flight:
        """A flight of this process for the request, launched, with the whole of its time before it again: a client
        that comes back after a crash wants its answer, not a timeout."""
        profile, snapshot = await self.profile(request), await self._snapshot(request)
        other = self._registry.find(request.key)
        if other is not None:  # a second task of the same request was quicker while the body was read
            return other
        log.info("request_taken_over", request_id=request.request_id, previous=request.owner)
        flight = _recovered(request, profile, snapshot)
        self._registry.add(flight)
        self._controller.launch(flight)
        return flight

    async def adopt(self, request: RouteRequestInput, first: Outcome) -> Flight:
        """An entry here for a request whose first phase ended elsewhere, so that the later steps have one to use."""
        profile, snapshot = await self.profile(request), await self._snapshot(request)
        stored = await self._ledger.find(request.key)
        other = self._registry.find(request.key)
        if other is not None:
            return other
        flight = _recovered(request, profile, snapshot)
        flight.first.set_result(first)
        if stored is not None:
            flight.record = stored.record
            flight.recorded.set_result(None)
            flight.final.set_result(stored.record.outcome)
        self._registry.add(flight)
        return flight

    async def _snapshot(self, request: RouteRequestInput) -> RouterSnapshot:
        providers = await self._controller.caller.look_up(request.user_id, request.plan)
        return replace(snapshot_of(request), providers=providers)

    async def profile(self, request: RouteRequestInput) -> RequestProfile:
        """The request read again from its body, which is in the input or, if large, in the ledger. Where that has
        expired, the profile has an empty body, with which no provider is called."""
        raw = request.body.encode() if request.body is not None else await self._ledger.get_body(request.key)
        body = load(raw) if raw else {"messages": [{"role": "user", "content": ""}]}
        profile = profile_request(body, ChatBody.model_validate(body))
        return profile if raw else replace(profile, body={})


def _recovered(request: RouteRequestInput, profile: RequestProfile, snapshot: RouterSnapshot) -> Flight:
    """A flight of a request that another process accepted: Temporal has it, and its outcome is committed first."""
    flight = Flight(request, profile, snapshot, None, {}, time.monotonic(), commit_first=True)
    flight.degraded.append("recovered")
    flight.acknowledge(started=True)
    return flight


def snapshot_of(request: RouteRequestInput) -> RouterSnapshot:
    """As much of the router as a request that is already decided needs, with the models that it was accepted with: a
    catalogue changed meanwhile cannot strand it."""
    models = {name: ModelSpec.model_validate(spec) for name, spec in request.plan.specs.items()}
    router = Router(id=request.router_id or "direct", available_models=[request.plan.model])
    return RouterSnapshot(request.user_id, router, request.config_version, models, {})


def _first_phase_of(request: RouteRequestInput, attempts: tuple[Attempt, ...]) -> Outcome | None:
    """Attempts without a terminal row: the first phase failed, and the fallback was to go on."""
    first = tuple(attempt for attempt in attempts if attempt.seq < FALLBACK_SEQ)
    if not first:
        return None
    last = first[-1]
    return Outcome(
        status="failed",
        model=last.model,
        provider=last.provider,
        attempts=first,
        error_code=last.error_type,
        error_message=last.message,
        error_status=last.http_status,
        can_fall_back=True,
        remaining_ms=float(request.plan.total_ms),
    )


def _lost_at(request: RouteRequestInput) -> float:
    return request.created_at + request.plan.total_ms / 1000.0 + LOST_AFTER_S


def _lost(request: RouteRequestInput) -> Outcome:
    log.error("request_lost_by_owner", request_id=request.request_id, owner=request.owner)
    text = "the gateway that accepted the request never said how it ended"
    provider = str(request.plan.specs[request.plan.model]["provider"])
    return Outcome("failed", request.plan.model, provider, error_code="timeout_total", error_message=text)
