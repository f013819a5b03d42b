"""Request workflows on a real Temporal server, over the fakes of one or more gateways."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.worker import Worker

from infra.temporal.health import TemporalHealth
from infra.temporal.starter import TemporalStarter
from modelpilot import names
from modelpilot.providers import retries
from modelpilot.requests.route_request import CallPlan, RouteRequestInput, RouteRequestResult
from tests.support.core import A, B, C, Core, failure
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream
from tests.support.saved_histories import SavedHistories
from workflows.route_request import RouteRequestWorkflow

Handle = WorkflowHandle[RouteRequestWorkflow, RouteRequestResult]


@asynccontextmanager
async def worker(client: Client, activities: Sequence[Callable[..., Any]]) -> AsyncIterator[Worker]:
    """A routing worker whose workflows are sandboxed (the default runner)."""
    async with Worker(
        client,
        task_queue=names.ROUTING_QUEUE,
        workflows=[RouteRequestWorkflow],
        activities=activities,
        max_heartbeat_throttle_interval=timedelta(milliseconds=50),
        default_heartbeat_throttle_interval=timedelta(milliseconds=50),
    ) as running:
        yield running


def accepted(plan: CallPlan, **changes: Any) -> RouteRequestInput:
    """A request with an id and a nonce of its own."""
    fresh = {"created_at": time.time(), "request_id": f"r-{secrets.token_hex(8)}", "nonce": secrets.token_hex(8)}
    return request(plan, **{**fresh, **changes})


async def start(client: Client, work: RouteRequestInput, **options: Any) -> Handle:
    """Start the workflow of a request like a gateway does; `task_timeout` may be given."""
    await TemporalStarter(client, TemporalHealth(client), **options).start(work)
    return client.get_workflow_handle_for(RouteRequestWorkflow.run, work.key.workflow_id)


async def fly(client: Client, core: Core, work: RouteRequestInput, **options: Any) -> Handle:
    """The fast path: the call runs in the core's process, and the workflow joins it."""
    flight = core.flight(work)
    core.controller.launch(flight)
    return await start(client, work, **options)


def of_type(history: WorkflowHistory, kind: "EventType.ValueType") -> list[HistoryEvent]:
    """The events of one kind."""
    return [event for event in history.events if event.event_type == kind]


def local_steps(history: WorkflowHistory) -> list[str]:
    """The names of the local activities in their markers, in the order in which the workflow asked for them."""
    markers = of_type(history, EventType.EVENT_TYPE_MARKER_RECORDED)
    texts = [marker.marker_recorded_event_attributes.details["data"].payloads[0].data for marker in markers]
    steps = sorted((json.loads(text) for text in texts), key=lambda step: int(step["seq"]))
    return [str(step["activity_type"]) for step in steps]


def ordinary_steps(history: WorkflowHistory) -> list[tuple[str, int]]:
    """Name and last attempt number of every ordinary activity."""
    names_by_event = {
        event.event_id: event.activity_task_scheduled_event_attributes.activity_type.name
        for event in of_type(history, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    }
    started = [
        event.activity_task_started_event_attributes
        for event in of_type(history, EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED)
    ]
    return [(names_by_event[attributes.scheduled_event_id], attributes.attempt) for attributes in started]


# Saved histories of the request workflow: `python -m tests.support.routing_runs` makes the missing ones.

Scenario = Callable[[Client, Core], Coroutine[None, None, Handle]]


async def happy_path(client: Client, core: Core) -> Handle:
    """The decided model answers."""
    return await fly(client, core, accepted(plan(A, B)))


async def fallback_success(client: Client, core: Core) -> Handle:
    """The second fallback attempt answers."""
    core.providers.will(A, [failure(http_status=503)])
    core.providers.will(B, [failure()])
    return await fly(client, core, accepted(plan(A, B, C)))


async def fallback_exhausted(client: Client, core: Core) -> Handle:
    """Every attempt fails."""
    for model in (A, B, C):
        core.providers.will(model, [failure()])
    return await fly(client, core, accepted(plan(A, B, C)))


async def canceled(client: Client, core: Core) -> Handle:
    """Canceled during the first call."""
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    handle = await fly(client, core, accepted(plan(A, B)))
    await core.providers.called.wait()
    await handle.cancel()
    return handle


async def canceled_in_fallback(client: Client, core: Core) -> Handle:
    """Canceled during a fallback call."""
    core.providers.will(A, [failure()])
    core.providers.will(B, [*stream()[:2], asyncio.Event()])
    handle = await fly(client, core, accepted(plan(A, B)))
    await until(lambda: core.providers.models == ["a", "b"])
    await handle.cancel()
    return handle


async def stored_late(client: Client, core: Core) -> Handle:
    """Postgres was away, so an ordinary activity stored."""
    core.ledger.failures = 42
    return await fly(client, core, accepted(plan(A)))


async def recovered(client: Client, core: Core) -> Handle:
    """The worker had no entry of the request: every step was run again with the whole request."""
    return await start(client, accepted(plan(A), owner="a dead gateway"))


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        happy_path,
        fallback_success,
        fallback_exhausted,
        canceled,
        canceled_in_fallback,
        stored_late,
        recovered,
    )
}


async def run(client: Client, name: str) -> Handle:
    """Run a scenario to its end."""
    core = Core()
    async with worker(client, core.activities()):
        handle = await SCENARIOS[name](client, core)
        await handle.result()
    return handle


HISTORIES = SavedHistories(RouteRequestWorkflow, "route/alice/saved", "histories", SCENARIOS, run)

if __name__ == "__main__":
    retries.INITIAL_WAIT_S = 0.05
    HISTORIES.make_missing()
