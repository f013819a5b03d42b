"""Timeouts and retry policies with their arithmetic, and steps whose failure does not end their workflow."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

from modelpilot.providers.retries import COEFFICIENT, INITIAL_WAIT_S, MAXIMUM_WAIT_S
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.route_request import CallPlan

Work = TypeVar("Work")
Report = TypeVar("Report")

# Local steps return their failures as values, and know by themselves when to try again.
ONCE = RetryPolicy(maximum_attempts=1)

# In process and idempotent: seconds are already generous.
STEP_TIMEOUT = timedelta(seconds=10)

# One commit; where it fails, an ordinary activity takes over.
STORE_TIMEOUT = timedelta(seconds=30)
# Where Postgres stays away, storing goes on until it is back; there is no other end for an outcome that was paid for.
STORE_RETRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=60))

# How long an attempt waits for the gateway that has the answer open; a living one takes it within milliseconds.
OWNER_TIMEOUT = timedelta(seconds=2)

# A heartbeat every 2 s; four missed ones mean that the worker is gone.
FALLBACK_HEARTBEAT_TIMEOUT = timedelta(seconds=10)

# A recovery may wait for the first owner's whole time plus 30 s, find it dead after 10 s, and then need its own time.
RECOVERY_SLACK = timedelta(seconds=60)


def first_phase_timeout(plan: CallPlan) -> timedelta:
    """Two total times (the first owner's and the recovery's) and the slack between them."""
    return 2 * timedelta(milliseconds=plan.total_ms) + RECOVERY_SLACK


def fallback_retries(plan: CallPlan) -> RetryPolicy:
    """The promised backoff: the first fallback at once, then 1000 * 2^i ms, no jitter, at most 60 s."""
    return RetryPolicy(
        initial_interval=timedelta(seconds=INITIAL_WAIT_S),
        backoff_coefficient=COEFFICIENT,
        maximum_interval=timedelta(seconds=MAXIMUM_WAIT_S),
        maximum_attempts=plan.retry_attempts,
    )


def fallback_timeout(failed: Outcome) -> timedelta:
    """What the first phase left of the total time, and a moment for the result to be committed."""
    return timedelta(milliseconds=failed.remaining_ms) + timedelta(seconds=15)


async def try_step(
    step: Callable[[Any, Work], Coroutine[Any, Any, Report]],
    work: Work,
    config: workflow.ActivityConfig,
    note_failure: Callable[[str], None],
) -> Report | None:
    """What the activity reports; None where it failed, after its name was noted. Raises ActivityError where it was
    canceled, since its workflow is then."""
    try:
        return await workflow.execute_activity_method(step, work, **config)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        note_failure(error.activity_type)
        return None
