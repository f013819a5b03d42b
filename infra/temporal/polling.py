"""Whether a worker really polls: the service is asked, since the library starts polling in the background."""

import asyncio

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

_ASK_AGAIN_S = 0.05
_KINDS = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)


async def wait_until_polling(client: Client, queue: str, identity: str) -> None:
    """Return when the service sees `identity` polling the queue for workflows and for activities; no time limit."""
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
