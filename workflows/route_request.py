"""One routed request. On the fast path every step joins what the gateway is doing already."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import FailureError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as StepTimeoutError

with workflow.unsafe.imports_passed_through():
    from activities.requests.steps import PerformanceActivities, ProviderActivities, RoutingActivities
    from modelpilot import names
    from modelpilot.providers.retries import FALLBACK_SEQ
    from modelpilot.requests.outcome import Outcome
    from modelpilot.requests.route_request import (
        CallReport,
        FallbackInput,
        RouteRequestInput,
        RouteRequestResult,
        StepInput,
        StepReport,
    )
    from workflows import policies

MODEL = SearchAttributeKey.for_keyword(names.SEARCH_MODEL)
PROVIDER = SearchAttributeKey.for_keyword(names.SEARCH_PROVIDER)
OUTCOME = SearchAttributeKey.for_keyword(names.SEARCH_OUTCOME)

Report = TypeVar("Report", StepReport, CallReport)


@workflow.defn(name=names.ROUTE_REQUEST_WORKFLOW)
class RouteRequestWorkflow:
    """load_router → embed_prompt → query_history → score_models → call_provider (→ call_fallback) → store_performance.

    The decision is in the input, so that a recovery never chooses anew.
    """

    @workflow.run
    async def run(self, request: RouteRequestInput) -> RouteRequestResult:
        """Carry the request to its one terminal row, whatever fails or dies on the way."""
        # The gateway ran these steps in order before it started us: they only have to be joined, all at once, which
        # saves an activation of the workflow for each.
        steps = (
            RoutingActivities.load_router,
            RoutingActivities.embed_prompt,
            RoutingActivities.query_history,
            RoutingActivities.score_models,
        )
        reports = asyncio.gather(*(_join(step, request, policies.STEP_TIMEOUT) for step in steps))
        # Awaited as a task of its own: canceled, it ends as an outcome, where `gather` would raise instead.
        outcome = await asyncio.create_task(self._call(request))
        await reports
        await self._store(request, outcome)
        self._publish(request, outcome)
        return _result(outcome)

    async def _call(self, request: RouteRequestInput) -> Outcome:
        timeout = policies.first_phase_timeout(request.plan)
        try:
            report = await _join(ProviderActivities.call_provider, request, timeout)
        except (FailureError, asyncio.CancelledError) as error:
            return _broken(request, error, None)
        outcome = report.outcome or _broken(request, None, None)
        return await self._fall_back(request, outcome) if request.may_fall_back(outcome) else outcome

    async def _fall_back(self, request: RouteRequestInput, failed: Outcome) -> Outcome:
        models = ", ".join(request.plan.fallback_models)
        try:
            return await workflow.execute_activity_method(
                ProviderActivities.call_fallback,
                FallbackInput(request, failed),
                schedule_to_close_timeout=policies.fallback_timeout(failed),
                heartbeat_timeout=policies.FALLBACK_HEARTBEAT_TIMEOUT,
                retry_policy=policies.fallback_retries(request.plan),
                summary=f"{failed.model} failed ({failed.error_code}); falling back to {models}",
                # The call ends as a canceled outcome with its cost, which is worth waiting for.
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        except (FailureError, asyncio.CancelledError) as error:
            return _broken(request, error, failed)

    async def _store(self, request: RouteRequestInput, outcome: Outcome) -> None:
        """Store a request however it ended; a cancellation that comes now comes too late."""
        storing = asyncio.create_task(self._stored(request, outcome))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            await storing

    async def _stored(self, request: RouteRequestInput, outcome: Outcome) -> None:
        store = PerformanceActivities.store_performance
        try:
            await _join(store, request, policies.STORE_TIMEOUT, outcome)
        except FailureError:  # the step's own: a local activity that fails is not wrapped in an ActivityError
            await workflow.execute_activity_method(
                store,
                StepInput(request.nonce, request, outcome),
                start_to_close_timeout=policies.STORE_TIMEOUT,
                retry_policy=policies.STORE_RETRIES,
                summary="stored late: Postgres was away",
            )

    def _publish(self, request: RouteRequestInput, outcome: Outcome) -> None:
        updates = [OUTCOME.value_set(outcome.status)]
        # The start named the decided model and the provider that it is listed under.
        model = request.plan.model
        if (outcome.model, outcome.provider) != (model, request.plan.specs[model]["provider"]):
            updates += [MODEL.value_set(outcome.model), PROVIDER.value_set(outcome.provider)]
        workflow.upsert_search_attributes(updates)


async def _join(
    step: Callable[[Any, StepInput], Coroutine[Any, Any, Report]],
    request: RouteRequestInput,
    limit: timedelta,
    outcome: Outcome | None = None,
) -> Report:
    """Run a local step that joins the flight; where this worker has none, run it again with the whole request."""
    first = StepInput(request.nonce)
    # No flight may know an outcome that the workflow had to make up itself, or that a fallback elsewhere came to.
    if outcome is not None and (outcome.error_code in _MADE_UP or _fell_back(outcome)):
        first = StepInput(request.nonce, request, outcome)
    report: Report = await workflow.execute_local_activity_method(
        step, first, start_to_close_timeout=limit, retry_policy=policies.ONCE
    )
    if report.missing:
        report = await workflow.execute_local_activity_method(
            step,
            StepInput(request.nonce, request, outcome),
            start_to_close_timeout=limit,
            retry_policy=policies.ONCE,
        )
    return report


_TIMED_OUT = "timeout_total"
_CANCELED = "request_canceled"
_INTERNAL = "internal_error"
_MADE_UP = frozenset({_TIMED_OUT, _CANCELED, _INTERNAL})
_MESSAGES = {
    _TIMED_OUT: "the request's total time is over",
    _CANCELED: "canceled by the client",
    _INTERNAL: "a step of the request failed unexpectedly",
}


def _fell_back(outcome: Outcome) -> bool:
    return any(attempt.seq >= FALLBACK_SEQ for attempt in outcome.attempts)


def _broken(request: RouteRequestInput, error: BaseException | None, failed: Outcome | None) -> Outcome:
    """The outcome of a phase that did not say how it ended."""
    plan, code = request.plan, _broken_by(error)
    base = failed or Outcome("failed", plan.model, str(plan.specs[plan.model]["provider"]))
    status: Literal["canceled", "failed"] = "canceled" if code == _CANCELED else "failed"
    return replace(base, status=status, error_code=code, error_message=_MESSAGES[code], can_fall_back=False)


def _broken_by(error: BaseException | None) -> str:
    if error is not None and is_cancelled_exception(error):
        return _CANCELED
    timed_out = isinstance(error, StepTimeoutError) or isinstance(getattr(error, "cause", None), StepTimeoutError)
    return _TIMED_OUT if timed_out else _INTERNAL


def _result(outcome: Outcome) -> RouteRequestResult:
    return RouteRequestResult(
        status=outcome.status,
        model=outcome.model,
        provider=outcome.provider,
        attempts=len(outcome.attempts),
        cost_usd=outcome.cost_usd,
        latency_ms=round(outcome.latency_ms, 1),
        finish_reason=outcome.finish_reason,
        error_code=outcome.error_code,
        answer=outcome.answer,
    )
