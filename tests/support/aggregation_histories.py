"""Saved histories of the hourly aggregation: `python -m tests.support.aggregation_histories` makes the missing ones."""

import asyncio
from collections.abc import Mapping

from temporalio.client import Client

from modelpilot.metrics.aggregation import HOUR_S, AggregateInput
from tests.support.aggregation_runs import FakeMetrics, Handle, hours, start, worker
from tests.support.saved_histories import SavedHistories
from workflows.aggregate_hourly import AggregateHourlyWorkflow

SCENARIOS: Mapping[str, FakeMetrics] = {
    "all_done": FakeMetrics(noted=hours(3), due_files=2, old_rows=7),
    "nothing_due": FakeMetrics(),
    "continued": FakeMetrics(noted=hours(5)),
    "an_hour_failed": FakeMetrics(noted=hours(2), poisoned=frozenset({HOUR_S})),
}


async def run(client: Client, name: str) -> Handle:
    """Run a scenario to its end."""
    handle, queue = await start(client, AggregateInput(hours_per_step=2, steps_per_run=2))
    async with worker(client, SCENARIOS[name], queue):
        await asyncio.gather(handle.result(), return_exceptions=True)
    return handle


HISTORIES = SavedHistories(AggregateHourlyWorkflow, "aggregation", "aggregation_histories", SCENARIOS, run)

if __name__ == "__main__":
    HISTORIES.make_missing()
