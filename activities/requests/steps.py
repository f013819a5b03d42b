"""The steps of a request's workflow as Temporal activities: they join what the gateway does, and report it.

Where this process holds no flight to join, they report the decision as it was made, recover the provider call, and
store what came of it.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.requests.call import CallContext, Sleep, slept
from activities.requests.controller import FlightController
from activities.requests.decision import DecisionSteps
from activities.requests.failures import canceled_outcome, with_earlier
from activities.requests.flight import Flight, FlightRegistry
from activities.requests.recording import history_point, without_large_answer
from activities.requests.recovery import Recovery
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.retries import FALLBACK_SEQ, MAXIMUM_WAIT_S, fallback_model, fallback_wait_s
from modelpilot.requests.outcome import Attempt, Outcome
from modelpilot.requests.ports import History, Ledger
from modelpilot.requests.records import HistoryPoint, RequestRecord, Vector
from modelpilot.requests.route_request import CallReport, FallbackInput, RouteRequestInput, StepInput, StepReport

log = structlog.get_logger(__name__)

HEARTBEAT_S = 2.0
Result = TypeVar("Result")


class RoutingActivities:
    """`load_router`, `embed_prompt`, `query_history`, `score_models`.

    The decision is part of the workflow's input, so a recovery has nothing to compute here: it reports the decision
    as it was made.
    """

    def __init__(self, registry: FlightRegistry) -> None:
        self._registry = registry

    @activity.defn
    async def load_router(self, step: StepInput) -> StepReport:
        """The router's version and how many models it has."""
        return self._report("load_router", step)

    @activity.defn
    async def embed_prompt(self, step: StepInput) -> StepReport:
        """Which embedder was used."""
        return self._report("embed_prompt", step)

    @activity.defn
    async def query_history(self, step: StepInput) -> StepReport:
        """How many neighbours were found."""
        return self._report("query_history", step)

    @activity.defn
    async def score_models(self, step: StepInput) -> StepReport:
        """Which model was selected."""
        return self._report("score_models", step)

    def _report(self, name: str, step: StepInput) -> StepReport:
        flight = self._registry.get(step.nonce)
        if flight is not None and name in flight.reports:
            return flight.reports[name]
        if step.request is None:
            return StepReport(missing=True)
        decision = step.request.decision
        return StepReport(
            joined=False,
            detail={"decided": decision.get("selectedModel"), "configVersion": step.request.config_version},
        )


