"""Request workflows on a real Temporal server, over the fakes of a gateway, a closer and a worker."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.requests.closer import Closer
from activities.requests.recovery import record_lost
from infra.temporal.first_task import TemporalFirstTasks
from infra.temporal.health import TemporalHealth
from infra.temporal.starter import TemporalRequests
from modelpilot import names
from modelpilot.providers import retries
from modelpilot.requests.records import OpenRequest, RequestKey
from modelpilot.requests.route_request import CallPlan, RouteRequestInput, RouteRequestResult, StepReport
from modelpilot.wire.jsonb import dump
from tests.support.core import KEYRING, A, B, C, Core, failure
from tests.support.fakes import FakeLeases, FakeLedger
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream
from tests.support.saved_histories import SavedHistories
from workflows.route_request import RouteRequestWorkflow

Handle = WorkflowHandle[RouteRequestWorkflow, RouteRequestResult]

RUNNING_S = 0.3  # how long a request runs before the closer starts its workflow


@dataclass
class LedgerRows:
    """What a closer sees of the fake ledger. Its times are those of its first look."""

    ledger: FakeLedger
    leases: FakeLeases
    closer: str = "closer-1"
    running_s: float = RUNNING_S
    seen: dict[RequestKey, float] = field(default_factory=dict)
    mine: set[RequestKey] = field(default_factory=set)

    async def claim(self, limit: int) -> list[RequestKey]:
        """Rows that have ended or run for long."""
        for key in self.ledger.open:
            self.seen.setdefault(key, time.monotonic())
        old = {key for key, at in self.seen.items() if time.monotonic() - at > self.running_s}
        due = [key for key in self.ledger.open if key not in self.mine and (key in self.ledger.rows or key in old)]
        self.mine |= set(due[:limit])
        return due[:limit]

    async def let_go(self) -> None:
        """Others may have them."""
        self.mine.clear()

    async def read(self, keys: Sequence[RequestKey]) -> list[OpenRequest]:
        """The rows that are there."""
        return [self._row(self.ledger.open[key]) for key in keys if key in self.ledger.open]

    def _row(self, asked: RouteRequestInput) -> OpenRequest:
        row = self.ledger.rows.get(asked.key)
        return OpenRequest(
            key=asked.key,
            request=dump(asked),
            owner_alive=asked.owner in self.leases.alive,
            handed_over=asked.key in self.ledger.handed_over,
            accepted_at=0.0,
            outcome=row.outcome if row else None,
            completed_at=row.completed_at if row else 0.0,
            prompt_hash=row.prompt_hash if row else "",
        )

    async def changed(self, keys: Sequence[RequestKey]) -> list[RequestKey]:
        """Rows that need something."""
        rows = await self.read(keys)
        return [row.key for row in rows if row.outcome or row.handed_over or not row.owner_alive]

    async def note_handed_over(self, key: RequestKey) -> None:
        """A worker goes on."""
        self.ledger.handed_over.add(key)

    async def close(self, keys: Sequence[RequestKey]) -> None:
        """The workflows are closed."""
        for key in keys:
            self.ledger.open.pop(key, None)


@dataclass
class House:
    """A gateway, a closer and a worker of one installation, on a real Temporal server."""

    client: Client
    core: Core
    worker_core: Core
    closer: Closer
    tasks: TemporalFirstTasks
    health: TemporalHealth

    def launch(self, work: RouteRequestInput) -> Handle:
        """Let the gateway carry a request, which has been accepted; its workflow follows."""
        self.core.controller.launch(self.core.flight(work))
        return self.handle(work)

    def handle(self, work: RouteRequestInput) -> Handle:
        """The workflow of a request, which may not be there yet."""
        return self.client.get_workflow_handle_for(RouteRequestWorkflow.run, work.key.workflow_id)

    async def result(self, handle: Handle) -> RouteRequestResult:
        """What the workflow came to, once it was started and has ended."""
        await self.started(handle)
        return await asyncio.wait_for(handle.result(), 60.0)

    async def started(self, handle: Handle) -> None:
        """Wait until the workflow is there."""
        async with asyncio.timeout(20.0):
            while not await self._is_there(handle):  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.02)

    async def _is_there(self, handle: Handle) -> bool:
        try:
            await handle.describe()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True


@asynccontextmanager
async def house(client: Client, *, working: bool = True, closing: bool = True) -> AsyncIterator[House]:
    """A whole one; `working` with its workers, `closing` with its closer at work."""
    health = TemporalHealth(client)
    tasks = TemporalFirstTasks(client, KEYRING, health)
    core = Core(temporal=TemporalRequests(client, tasks, health))
    other = Core(like=core, instance="worker-1")
    rows = LedgerRows(core.ledger, core.leases)
    closer = Closer(
        rows,
        tasks,
        partial(record_lost, core.ledger, KEYRING.mac),
        tick_s=0.02,
        renew_after_s=0.5,
        ask_again_s=0.1,
    )
    found = House(client, core, other, closer, tasks, health)
    async with AsyncExitStack() as stack:
        if working:
            await stack.enter_async_context(worker(client, other.activities()))
            await stack.enter_async_context(own_worker(client, core))
        running = asyncio.create_task(closer.run()) if closing else None
        try:
            yield found
        finally:
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await core.background.drain(1.0)


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


@asynccontextmanager
async def own_worker(client: Client, core: Core) -> AsyncIterator[Worker]:
    """The worker inside the gateway: fallbacks into its open answers."""
    async with Worker(
        client,
        task_queue=names.gateway_queue(core.registry.instance),
        activities=[core.own_steps.call_fallback],
        max_heartbeat_throttle_interval=timedelta(milliseconds=50),
        default_heartbeat_throttle_interval=timedelta(milliseconds=50),
    ) as running:
        yield running


def accepted(plan: CallPlan, **changes: Any) -> RouteRequestInput:
    """A request with an id of its own."""
    steps = {step: StepReport(0.3, {"of": step}) for step in names.ROUTE_STEPS[:4]}
    fresh = {"created_at": time.time(), "request_id": f"r-{secrets.token_hex(8)}", "steps": steps}
    return request(plan, **{**fresh, **changes})


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

Scenario = Callable[[House], Coroutine[None, None, Handle]]


async def closed_at_once(house: House) -> Handle:
    """The decided model answers, and the closer completes the first task of what has ended."""
    return house.launch(accepted(plan(A, B)))


async def closed_streamed(house: House) -> Handle:
    """The same of a streamed answer."""
    return house.launch(accepted(plan(A), stream=True))


async def closed_failed(house: House) -> Handle:
    """The provider fails, and there is no fallback."""
    house.core.providers.will(A, [failure(http_status=500)])
    return house.launch(accepted(plan(A)))


async def closed_canceled(house: House) -> Handle:
    """The client leaves during the call."""
    house.core.providers.will(A, [*stream()[:2], asyncio.Event()])
    work = accepted(plan(A, B))
    handle = house.launch(work)
    await house.core.providers.called.wait()
    flight = house.core.registry.find(work.key)
    assert flight is not None
    house.core.controller.abandon(flight)
    return handle


async def started_early(house: House) -> Handle:
    """It runs for so long that its workflow is started meanwhile, and completed when it has ended."""
    gate = asyncio.Event()
    house.core.providers.will(A, [gate, *stream()])
    handle = house.launch(accepted(plan(A)))
    await house.started(handle)
    gate.set()
    return handle


async def renewed(house: House) -> Handle:
    """It runs for so long that its first task is kept for longer, twice."""
    gate = asyncio.Event()
    house.core.providers.will(A, [gate, *stream()])
    handle = house.launch(accepted(plan(A)))
    await house.started(handle)

    async def tasks() -> int:
        return len(of_type(await handle.fetch_history(), EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED))

    while await tasks() < 3:  # noqa: ASYNC110 - the server is asked
        await asyncio.sleep(0.05)
    gate.set()
    return handle


async def fallback_success(house: House) -> Handle:
    """The first phase fails before a closer has seen it, and the second fallback attempt answers."""
    house.core.providers.will(A, [failure(http_status=503)])
    house.core.providers.will(B, [failure()])
    return house.launch(accepted(plan(A, B, C)))


async def fallback_after_early_start(house: House) -> Handle:
    """The first phase fails after the workflow was started: its first task is handed over."""
    gate = asyncio.Event()
    house.core.providers.will(A, [gate, failure()])
    handle = house.launch(accepted(plan(A, B)))
    await house.started(handle)
    gate.set()
    return handle


async def fallback_exhausted(house: House) -> Handle:
    """Every attempt fails."""
    for model in (A, B, C):
        house.core.providers.will(model, [failure()])
    return house.launch(accepted(plan(A, B, C)))


async def canceled_in_fallback(house: House) -> Handle:
    """Canceled during a fallback call."""
    house.core.providers.will(A, [failure()])
    house.core.providers.will(B, [*stream()[:2], asyncio.Event()])
    handle = house.launch(accepted(plan(A, B)))
    await until(lambda: house.core.providers.models == ["a", "b"])
    await handle.cancel()
    return handle


async def recovered(house: House) -> Handle:
    """Its gateway is dead: a worker calls the provider."""
    work = accepted(plan(A), owner="a dead gateway")
    await house.core.ledger.accept(work)
    return house.handle(work)


async def recovered_in_fallback(house: House) -> Handle:
    """Its gateway died after the first phase had failed: nobody takes the attempt from its own queue."""
    house.core.providers.will(A, [failure()])
    work = accepted(plan(A, B), owner="a dead gateway")
    await house.core.ledger.accept(work)
    return house.handle(work)


async def recovered_and_canceled(house: House) -> Handle:
    """Canceled in the Web UI while a worker calls the provider."""
    house.core.providers.will(A, [*stream()[:2], asyncio.Event()])
    work = accepted(plan(A), owner="a dead gateway")
    await house.core.ledger.accept(work)
    handle = house.handle(work)
    await house.core.providers.called.wait()
    await handle.cancel()
    return handle


async def stored_late(house: House) -> Handle:
    """Postgres went away behind the provider call of a recovery, so an ordinary activity stored."""
    house.core.ledger.failures = 3
    return await recovered(house)


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        closed_at_once,
        closed_streamed,
        closed_failed,
        closed_canceled,
        started_early,
        renewed,
        fallback_success,
        fallback_after_early_start,
        fallback_exhausted,
        canceled_in_fallback,
        recovered,
        recovered_in_fallback,
        recovered_and_canceled,
        stored_late,
    )
}


async def run(client: Client, name: str) -> Handle:
    """Run a scenario to its end."""
    async with house(client) as found:
        handle = await SCENARIOS[name](found)
        await found.result(handle)
    return handle


HISTORIES = SavedHistories(RouteRequestWorkflow, "route/alice/saved", "histories", SCENARIOS, run)

if __name__ == "__main__":
    retries.INITIAL_WAIT_S = 0.05
    HISTORIES.make_missing()
