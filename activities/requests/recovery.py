"""Carrying on a request that another process accepted: only when that process is dead, only once per call, and never
deciding anew."""

import asyncio
import time
from dataclasses import replace
from functools import partial

import structlog

from activities.requests.call import CallContext, ModelCaller
from activities.requests.decision import DecisionSteps
from activities.requests.failures import made_up_outcome, outcome_of_attempts, with_earlier
from activities.requests.recording import Mac, build_record, history_point, without_text
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.errors import DependencyUnavailable, InvalidRequest
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.retries import FALLBACK_SEQ
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.ports import Leases, Ledger
from modelpilot.requests.records import HistoryPoint, RequestRecord, RouterSnapshot, Vector
from modelpilot.requests.route_request import RouteRequestInput
from modelpilot.routing.router import Router
from modelpilot.wire.jsonb import load

log = structlog.get_logger(__name__)

POLL_S = 0.2
SLOW_POLL_S = 2.0  # while the ledger is away


class Recovery:
    """Finds out who may call the provider: ledger → living owner → this process; and records what came of it."""

    def __init__(
        self,
        instance: str,
        caller: ModelCaller,
        steps: DecisionSteps,
        ledger: Ledger,
        leases: Leases,
        mac: Mac,
        poll_s: float = POLL_S,
        slow_poll_s: float = SLOW_POLL_S,
    ) -> None:
        self.instance, self._caller, self._steps = instance, caller, steps
        self._ledger, self._leases, self._mac = ledger, leases, mac
        self._poll_s, self._slow_poll_s = poll_s, slow_poll_s

    async def first_phase(self, request: RouteRequestInput) -> Outcome:
        """The outcome of the first phase, however long that takes."""
        while True:
            try:
                outcome = await self._recorded(request) or await self._take_over(request)
                pause_s = self._poll_s
            except DependencyUnavailable:
                # Without Postgres nobody knows what was spent, so nothing is.
                outcome, pause_s = None, self._slow_poll_s
            if outcome is not None:
                return outcome
            await asyncio.sleep(pause_s)

    async def _recorded(self, request: RouteRequestInput) -> Outcome | None:
        stored = await self._ledger.find(request.key)
        if stored is not None:
            return stored.record.outcome
        # Attempts without a terminal row: the first phase failed, and the fallback was to go on.
        attempts = await self._ledger.find_attempts(request.key)
        first = [attempt for attempt in attempts if attempt.seq < FALLBACK_SEQ]
        return outcome_of_attempts(first, float(request.plan.total_ms))

    async def _take_over(self, request: RouteRequestInput) -> Outcome | None:
        """The outcome of a call of our own, which has the whole time of the request before it: a client that comes back
        after a crash wants its answer, not a timeout."""
        if not await self._leases.claim_call(request.key, 0, self.instance, request.owner):
            return None
        log.info("request_taken_over", request_id=request.request_id, previous=request.owner)
        context = await self.context(request, float(request.plan.total_ms))
        return await self._caller.first_phase(context)

    async def context(self, request: RouteRequestInput, left_ms: float) -> CallContext:
        """The context of calls that this process makes for the request."""
        profile, providers = await self.profile(request), await self._caller.look_up(request.user_id, request.plan)
        snapshot = replace(snapshot_of(request), providers=providers)
        claim = partial(self._leases.claim_call, request.key)
        return CallContext.of(request, profile, snapshot, left_ms, lambda seq: claim(seq, self.instance))

    async def profile(self, request: RouteRequestInput) -> RequestProfile:
        """The request read again from its body, which is in the input or, if large, in the ledger. Where that has
        expired, the profile has an empty body, with which no provider is called."""
        raw = request.body.encode() if request.body is not None else await self._ledger.get_body(request.key)
        return _read(raw)

    async def keep_first(self, request: RouteRequestInput, outcome: Outcome) -> None:
        """Commit how the first phase ended: the whole request with it, or that the fallback goes on."""
        if request.may_fall_back(outcome):
            await self._ledger.hand_over(request.key, outcome.attempts)
        else:
            await self.record(request, outcome)

    async def keep_attempts(self, request: RouteRequestInput, outcome: Outcome) -> None:
        """Commit the attempts of a request that goes on elsewhere."""
        await self._ledger.record_attempts(request.key, outcome.attempts)

    async def record(self, request: RouteRequestInput, outcome: Outcome) -> RequestRecord:
        """The terminal row, committed: the one that stands where there is one. Raises DependencyUnavailable."""
        stored = await self._ledger.find(request.key)
        if stored is not None:
            return stored.record
        profile = await self.profile(request)
        # The workflow knows nothing of fallback attempts that failed in between, but they cost as well.
        whole = with_earlier(outcome, await self._ledger.find_attempts(request.key))
        degraded = (*request.decision.get("degraded", ()), "recovered")
        record = build_record(
            request,
            profile,
            replace(whole, can_fall_back=False),
            mac=self._mac,
            elapsed_ms=(time.time() - request.created_at) * 1000.0,
            degraded=tuple(degraded),
        )
        try:
            await self._ledger.record(record, await self._point(record, profile))
        except InvalidRequest:
            # Tried again as it is, it would be tried for ever.
            log.exception("record_refused", request_id=request.request_id)
            await self._ledger.record(without_text(record))
        return record

    async def _point(self, record: RequestRecord, profile: RequestProfile) -> HistoryPoint | None:
        try:
            vector: Vector = await self._steps.embed(profile.text)
        except DependencyUnavailable:
            log.warning("history_point_lost", request_id=record.key.request_id)
            return None
        return history_point(record, vector)


def _read(raw: bytes | None) -> RequestProfile:
    body = load(raw) if raw else {"messages": [{"role": "user", "content": ""}]}
    profile = profile_request(body, ChatBody.model_validate(body))
    return profile if raw else replace(profile, body={})


async def record_lost(ledger: Ledger, mac: Mac, request: RouteRequestInput) -> None:
    """The terminal row of a request whose workflow was ended by hand. Raises DependencyUnavailable."""
    outcome = made_up_outcome(request, "internal_error", "the request's workflow was terminated")
    made = await ledger.find_attempts(request.key)
    profile = _read(request.body.encode() if request.body is not None else None)
    record = build_record(
        request, profile, with_earlier(outcome, made), mac=mac, elapsed_ms=0.0, degraded=("recovered",)
    )
    await ledger.record(record)


def snapshot_of(request: RouteRequestInput) -> RouterSnapshot:
    """As much of the router as a request that is already decided needs, with the models that it was accepted with: a
    catalogue changed meanwhile cannot strand it."""
    models = {name: ModelSpec.model_validate(spec) for name, spec in request.plan.specs.items()}
    router = Router(id=request.router_id or "direct", available_models=[request.plan.model])
    return RouterSnapshot(request.user_id, router, request.config_version, models, {})
