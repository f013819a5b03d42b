"""The provider steps: the first call, joined or recovered, and the fallback with its durable backoff."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.failures import canceled_outcome, with_earlier
from activities.flights import FlightController, answer_size
from activities.health import deployment_of
from activities.inflight import Flight, FlightRegistry
from activities.recording import without_large_answer
from activities.recovery import Recovery
from modelpilot.backoff import FALLBACK_SEQ, MAXIMUM_WAIT_S, fallback_model
from modelpilot.errors import DependencyUnavailable
from modelpilot.messages import CallReport, FallbackInput, RouteRequestInput, StepInput
from modelpilot.outcome import Attempt, Outcome
from modelpilot.ports import Ledger

HEARTBEAT_S = 2.0


class ProviderActivities:
    """`call_provider` (local, joins the in-flight call) and `call_fallback` (its RetryPolicy is the backoff)."""

    def __init__(
        self,
        registry: FlightRegistry,
        controller: FlightController,
        recovery: Recovery,
        ledger: Ledger,
    ) -> None:
        self._registry, self._controller, self._recovery = registry, controller, recovery
        self._ledger = ledger

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
        return CallReport(without_large_answer(outcome, answer_size(outcome)))

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
            outcome = await self._attempt(flight, work, number)
            if outcome.status == "canceled" and _shutting_down():
                await self._controller.keep_attempts(work.request, outcome)
                raise ApplicationError("this worker is shutting down", type="worker_shutdown")  # another one goes on
            if _tries_again(work.request, outcome, number):
                await self._controller.keep_attempts(work.request, outcome)
                raise _next_attempt(self._callable(work.request), outcome, number)
            earlier = (*work.failed.attempts, *await self._earlier(work.request))
            await self._controller.conclude(flight, with_earlier(outcome, earlier))
        outcome = await asyncio.shield(flight.final)
        return without_large_answer(outcome, answer_size(outcome))

    async def _attempt(self, flight: Flight, work: FallbackInput, number: int) -> Outcome:
        if flight.abandoned:
            return canceled_outcome((), work.failed.model, work.failed.provider)
        caller, model = self._controller.caller, fallback_model(self._callable(work.request), number)
        caller.health.reserve(deployment_of(work.request.user_id, work.request.plan, model))
        context = self._controller.context(flight, work.failed.remaining_ms - _since_scheduled_ms())
        call = asyncio.ensure_future(caller.watched_call(context, model, FALLBACK_SEQ + number))
        flight.task, flight.calling = call, True
        try:
            return await _with_heartbeats(call)
        finally:
            flight.calling = False

    def _callable(self, request: RouteRequestInput) -> Sequence[str]:
        """The fallbacks that nothing known here speaks against, in order; all of them where none is left."""
        health, plan = self._controller.caller.health, request.plan
        free = [m for m in plan.fallback_models if health.why_not(deployment_of(request.user_id, plan, m)) is None]
        return free or plan.fallback_models

    async def _earlier(self, request: RouteRequestInput) -> tuple[Attempt, ...]:
        try:
            return await self._ledger.find_attempts(request.key)
        except DependencyUnavailable:
            return ()  # the outcome then lists this attempt and the first phase's only


def _tries_again(request: RouteRequestInput, outcome: Outcome, number: int) -> bool:
    return outcome.status == "failed" and outcome.can_fall_back and number + 1 < request.plan.retry_attempts


def _next_attempt(models: Sequence[str], outcome: Outcome, number: int) -> ApplicationError:
    """The error that makes Temporal schedule the next attempt, on the one of `models` whose turn it is."""
    wait_s = outcome.retry_after_s
    same_model = fallback_model(models, number + 1) == outcome.model
    delay = timedelta(seconds=min(wait_s, MAXIMUM_WAIT_S)) if same_model and wait_s is not None else None
    text = f"{outcome.model}: {outcome.error_code}"
    return ApplicationError(
        text,
        type=outcome.error_code or "provider_error",
        next_retry_delay=delay,
        category=ApplicationErrorCategory.BENIGN,  # providers fail; that is no error of this worker's
    )


def _shutting_down() -> bool:
    """Whether it is this worker that ends, and not the request."""
    details = activity.cancellation_details()
    return details is not None and details.worker_shutdown and not details.cancel_requested


def _since_scheduled_ms() -> float:
    return (datetime.now(UTC) - activity.info().scheduled_time).total_seconds() * 1000.0


async def _with_heartbeats(call: "asyncio.Task[Outcome]") -> Outcome:
    """Wait for the call, telling Temporal that this worker lives; a cancelled request cancels the call."""
    while not call.done():
        activity.heartbeat()
        try:
            await asyncio.wait({call}, timeout=HEARTBEAT_S)
        except asyncio.CancelledError:
            call.cancel()  # it ends as a canceled outcome, with its cost
            break
    return await call
