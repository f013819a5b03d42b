"""Saved histories of RefitWorkflow: `python -m tests.support.refit_histories` makes the missing ones."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from unittest.mock import patch

from temporalio.client import Client

from activities.jobs import refit as steps
from activities.jobs.refit import RefitActivities
from modelpilot.learning.refit import RefitInput
from modelpilot.requests.records import HistoryScope
from tests.support.refit_samples import (
    FakeFitter,
    FakePredictorStore,
    FakeSource,
    Handle,
    start,
    training_rows,
    worker,
)
from tests.support.saved_histories import SavedHistories
from workflows import refit

QUEUE = "saved-refits"
# Which routers are due, which of them cannot be fitted, and how many one run lists.
SCENARIOS: Mapping[str, tuple[str, str, int]] = {
    "all_fitted": ("ab", "", 100),
    "nothing_due": ("", "", 100),
    "one_failed": ("abc", "b", 100),
    "continued": ("abc", "", 2),
}


def activities(due: str, broken: str) -> RefitActivities:
    """The steps over fakes."""
    store = FakePredictorStore([HistoryScope("alice", name) for name in due])
    return RefitActivities(FakeSource(training_rows(40), frozenset(broken)), store, FakeFitter())


async def run(client: Client, name: str) -> Handle:
    """Run a scenario to its end."""
    due, broken, limit = SCENARIOS[name]
    with patch.object(steps, "ROUTERS_PER_RUN", limit):
        async with worker(client, activities(due, broken), QUEUE):
            handle = await start(client, RefitInput("alice"), QUEUE)
            await asyncio.gather(handle.result(), return_exceptions=True)
    return handle


HISTORIES = SavedHistories(refit.RefitWorkflow, "refit", "refit_histories", SCENARIOS, run)

if __name__ == "__main__":
    refit.FIT_RETRIES.initial_interval = timedelta(milliseconds=10)
    HISTORIES.make_missing()
