"""Housekeeping, every minute: what expired goes, what waited is stored, what was written is indexed."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.maintenance import MaintenanceActivities
    from modelpilot import names
    from modelpilot.housekeeping import FlushInput, HousekeepingInput, HousekeepingResult
    from workflows import policies

Told = TypeVar("Told")
Report = TypeVar("Report")

# Every batch heartbeats. The longest one is a replay, whose transaction is bounded by 60 s; 10 s more for the way.
HEARTBEAT_TIMEOUT = timedelta(seconds=70)
# Healthy stores need seconds. Three steps of at most 100 s: a run is over within five minutes, whatever is slow.
STEP_TIMEOUT = timedelta(seconds=100)


@workflow.defn(name=names.HOUSEKEEPING_WORKFLOW)
class HousekeepingWorkflow:
    """purge_expired, replay_outbox, flush_vectors: each tried once, since the next run is a minute away."""

    @workflow.run
    async def run(self, told: HousekeepingInput) -> HousekeepingResult:
        """Try every step, also after one has failed; fails at the end, naming the steps that did."""
        failed: list[str] = []
        result = HousekeepingResult(
            purged=await _try(MaintenanceActivities.purge_expired, told.purge, failed) or _NOTHING.purged,
            replayed=await _try(MaintenanceActivities.replay_outbox, told.replay, failed) or _NOTHING.replayed,
            flushed=await _try(MaintenanceActivities.flush_vectors, FlushInput(), failed) or _NOTHING.flushed,
        )
        if failed:
            raise ApplicationError(f"failed: {', '.join(failed)}", result, type="HousekeepingIncomplete")
        return result


_NOTHING = HousekeepingResult()


async def _try(
    step: Callable[[Any, Told], Coroutine[Any, Any, Report]], told: Told, failed: list[str]
) -> Report | None:
    try:
        return await workflow.execute_activity_method(
            step,
            told,
            start_to_close_timeout=STEP_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=policies.ONCE,
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        failed.append(error.activity_type)
        return None
