"""Temporal Schedules: created or brought up to date by every maintenance worker when it starts."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from modelpilot import names
from modelpilot.aggregation import AggregateInput
from modelpilot.housekeeping import HousekeepingInput
from modelpilot.management import OPERATOR_USER
from modelpilot.refit import RefitInput
from modelpilot.rescoring import RescoreInput, RescoreSpec

HOUSEKEEPING_EVERY = timedelta(minutes=1)
# A run missed while Temporal was away is not worth catching up on, except for the newest: each does all that is due.
HOUSEKEEPING_CATCHUP = timedelta(minutes=1)
# Nobody waits for a run that no worker takes: the next one does the same.
HOUSEKEEPING_TIMEOUT = timedelta(minutes=10)

REFIT_EVERY = timedelta(minutes=30)
REFIT_CATCHUP = timedelta(minutes=1)
# A hundred routers of a minute each; a run that is lost is made up for by the next one.
REFIT_TIMEOUT = timedelta(hours=3)

# One interval serves all: the hour in progress every five minutes, and a complete hour two minutes after its end, when
# what was recorded in its last moments is committed. Every run does all that is due, so a missed one is not caught up.
AGGREGATE_EVERY = timedelta(minutes=5)
AGGREGATE_OFFSET = timedelta(minutes=2)
AGGREGATE_CATCHUP = timedelta(minutes=5)
# A year of missed hours at a second each takes 2.5 h, its export as long again.
AGGREGATE_TIMEOUT = timedelta(hours=6)


RESCORE_HOUR = 2
RESCORE_CATCHUP = timedelta(hours=10)


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


def refits() -> NamedSchedule:
    """Every half hour, for routers with new outcomes; a run that takes longer makes the next one be left out."""
    action = ScheduleActionStartWorkflow(
        names.REFIT_WORKFLOW,
        RefitInput(),
        id=names.REFIT_SCHEDULE,
        task_queue=names.MAINTENANCE_QUEUE,
        execution_timeout=REFIT_TIMEOUT,
    )
    schedule = Schedule(
        action=action,
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=REFIT_EVERY)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=REFIT_CATCHUP),
    )
    return NamedSchedule(names.REFIT_SCHEDULE, schedule)


def aggregation() -> NamedSchedule:
    """Every five minutes; while a run catches up with a long outage, the next ones are left out."""
    action = ScheduleActionStartWorkflow(
        names.AGGREGATE_WORKFLOW,
        AggregateInput(),
        id=names.AGGREGATE_SCHEDULE,
        task_queue=names.MAINTENANCE_QUEUE,
        execution_timeout=AGGREGATE_TIMEOUT,
    )
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=AGGREGATE_EVERY, offset=AGGREGATE_OFFSET)])
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=AGGREGATE_CATCHUP)
    return NamedSchedule(names.AGGREGATE_SCHEDULE, Schedule(action=action, spec=spec, policy=policy))


def rescoring() -> NamedSchedule:
    """Every night at two, UTC, for all users. A run that was missed is made up for until noon: later than that, the
    next night's does the same."""
    job = RescoreInput(OPERATOR_USER, "", RescoreSpec(), all_users=True, nightly=True)
    action = ScheduleActionStartWorkflow(
        names.RESCORE_WORKFLOW,
        job,
        id=names.RESCORE_SCHEDULE,
        task_queue=names.MAINTENANCE_QUEUE,
    )
    schedule = Schedule(
        action=action,
        spec=ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(RESCORE_HOUR)])]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=RESCORE_CATCHUP),
    )
    return NamedSchedule(names.RESCORE_SCHEDULE, schedule)


def every() -> tuple[NamedSchedule, ...]:
    """All that a maintenance worker keeps."""
    return housekeeping(), refits(), aggregation(), rescoring()


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
