"""Temporal Schedules: created or brought up to date by every maintenance worker when it starts."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from modelpilot import names
from modelpilot.housekeeping import HousekeepingInput

HOUSEKEEPING_EVERY = timedelta(minutes=1)
# A run missed while Temporal was away is not worth catching up on, except for the newest: each does all that is due.
HOUSEKEEPING_CATCHUP = timedelta(minutes=1)
# Nobody waits for a run that no worker takes: the next one does the same.
HOUSEKEEPING_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class NamedSchedule:
    """A schedule and its id in Temporal."""

    id: str
    schedule: Schedule


def housekeeping() -> NamedSchedule:
    """Every minute; a run that takes longer makes the next one be left out."""
    action = ScheduleActionStartWorkflow(
        names.HOUSEKEEPING_WORKFLOW,
        HousekeepingInput(),
        id=names.HOUSEKEEPING_SCHEDULE,
        task_queue=names.MAINTENANCE_QUEUE,
        execution_timeout=HOUSEKEEPING_TIMEOUT,
    )
    schedule = Schedule(
        action=action,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=HOUSEKEEPING_EVERY)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=HOUSEKEEPING_CATCHUP),
    )
    return NamedSchedule(names.HOUSEKEEPING_SCHEDULE, schedule)


async def ensure(client: Client, wanted: NamedSchedule) -> None:
    """Create the schedule, or make the existing one like it; one that somebody has paused stays paused.

    Raises RPCError.
    """

    def update(found: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.schedule.state = found.description.schedule.state
        return ScheduleUpdate(schedule=wanted.schedule)

    try:
        await client.create_schedule(wanted.id, wanted.schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(wanted.id).update(update)
