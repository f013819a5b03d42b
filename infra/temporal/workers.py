"""Workers: for requests that last and for maintenance, in a process of their own, and one inside every gateway."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from modelpilot import names

# Two threads for workflow code: a fifth less CPU per workflow than the default pool.
WORKFLOW_THREADS = 2

_ROUTING_SLOTS = 1_000
_REQUEST_OPTIONS: dict[str, Any] = {
    "max_concurrent_activities": _ROUTING_SLOTS,
    # A canceled fallback hears of it with its next heartbeat, so that must not be held back for long.
    "max_heartbeat_throttle_interval": timedelta(seconds=2),
    "graceful_shutdown_timeout": timedelta(seconds=5),
}
_ASK_AGAIN_S = 0.05
_KINDS = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)


def routing_worker(client: Client, workflows: Sequence[type], activities: Sequence[Callable[..., Any]]) -> Worker:
    """The worker of requests that last: fallbacks, and what a dead gateway left.

    A recovered request holds a workflow-task slot and a local-activity slot for as long as its provider takes.
    Sandboxing is for tests and replay: it doubles the CPU of a workflow.
    """
    return Worker(
        client,
        task_queue=names.ROUTING_QUEUE,
        workflows=workflows,
        activities=activities,
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_executor=ThreadPoolExecutor(WORKFLOW_THREADS, thread_name_prefix="workflow"),
        max_cached_workflows=2 * _ROUTING_SLOTS,
        max_concurrent_workflow_tasks=_ROUTING_SLOTS,
        max_concurrent_local_activities=_ROUTING_SLOTS,
        **_REQUEST_OPTIONS,
    )


def gateway_worker(client: Client, instance: str, activities: Sequence[Callable[..., Any]]) -> Worker:
    """The worker inside a gateway: activities on a queue of its own, which stream into its open answers."""
    return Worker(client, task_queue=names.gateway_queue(instance), activities=activities, **_REQUEST_OPTIONS)


def maintenance_worker(client: Client, workflows: Sequence[type], activities: Sequence[Callable[..., Any]]) -> Worker:
    """Batch work, on its own queue, so that it never starves requests."""
    return Worker(
        client,
        task_queue=names.MAINTENANCE_QUEUE,
        workflows=workflows,
        activities=activities,
        max_concurrent_activities=4,
        # A canceled job should stop paying a judge soon.
        max_heartbeat_throttle_interval=timedelta(seconds=2),
        graceful_shutdown_timeout=timedelta(seconds=10),
    )


async def wait_until_polling(client: Client, queue: str, identity: str) -> None:
    """Return when the service sees `identity` polling the queue for workflows and for activities; no time limit.

    The service is asked, since the library starts polling in the background.
    """
    for kind in _KINDS:
        while not await _polls(client, queue, identity, kind):  # noqa: ASYNC110 - the event is another process's
            await asyncio.sleep(_ASK_AGAIN_S)


async def _polls(client: Client, queue: str, identity: str, kind: "TaskQueueType.ValueType") -> bool:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    try:
        described = await client.workflow_service.describe_task_queue(request)
    except RPCError:
        return False  # away for a moment: the worker itself waits for it, too
    return any(poller.identity == identity for poller in described.pollers)
