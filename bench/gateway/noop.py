"""The floor under every durable request: a workflow that does nothing, on the same Temporal server."""

import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.gateway.targets import Timed
from infra.temporal.workers import WORKFLOW_THREADS

NOOP_QUEUE = "modelpilot-bench-noop"
NOOP_WORKFLOW = "BenchNoopWorkflow"
_SLOTS = 200


@workflow.defn(name=NOOP_WORKFLOW)
class NoopWorkflow:
    """Completes in its first task."""

    @workflow.run
    async def run(self) -> None:
        """Nothing."""


@asynccontextmanager
async def noop_worker(client: Client) -> AsyncIterator[None]:
    """A worker for no-op workflows in this process, with the options of the gateway's routing worker."""
    worker = Worker(
        client,
        task_queue=NOOP_QUEUE,
        workflows=[NoopWorkflow],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_executor=ThreadPoolExecutor(WORKFLOW_THREADS, thread_name_prefix="noop"),
        max_cached_workflows=2 * _SLOTS,
        max_concurrent_workflow_tasks=_SLOTS,
    )
    async with worker:
        yield


async def start_to_complete(client: Client) -> Timed:
    """One no-op workflow, started eagerly like a request's, until its result is here."""
    began = time.perf_counter()
    await client.execute_workflow(
        NOOP_WORKFLOW,
        id=f"bench-noop/{uuid.uuid4()}",
        task_queue=NOOP_QUEUE,
        request_eager_start=True,
    )
    return Timed((time.perf_counter() - began) * 1_000.0)
