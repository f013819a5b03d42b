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
from modelpilot.learning.refit import RefitInput
from modelpilot.learning.rescoring import RescoreInput, RescoreSpec
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.metrics.aggregation import AggregateInput
from modelpilot.requests.housekeeping import HousekeepingInput

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
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=HOUSEKEEPING_EVERY)])
    work = (names.HOUSEKEEPING_WORKFLOW, HousekeepingInput())
    return _maintenance(names.HOUSEKEEPING_SCHEDULE, work, spec, HOUSEKEEPING_CATCHUP, HOUSEKEEPING_TIMEOUT)


def refits() -> NamedSchedule:
    """Every half hour, for routers with new outcomes; a run that takes longer makes the next one be left out."""
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=REFIT_EVERY)])
    work = (names.REFIT_WORKFLOW, RefitInput())
    return _maintenance(names.REFIT_SCHEDULE, work, spec, REFIT_CATCHUP, REFIT_TIMEOUT)


def aggregation() -> NamedSchedule:
    """Every five minutes; while a run catches up with a long outage, the next ones are left out."""
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=AGGREGATE_EVERY, offset=AGGREGATE_OFFSET)])
    work = (names.AGGREGATE_WORKFLOW, AggregateInput())
    return _maintenance(names.AGGREGATE_SCHEDULE, work, spec, AGGREGATE_CATCHUP, AGGREGATE_TIMEOUT)


def rescoring() -> NamedSchedule:
    """Every night at two, UTC, for all users. A run that was missed is made up for until noon: later than that, the
    next night's does the same."""
    job = RescoreInput(OPERATOR_USER, "", RescoreSpec(), all_users=True, nightly=True)
    spec = ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(RESCORE_HOUR)])])
    return _maintenance(names.RESCORE_SCHEDULE, (names.RESCORE_WORKFLOW, job), spec, RESCORE_CATCHUP)


def _maintenance(
    schedule_id: str, work: tuple[str, object], spec: ScheduleSpec, catchup: timedelta, timeout: timedelta | None = None
) -> NamedSchedule:
    """Work (a workflow and its input) on the maintenance queue whose runs never overlap."""
    workflow, argument = work
    action = ScheduleActionStartWorkflow(
        workflow, argument, id=schedule_id, task_queue=names.MAINTENANCE_QUEUE, execution_timeout=timeout
    )
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=catchup)
    return NamedSchedule(schedule_id, Schedule(action=action, spec=spec, policy=policy))


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
