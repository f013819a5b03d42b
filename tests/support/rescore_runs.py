"""The re-scoring workflow over steps that only count."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from modelpilot import names
from modelpilot.learning.rescoring import (
    CloseInput,
    JudgeReport,
    Position,
    RescoreInput,
    RescoreProgress,
    RescoreResult,
    RescoreSpec,
    SliceInput,
    SliceReport,
)
from tests.support.saved_histories import SavedHistories
from workflows.rescore_batch import RescoreBatchWorkflow

JUDGED = RescoreSpec(sources=("checks", "judge"), judge_model="sim/large", judge_budget_usd=1.0, to_s=2_000.0)
END = Position("alice", 1_000.0, "r9")


@dataclass
class FakeSteps:
    """`slices` says how many slices there are, `rounds` what each round of judging reports, then `until` None."""

    slices: int = 2
    rounds: list[JudgeReport] = field(default_factory=list)
    revised: tuple[str, ...] = ()
    broken: bool = False
    hanging: bool = False
    done: int = 0
    opened: list[RescoreInput] = field(default_factory=list)
    work: list[SliceInput] = field(default_factory=list)
    closed: list[CloseInput] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name=names.OPEN_RESCORE)
    async def open_rescore(self, job: RescoreInput) -> RescoreProgress:
        """Ten rows for every slice."""
        self.opened.append(job)
        return RescoreProgress(0, 10 * self.slices)

    @activity.defn(name=names.RESCORE_SLICE)
    async def rescore_slice(self, work: SliceInput) -> SliceReport:
        """Ten rows."""
        self.work.append(work)
        self.begun.set()
        while self.hanging and not self.go.is_set():
            activity.heartbeat()
            await asyncio.sleep(0.05)
        if self.broken:
            raise ApplicationError("no", non_retryable=True)
        self.done += 1
        progress = RescoreProgress(10 * self.done, 10 * self.slices, 5 * self.done)
        return SliceReport(progress, self.done >= self.slices, self.revised)

    @activity.defn(name=names.JUDGE_SLICE)
    async def judge_slice(self, _: SliceInput) -> JudgeReport:
        """The next report."""
        return self.rounds.pop(0) if self.rounds else JudgeReport(None)

    @activity.defn(name=names.CLOSE_RESCORE)
    async def close_rescore(self, close: CloseInput) -> RescoreProgress:
        """What was done."""
        self.closed.append(close)
        return close.job.progress

    def activities(self) -> list[Callable[..., Any]]:
        """All of them."""
        return [self.open_rescore, self.rescore_slice, self.judge_slice, self.close_rescore]


@asynccontextmanager
async def running(
    client: Client, steps: FakeSteps, job: RescoreInput, workflow_id: str | None = None
) -> AsyncIterator["WorkflowHandle[Any, RescoreResult]"]:
    """The job's workflow on a queue of its own, sandboxed; heartbeats tell at once of a cancellation."""
    queue = f"rescoring-{secrets.token_hex(4)}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=[RescoreBatchWorkflow],
        activities=steps.activities(),
        max_heartbeat_throttle_interval=timedelta(milliseconds=50),
    ):
        yield await client.start_workflow(
            names.RESCORE_WORKFLOW,
            job,
            id=workflow_id or f"{job.workflow_id}-{queue}",
            task_queue=queue,
            result_type=RescoreResult,
        )


def job(spec: RescoreSpec | None = None, **fields: Any) -> RescoreInput:
    """A job of Alice's."""
    return RescoreInput("alice", "rescore_1", spec or RescoreSpec(to_s=2_000.0), **fields)


# Saved histories of RescoreBatchWorkflow: `python -m tests.support.rescore_runs` makes the missing ones.

SAVED_ID = "rescore/alice/saved"
# Steps and job of each way that a run can go.
SCENARIOS: Mapping[str, Callable[[], tuple[FakeSteps, RescoreInput]]] = {
    "scored": lambda: (FakeSteps(), job()),
    "refitted": lambda: (FakeSteps(revised=("alice",)), job()),
    "judged": lambda: (FakeSteps(rounds=[JudgeReport(END, 5, 5), JudgeReport(END, 0, 0, wait_s=0.2)]), job(JUDGED)),
    "budget": lambda: (FakeSteps(rounds=[JudgeReport(None, 5, 5, stopped="budget")]), job(JUDGED)),
    "continued": lambda: (FakeSteps(slices=3), job(slices_per_run=2)),
    "failed": lambda: (FakeSteps(broken=True), job()),
    "canceled": lambda: (FakeSteps(hanging=True), job()),
    "paused": lambda: (FakeSteps(), job(paused=True)),
    "nightly": lambda: (FakeSteps(), RescoreInput("admin", "", RescoreSpec(), all_users=True, nightly=True)),
}


async def run(client: Client, name: str) -> "WorkflowHandle[Any, RescoreResult]":
    """Run a scenario to its end."""
    steps, work = SCENARIOS[name]()
    async with running(client, steps, work, SAVED_ID) as handle:
        if name == "canceled":
            await steps.begun.wait()
            await handle.signal(names.CANCEL_JOB)
        if name == "paused":
            await handle.signal(names.RESUME_JOB)
        await handle.result()
    return handle


HISTORIES = SavedHistories(RescoreBatchWorkflow, SAVED_ID, "rescore_histories", SCENARIOS, run)

if __name__ == "__main__":
    HISTORIES.make_missing()
