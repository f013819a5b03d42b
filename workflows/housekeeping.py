"""Housekeeping, every minute: delete expired rows, store waiting history points, index written vectors."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.jobs.housekeeping import MaintenanceActivities
    from modelpilot import names
    from modelpilot.requests.housekeeping import FlushInput, HousekeepingInput, HousekeepingResult
    from workflows import policies
    from workflows.policies import try_step

STEP = workflow.ActivityConfig(
    # Healthy stores need seconds. Three steps of at most 100 s: a run is over within five minutes, whatever is slow.
    start_to_close_timeout=timedelta(seconds=100),
    # Every batch heartbeats. The longest one is a replay, whose transaction is bounded by 60 s; 10 s more for the way.
    heartbeat_timeout=timedelta(seconds=70),
    retry_policy=policies.ONCE,
)


@workflow.defn(name=names.HOUSEKEEPING_WORKFLOW)
class HousekeepingWorkflow:
    """purge_expired, replay_outbox, flush_vectors: each tried once, since the next run is a minute away."""

    @workflow.run
    async def run(self, work: HousekeepingInput) -> HousekeepingResult:
        """Try every step, also after one has failed; fails at the end, naming the steps that did."""
        failed: list[str] = []
        note = failed.append
        result = HousekeepingResult(
            purged=await try_step(MaintenanceActivities.purge_expired, work.purge, STEP, note) or _NOTHING.purged,
            replayed=await try_step(MaintenanceActivities.replay_outbox, work.replay, STEP, note) or _NOTHING.replayed,
            flushed=await try_step(MaintenanceActivities.flush_vectors, FlushInput(), STEP, note) or _NOTHING.flushed,
        )
        if failed:
            raise ApplicationError(f"failed: {', '.join(failed)}", result, type="HousekeepingIncomplete")
        return result


_NOTHING = HousekeepingResult()
