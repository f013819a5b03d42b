"""Request workflows on a real Temporal server, over the fakes of one or more gateways."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.worker import Worker

from infra.temporal.codec import data_converter
from infra.temporal.health import TemporalHealth
from infra.temporal.starter import TemporalStarter
from modelpilot import names
from modelpilot.requests.messages import CallPlan, RouteRequestInput, RouteRequestResult
from tests.support.core import KEYRING, Core
from tests.support.routing_samples import request
from workflows.route_request import RouteRequestWorkflow

Handle = WorkflowHandle[RouteRequestWorkflow, RouteRequestResult]


async def connect(address: str) -> Client:
    """A client as gateways have it, under a name that says nothing of this machine."""
    return await Client.connect(address, data_converter=data_converter(KEYRING), identity="test-gateway")


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


async def start(client: Client, told: RouteRequestInput) -> Handle:
    """Start the workflow of a request like a gateway does."""
    await TemporalStarter(client, TemporalHealth(client)).start(told)
    return client.get_workflow_handle_for(RouteRequestWorkflow.run, told.key.workflow_id)


async def fly(client: Client, core: Core, told: RouteRequestInput) -> Handle:
    """The fast path: the call runs in the core's process, and the workflow joins it."""
    flight = core.flight(told)
    core.controller.launch(flight)
    return await start(client, told)


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
