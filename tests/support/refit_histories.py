"""Saved histories of RefitWorkflow: `python -m tests.support.refit_histories` makes the missing ones.

As those of requests (`tests.support.saved_histories`): what releases left behind, never made anew once released.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from temporalio.client import Client

from activities import refit as steps
from activities.refit import RefitActivities
from modelpilot.records import HistoryScope
from modelpilot.refit import RefitInput
from tests.support import servers
from tests.support.refit_samples import FakeFitter, FakePredictorStore, FakeSource, start, training_rows, worker
from tests.support.routing_runs import connect
from tests.support.saved_histories import FOLDER as REQUESTS
from workflows import refit

FOLDER = REQUESTS.parent / "refit_histories"
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


async def run(address: str, due: str, broken: str) -> str:
    """Run a scenario to its end; the history of its first part as JSON."""
    client: Client = await connect(address)
    async with worker(client, activities(due, broken), QUEUE):
        handle = await start(client, RefitInput("alice"), QUEUE)
        await asyncio.gather(handle.result(), return_exceptions=True)
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    return json.dumps((await first.fetch_history()).to_json_dict(), indent=1) + "\n"


def main() -> None:
    """Make the histories that are not there yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    refit.FIT_RETRIES.initial_interval = timedelta(milliseconds=10)
    with tempfile.TemporaryDirectory() as directory, servers.temporal(Path(directory)) as address:
        for name, (due, broken, limit) in SCENARIOS.items():
            path = FOLDER / f"{name}.json"
            if not path.exists():
                with patch.object(steps, "ROUTERS_PER_RUN", limit):
                    path.write_text(asyncio.run(run(address, due, broken)), encoding="utf-8")
                sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
