"""The workflow that erases, over steps that only count."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from modelpilot import names
from modelpilot.requests.erasure import EraseClose, EraseInput, EraseProgress, EraseReport
from tests.support.saved_histories import SavedHistories
from workflows.erasure import EraseWorkflow

SAVED_ID = "erase/alice/saved"


@dataclass
class FakeErasing:
    """`reports` are what slices come to, one after the other; then the job is finished."""

    reports: list[EraseReport] = field(default_factory=list)
    broken: bool = False
    closed: list[EraseClose] = field(default_factory=list)
    slices: int = 0

    @activity.defn(name=names.OPEN_ERASURE)
    async def open_erasure(self, job: EraseInput) -> EraseProgress:
        """Twenty requests."""
        return EraseProgress(10 * self.slices, 20)

    @activity.defn(name=names.ERASE_SLICE)
    async def erase_slice(self, job: EraseInput) -> EraseReport:
        """The next report."""
        if self.broken:
            raise ApplicationError("no", non_retryable=True)
        self.slices += 1
        return self.reports.pop(0) if self.reports else EraseReport(EraseProgress(20, 20), finished=True)

    @activity.defn(name=names.CLOSE_ERASURE)
    async def close_erasure(self, close: EraseClose) -> EraseProgress:
        """All of them."""
        self.closed.append(close)
        return EraseProgress(20, 20)

    def activities(self) -> list[Callable[..., Any]]:
        """All of them."""
        return [self.open_erasure, self.erase_slice, self.close_erasure]


@asynccontextmanager
async def running(
    client: Client, steps: FakeErasing, job: EraseInput, workflow_id: str | None = None
) -> AsyncIterator["WorkflowHandle[Any, EraseProgress]"]:
    """The job's workflow on a queue of its own, sandboxed."""
    queue = f"erasing-{secrets.token_hex(4)}"
    async with Worker(client, task_queue=queue, workflows=[EraseWorkflow], activities=steps.activities()):
        yield await client.start_workflow(
            names.ERASE_WORKFLOW,
            job,
            id=workflow_id or f"{job.workflow_id}-{queue}",
            task_queue=queue,
            result_type=EraseProgress,
        )


JOB = EraseInput("alice", "erase-1")
_HALF = EraseReport(EraseProgress(10, 20), finished=False)
_WAITING = replace(_HALF, waiting=True)

# Saved histories of EraseWorkflow: `python -m tests.support.erase_runs` makes the missing ones.

# Steps and job of each way that a run can go.
SCENARIOS: Mapping[str, Callable[[], tuple[FakeErasing, EraseInput]]] = {
    "erased": lambda: (FakeErasing([_HALF]), JOB),
    "waited": lambda: (FakeErasing([_HALF, _WAITING]), JOB),
    "continued": lambda: (FakeErasing([_HALF, _HALF]), replace(JOB, slices_per_run=2)),
    "failed": lambda: (FakeErasing(broken=True), JOB),
}


async def run(client: Client, name: str) -> "WorkflowHandle[Any, EraseProgress]":
    """Run a scenario to its end."""
    steps, work = SCENARIOS[name]()
    async with running(client, steps, work, SAVED_ID) as handle:
        await handle.result()
    return handle


HISTORIES = SavedHistories(EraseWorkflow, SAVED_ID, "erase_histories", SCENARIOS, run)

if __name__ == "__main__":
    HISTORIES.make_missing()
