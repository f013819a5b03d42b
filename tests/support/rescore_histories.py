"""Saved histories of RescoreBatchWorkflow: `python -m tests.support.rescore_histories` makes the missing ones."""

from collections.abc import Callable, Mapping
from typing import Any

from temporalio.client import Client, WorkflowHandle

from modelpilot import names
from modelpilot.learning.rescoring import JudgeReport, RescoreInput, RescoreResult, RescoreSpec
from tests.support.rescore_runs import END, JUDGED, FakeSteps, job, running
from tests.support.saved_histories import SavedHistories
from workflows.rescore_batch import RescoreBatchWorkflow

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
    steps, told = SCENARIOS[name]()
    async with running(client, steps, told, SAVED_ID) as handle:
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