class ProviderActivities:
    """`call_provider` (local, joins the in-flight call) and `call_fallback` (its RetryPolicy is the backoff)."""

    def __init__(
        self,
        registry: FlightRegistry,
        controller: FlightController,
        recovery: Recovery,
        ledger: Ledger,
        sleep: Sleep = slept,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._registry, self._controller, self._recovery = registry, controller, recovery
        self._ledger, self._sleep, self._heartbeat_s = ledger, sleep, heartbeat_s

    @activity.defn
    async def call_provider(self, step: StepInput) -> CallReport:
        """The outcome of the first phase: from the flight here, from the ledger, or from a call of our own."""
        flight = self._registry.get(step.nonce)
        if flight is not None:
            outcome = await asyncio.shield(flight.first)
        elif step.request is None:
            return CallReport(missing=True)
        else:
            outcome = await self._recovery.resume(step.request)
        return CallReport(without_large_answer(outcome))

    @activity.defn
    async def call_fallback(self, work: FallbackInput) -> Outcome:
        """Fallback attempt i (0-based) on `fallback_models[i mod n]`.

        Returns the terminal outcome of the request, committed. Raises ApplicationError, retryable, while attempts
        are left: the wait until the next one is the RetryPolicy's, or the provider's own Retry-After where the next
        model is the same one.
        """
        number = activity.info().attempt - 1
        flight = self._registry.find(work.request.key) or await self._recovery.adopt(work.request, work.failed)
        if flight.record is None:
            earlier = await self._earlier(work.request) if number else ()
            outcome = await self._attempt(flight, work, number, earlier)
            if outcome.status == "canceled" and _shutting_down():
                await self._controller.keep_attempts(work.request, outcome)
                raise ApplicationError("this worker is shutting down", type="worker_shutdown")  # another one goes on
            if _tries_again(work.request, outcome, number):
                context = self._controller.context(flight, 0.0)
                following = self._model(context, (*earlier, *outcome.attempts), number + 1)
                asked_s = self._asked_wait_s(context, outcome, following)
                wait_s = fallback_wait_s(number + 1) if asked_s is None else asked_s
                if wait_s * 1000.0 < _left_ms(work):
                    await self._controller.keep_attempts(work.request, outcome)
                    raise _next_attempt(outcome, asked_s)
            attempts = (*work.failed.attempts, *await self._earlier(work.request))
            await self._controller.conclude(flight, with_earlier(outcome, attempts))
        outcome = await asyncio.shield(flight.final)
        return without_large_answer(outcome)

    async def _attempt(self, flight: Flight, work: FallbackInput, number: int, earlier: Sequence[Attempt]) -> Outcome:
        if flight.abandoned:
            return canceled_outcome((), work.failed.model, work.failed.provider)
        context, caller = self._controller.context(flight, _left_ms(work)), self._controller.caller
        model = self._model(context, earlier, number)
        # The first fallback is immediate, unless it is the model that has just asked for a wait, which has to fit.
        asked_s = self._asked_wait_s(context, work.failed, model) if number == 0 else None
        wait_s = asked_s if asked_s is not None and asked_s < context.remaining_s() else 0.0
        if wait_s > 0.0 and not await self._cancelable(flight, self._sleep(wait_s)):
            return canceled_outcome((), work.failed.model, work.failed.provider)
        target = caller.choose(context, model)
        return await self._cancelable(flight, caller.watched_call(context, target, FALLBACK_SEQ + number))

    async def _cancelable(self, flight: Flight, work: Coroutine[None, None, Result]) -> Result:
        """The result of `work`, which a client that leaves cancels; then it says so in its result."""
        task = asyncio.ensure_future(work)
        flight.task, flight.calling = task, True
        try:
            return await _with_heartbeats(task, self._heartbeat_s)
        finally:
            flight.calling = False

    def _model(self, context: CallContext, earlier: Sequence[Attempt], number: int) -> str:
        """The model of fallback attempt `number`, passing over those that something known here speaks against."""
        tried = [attempt.model for attempt in earlier if attempt.seq >= FALLBACK_SEQ]
        may_call = partial(self._controller.caller.may_call, context)
        return fallback_model(context.plan.fallback_models, number, tried, may_call)

    def _asked_wait_s(self, context: CallContext, failed: Outcome, model: str) -> float | None:
        """The Retry-After of the call that failed, at most a minute, where `model` is the same one and can only be
        called there again; None where there is nothing to heed."""
        if failed.retry_after_s is None or model != failed.model:
            return None
        if self._controller.caller.has_alternative(context, failed):
            return None
        return min(failed.retry_after_s, MAXIMUM_WAIT_S)

    async def _earlier(self, request: RouteRequestInput) -> tuple[Attempt, ...]:
        try:
            return await self._ledger.find_attempts(request.key)
        except DependencyUnavailable:
            return ()  # the outcome then lists this attempt and the first phase's only


class PerformanceActivities:
    """`store_performance`: local where all goes well, ordinary with retries where Postgres is away."""

    def __init__(
        self,
        registry: FlightRegistry,
        controller: FlightController,
        recovery: Recovery,
        steps: DecisionSteps,
        history: History,
        ledger: Ledger,
    ) -> None:
        self._registry, self._controller, self._recovery = registry, controller, recovery
        self._steps, self._history, self._ledger = steps, history, ledger

    @activity.defn
    async def store_performance(self, step: StepInput) -> StepReport:
        """Idempotent: the row by its request id, the point by its own id. Raises while Postgres is away."""
        began = time.perf_counter()
        flight = self._registry.get(step.nonce)
        if flight is None:
            if step.request is None or step.outcome is None:
                return StepReport(missing=True)
            flight = self._registry.find(step.request.key)
            flight = flight or await self._recovery.adopt(step.request, step.outcome)
        record = await self._controller.ensure_recorded(flight, step.outcome)
        point = await self._point(flight, record)
        stored = point is not None and await self._store(point)
        flight.stored_at = time.monotonic()
        detail = {"row": True, "point": point.point_id if point else None, "outbox": bool(point) and not stored}
        return StepReport(duration_ms=round((time.perf_counter() - began) * 1000.0, 3), detail=detail)

    async def _point(self, flight: Flight, record: RequestRecord) -> HistoryPoint | None:
        vector: Vector | None = flight.vector
        if vector is None:
            try:
                vector = await self._steps.embed(flight.profile.text)
            except DependencyUnavailable:
                log.warning("history_point_lost", request_id=record.key.request_id)
                return None
        return history_point(record, vector)

    async def _store(self, point: HistoryPoint) -> bool:
        try:
            await self._history.store(point)
        except DependencyUnavailable:
            await self._ledger.put_outbox(point)
            return False
        return True


def _tries_again(request: RouteRequestInput, outcome: Outcome, number: int) -> bool:
    return outcome.status == "failed" and outcome.can_fall_back and number + 1 < request.plan.retry_attempts


def _shutting_down() -> bool:
    """Whether it is this worker that ends, and not the request."""
    details = activity.cancellation_details()
    return details is not None and details.worker_shutdown and not details.cancel_requested


def _next_attempt(outcome: Outcome, wait_s: float | None) -> ApplicationError:
    """The error that makes Temporal schedule the next attempt, after `wait_s` or the policy's wait."""
    return ApplicationError(
        f"{outcome.model}: {outcome.error_code}",
        type=outcome.error_code or "provider_error",
        next_retry_delay=None if wait_s is None else timedelta(seconds=wait_s),
        category=ApplicationErrorCategory.BENIGN,  # providers fail; that is no error of this worker's
    )


def _left_ms(work: FallbackInput) -> float:
    """What is left of the request's total time."""
    return work.failed.remaining_ms - (datetime.now(UTC) - activity.info().scheduled_time).total_seconds() * 1000.0


async def _with_heartbeats(call: "asyncio.Task[Result]", every_s: float) -> Result:
    """Wait for a call or a pause, telling Temporal that this worker lives; a cancelled request cancels the call."""
    while not call.done():
        activity.heartbeat()
        try:
            await asyncio.wait({call}, timeout=every_s)
        except asyncio.CancelledError:
            call.cancel()  # it ends as a canceled outcome, with its cost
            break
    return await call
