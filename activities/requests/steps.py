"""The steps of a request's workflow as Temporal activities.

The gateway runs them in process, and the ledger keeps what they did; a worker runs them where a workflow lasts: it
reports the decision as it was made, recovers the provider call, falls back, and stores what came of it.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.requests.fallback import Fallbacks, NextAttempt
from activities.requests.recovery import Recovery
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.retries import fallback_wait_s
from modelpilot.requests.outcome import Outcome, without_large_answer
from modelpilot.requests.records import RequestKey
from modelpilot.requests.route_request import CallReport, FallbackInput, RouteRequestInput, StepReport, StoreInput

log = structlog.get_logger(__name__)

HEARTBEAT_S = 2.0
WORKER_SHUTDOWN = "worker_shutdown"  # the type of the failure that says that another worker should go on
Result = TypeVar("Result")


class RoutingActivities:
    """`load_router`, `embed_prompt`, `query_history`, `score_models`: the decision is part of the request, so there is
    nothing to compute: they report how it was made."""

    @activity.defn
    async def load_router(self, request: RouteRequestInput) -> StepReport:
        """The router's version and how many models it has."""
        return _report("load_router", request)

    @activity.defn
    async def embed_prompt(self, request: RouteRequestInput) -> StepReport:
        """Which embedder was used."""
        return _report("embed_prompt", request)

    @activity.defn
    async def query_history(self, request: RouteRequestInput) -> StepReport:
        """How many neighbours were found."""
        return _report("query_history", request)

    @activity.defn
    async def score_models(self, request: RouteRequestInput) -> StepReport:
        """Which model was selected."""
        return _report("score_models", request)


def _report(name: str, request: RouteRequestInput) -> StepReport:
    return request.steps.get(name, StepReport())


class OpenAnswers(Protocol):
    """The answers that this process has open connections for."""

    def is_open(self, key: RequestKey) -> bool:
        """Whether the request is in flight here."""
        ...

    @property
    def releasing(self) -> bool:
        """Whether this process leaves its requests to others."""
        ...

    async def fall_back(self, work: FallbackInput) -> Outcome | NextAttempt:
        """The next fallback attempt, streamed into the open answer, which ends with the outcome."""
        ...


class ProviderActivities:
    """`call_provider` (local) and `call_fallback` (its RetryPolicy is the backoff)."""

    def __init__(
        self,
        recovery: Recovery,
        fallbacks: Fallbacks,
        answers: OpenAnswers | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._recovery, self._fallbacks = recovery, fallbacks
        self._answers, self._heartbeat_s = answers, heartbeat_s
        self._working: WeakValueDictionary[RequestKey, asyncio.Lock] = WeakValueDictionary()

    @activity.defn
    async def call_provider(self, request: RouteRequestInput) -> CallReport:
        """The outcome of the first phase: from the ledger, or from a call of our own where its owner is dead."""
        async with self._alone(request.key):
            with self._leaving():
                outcome = await self._recovery.first_phase(request)
            if self._leaves(outcome):
                raise _leaves_to_another()
            await self._kept(request, self._recovery.keep_first(request, outcome))
        return CallReport(without_large_answer(outcome))

    @activity.defn
    async def call_fallback(self, work: FallbackInput) -> Outcome:
        """The next fallback attempt; which one that is, the ledger says.

        Returns the terminal outcome of the request, committed where the ledger is there. Raises ApplicationError,
        retryable, while attempts are left: the wait until the next one is the RetryPolicy's, or the provider's own
        Retry-After where the next model is the same one.
        """
        with self._leaving():
            found = await _with_heartbeats(asyncio.ensure_future(self._attempted(work)), self._heartbeat_s)
        if isinstance(found, NextAttempt):
            raise _next_attempt(found)
        if self._leaves(found):
            await self._recovery.keep_attempts(work.request, found)
            raise _leaves_to_another()
        return without_large_answer(found)

    async def _attempted(self, work: FallbackInput) -> Outcome | NextAttempt:
        if self._answers is not None and self._answers.is_open(work.request.key):
            return await self._answers.fall_back(work)
        # Both times are Temporal's: our clock may be another one.
        gone_s = activity.info().started_time.timestamp() - work.began_at
        async with self._alone(work.request.key):
            context = await self._recovery.context(work.request, work.failed.remaining_ms - gone_s * 1000.0)
            found = await self._fallbacks.attempt(context, work.failed, _plainly, lambda: False)
            if isinstance(found, Outcome) and not self._leaves(found):
                await self._kept(work.request, self._recovery.record(work.request, found))
        return found

    def _alone(self, key: RequestKey) -> asyncio.Lock:
        """Held by the one task of this process that carries the request: claims keep out other processes only, and
        Temporal may hand out a task once more where it has missed an answer."""
        return self._working.setdefault(key, asyncio.Lock())

    def _leaves(self, outcome: Outcome) -> bool:
        """Whether a call was canceled because this process ends, and not the request."""
        return outcome.status == "canceled" and self._ends()

    def _ends(self) -> bool:
        return (self._answers is not None and self._answers.releasing) or _shutting_down()

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """What is canceled because this process ends, and not the request, is another worker's."""
        try:
            yield
        except asyncio.CancelledError:
            if not self._ends():
                raise
            raise _leaves_to_another() from None

    async def _kept(self, request: RouteRequestInput, keeping: Coroutine[None, None, object]) -> None:
        """What was spent is kept also where the request is canceled now."""
        try:
            await asyncio.shield(keeping)
        except DependencyUnavailable:
            log.warning("outcome_recorded_later", request_id=request.request_id)  # by `store_performance`


class PerformanceActivities:
    """`store_performance`: local where all goes well, ordinary with retries where Postgres is away."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery

    @activity.defn
    async def store_performance(self, step: StoreInput) -> StepReport:
        """Idempotent: the row by its request id, what is learnt from it with it. Raises while Postgres is away."""
        record = await self._recovery.record(step.request, step.outcome)
        completed = record.outcome.status == "completed"
        point = f"{record.prompt_hash}/{record.outcome.model}" if completed else None
        return StepReport(detail={"row": True, "point": point})


def _leaves_to_another() -> ApplicationError:
    return ApplicationError("this worker is shutting down", type=WORKER_SHUTDOWN, non_retryable=True)


def _shutting_down() -> bool:
    """Whether it is this worker that ends, and not the request."""
    details = activity.cancellation_details()
    return activity.is_worker_shutdown() and not (details is not None and details.cancel_requested)


def _next_attempt(found: NextAttempt) -> ApplicationError:
    """The error that makes Temporal schedule the next attempt, after the policy's own wait where that is right."""
    own_wait = found.wait_s == fallback_wait_s(activity.info().attempt)
    return ApplicationError(
        f"{found.failed.model}: {found.failed.error_code}",
        type=found.failed.error_code or "provider_error",
        next_retry_delay=None if own_wait else timedelta(seconds=found.wait_s),
        category=ApplicationErrorCategory.BENIGN,  # providers fail; that is no error of this worker's
    )


async def _plainly(work: Coroutine[None, None, Result]) -> Result:
    return await work


async def _with_heartbeats(call: "asyncio.Task[Result]", every_s: float) -> Result:
    """Wait for an attempt, telling Temporal that this worker lives; a cancelled request cancels the attempt."""
    while not call.done():
        activity.heartbeat()
        try:
            await asyncio.wait({call}, timeout=every_s)
        except asyncio.CancelledError:
            call.cancel()  # it ends as a canceled outcome, with its cost
            break
    return await call
