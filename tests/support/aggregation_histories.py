"""Saved histories of AggregateHourlyWorkflow: `python -m tests.support.aggregation_histories` makes the missing ones.

As those of requests (`tests.support.saved_histories`): what releases left behind, never made anew once released.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from temporalio.client import Client

from modelpilot.aggregation import HOUR_S, AggregateInput
from tests.support import servers
from tests.support.aggregation_runs import FakeMetrics, hours, start, worker
from tests.support.routing_runs import connect
from tests.support.saved_histories import FOLDER as REQUESTS

FOLDER = REQUESTS.parent / "aggregation_histories"
SCENARIOS: Mapping[str, FakeMetrics] = {
    "all_done": FakeMetrics(noted=hours(3), due_files=2, old_rows=7),
    "nothing_due": FakeMetrics(),
    "continued": FakeMetrics(noted=hours(5)),
    "an_hour_failed": FakeMetrics(noted=hours(2), poisoned=frozenset({HOUR_S})),
}


async def run(client: Client, fakes: FakeMetrics) -> str:
    """Run a scenario to its end; the history of its first part as JSON."""
    handle, queue = await start(client, AggregateInput(hours_per_step=2, steps_per_run=2))
    async with worker(client, fakes, queue):
        await asyncio.gather(handle.result(), return_exceptions=True)
    first = client.get_workflow_handle(queue, run_id=handle.first_execution_run_id)
    return json.dumps((await first.fetch_history()).to_json_dict(), indent=1) + "\n"


async def make(address: str, name: str, fakes: FakeMetrics) -> None:
    """Write one history."""
    client = await connect(address)
    text = await run(client, fakes)
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{name}.json\n")


def main() -> None:
    """Make the histories that are not there yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = {name: fakes for name, fakes in SCENARIOS.items() if not (FOLDER / f"{name}.json").exists()}
    with tempfile.TemporaryDirectory() as directory, servers.temporal(Path(directory)) as address:
        for name, fakes in missing.items():
            asyncio.run(make(address, name, fakes))


if __name__ == "__main__":
    main()
