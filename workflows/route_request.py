"""One routed request. The gateway mostly does all of it, and a closer completes its workflow; this class says what that
is, and runs it where it lasts: fallbacks, and requests whose gateway died."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as StepTimeoutError

with workflow.unsafe.imports_passed_through():
    from activities.requests.failures import made_up_outcome
    from activities.requests.steps import (
        WORKER_SHUTDOWN,
        PerformanceActivities,
        ProviderActivities,
        RoutingActivities,
    )
    from modelpilot import names
    from modelpilot.requests.outcome import Outcome
    from modelpilot.requests.route_request import (
        FallbackInput,
        RouteRequestInput,
        RouteRequestResult,
        StoreInput,
    )
    from workflows import policies

Work = TypeVar("Work")
Report = TypeVar("Report")


@workflow.defn(name=names.ROUTE_REQUEST_WORKFLOW)
class RouteRequestWorkflow:
    """load_router → embed_prompt → query_history → score_models → call_provider (→ call_fallback) → store_performance.

    The decision is in the input, so that a recovery never chooses anew. `infra.temporal.first_task` issues the same
    commands for a request that has ended; a replay test compares them.
    """

    @workflow.run
    async def run(self, request: RouteRequestInput) -> RouteRequestResult:
        """Carry the request to its one terminal row, whatever fails or dies on the way."""
        steps = (
            RoutingActivities.load_router,
            RoutingActivities.embed_prompt,
            RoutingActivities.query_history,
            RoutingActivities.score_models,
        )
        # They only report, all at once; one that fails is no reason to lose the request.
        local = (_local(step, request, policies.STEP_TIMEOUT) for step in steps)
        reports = asyncio.gather(*local, return_exceptions=True)
        # Awaited as a task of its own: canceled, it ends as an outcome, where `gather` would raise instead.
        try:
            outcome = await asyncio.create_task(self._call(request))
        except asyncio.CancelledError as error:  # before that task had begun
            outcome = _broken(request, error, None)
        await reports
        await self._store(request, outcome)
        searched = request.searched_at_end(outcome)
        workflow.upsert_search_attributes(
            [SearchAttributeKey.for_keyword(name).value_set(text) for name, text in searched.items()]
        )
        return RouteRequestResult.of(outcome)

    async def _call(self, request: RouteRequestInput) -> Outcome:
        try:
            outcome = await self._first_phase(request)
        except (FailureError, asyncio.CancelledError) as error:
            return _broken(request, error, None)
        return await self._fall_back(request, outcome) if request.may_fall_back(outcome) else outcome

    async def _first_phase(self, request: RouteRequestInput) -> Outcome:
        timeout = policies.first_phase_timeout(request.plan)
        while True:
            try:
                return (await _local(ProviderActivities.call_provider, request, timeout)).outcome
            except ApplicationError as error:
                if error.type != WORKER_SHUTDOWN:
                    raise

    async def _fall_back(self, request: RouteRequestInput, failed: Outcome) -> Outcome:
        """First where the answer is open, so that it streams; where that process is gone, anywhere."""
        work = FallbackInput(request, failed, workflow.time())
        try:
            try:
                return await self._fall_back_at(names.gateway_queue(request.owner), work)
            except ActivityError as error:
                if not _moves(error):
                    raise
            while True:
                try:
                    return await self._fall_back_at(names.ROUTING_QUEUE, work)
                except ActivityError as error:
                    if not _moves(error):
                        raise
        except (FailureError, asyncio.CancelledError) as error:
            return _broken(request, error, failed)

    async def _fall_back_at(self, queue: str, work: FallbackInput) -> Outcome:
        plan, failed = work.request.plan, work.failed
        return await workflow.execute_activity_method(
            ProviderActivities.call_fallback,
            work,
            task_queue=queue,
            schedule_to_start_timeout=None if queue == names.ROUTING_QUEUE else policies.OWNER_TIMEOUT,
            schedule_to_close_timeout=policies.fallback_timeout(failed),
            heartbeat_timeout=policies.FALLBACK_HEARTBEAT_TIMEOUT,
            retry_policy=policies.fallback_retries(plan),
            summary=f"{failed.model} failed ({failed.error_code}); falling back to {', '.join(plan.fallback_models)}",
            # The call ends as a canceled outcome with its cost, which is worth waiting for.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    async def _store(self, request: RouteRequestInput, outcome: Outcome) -> None:
        """Store a request however it ended; a cancellation that comes now comes too late."""
        storing = asyncio.create_task(self._stored(StoreInput(request, outcome)))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            await storing

    async def _stored(self, work: StoreInput) -> None:
        store = PerformanceActivities.store_performance
        try:
            await _local(store, work, policies.STORE_TIMEOUT)
        except FailureError:  # the step's own: a local activity that fails is not wrapped in an ActivityError
            await workflow.execute_activity_method(
                store,
                work,
                start_to_close_timeout=policies.STORE_TIMEOUT,
                retry_policy=policies.STORE_RETRIES,
                summary="stored late: Postgres was away",
            )


async def _local(step: Callable[[Any, Work], Coroutine[Any, Any, Report]], work: Work, limit: timedelta) -> Report:
    return await workflow.execute_local_activity_method(
        step, work, start_to_close_timeout=limit, retry_policy=policies.ONCE
    )


def _moves(error: ActivityError) -> bool:
    """Whether an attempt was not picked up where the answer is open, or its worker shuts down."""
    cause = error.cause
    if isinstance(cause, StepTimeoutError):
        return cause.type == TimeoutType.SCHEDULE_TO_START
    return isinstance(cause, ApplicationError) and cause.type == WORKER_SHUTDOWN


_TIMED_OUT = "timeout_total"
_CANCELED = "request_canceled"
_INTERNAL = "internal_error"
_MESSAGES = {
    _TIMED_OUT: "the request's total time is over",
    _CANCELED: "canceled by the client",
    _INTERNAL: "a step of the request failed unexpectedly",
}


def _broken(request: RouteRequestInput, error: BaseException, failed: Outcome | None) -> Outcome:
    """The outcome of a phase that did not say how it ended."""
    code = _broken_by(error)
    base = failed or made_up_outcome(request, code, _MESSAGES[code])
    status: Literal["canceled", "failed"] = "canceled" if code == _CANCELED else "failed"
    return replace(base, status=status, error_code=code, error_message=_MESSAGES[code], can_fall_back=False)


def _broken_by(error: BaseException) -> str:
    if is_cancelled_exception(error):
        return _CANCELED
    timed_out = isinstance(error, StepTimeoutError) or isinstance(getattr(error, "cause", None), StepTimeoutError)
    return _TIMED_OUT if timed_out else _INTERNAL
