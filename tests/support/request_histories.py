"""Saved histories of the request workflow: `python -m tests.support.request_histories` makes the missing ones."""

import asyncio
from collections.abc import Callable, Coroutine

from temporalio.client import Client

from activities.requests import controller
from modelpilot.providers import retries
from tests.support.core import A, B, C, Core, failure
from tests.support.processes import until
from tests.support.routing_runs import Handle, accepted, fly, start, worker
from tests.support.routing_samples import plan, stream
from tests.support.saved_histories import SavedHistories
from workflows.route_request import RouteRequestWorkflow

Scenario = Callable[[Client, Core], Coroutine[None, None, Handle]]


async def happy_path(client: Client, core: Core) -> Handle:
    """The decided model answers."""
    return await fly(client, core, accepted(plan(A, B)))


async def fallback_success(client: Client, core: Core) -> Handle:
    """The second fallback attempt answers."""
    core.providers.will(A, [failure(http_status=503)])
    core.providers.will(B, [failure()])
    return await fly(client, core, accepted(plan(A, B, C)))


async def fallback_exhausted(client: Client, core: Core) -> Handle:
    """Every attempt fails."""
    for model in (A, B, C):
        core.providers.will(model, [failure()])
    return await fly(client, core, accepted(plan(A, B, C)))


async def canceled(client: Client, core: Core) -> Handle:
    """Canceled during the first call."""
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    handle = await fly(client, core, accepted(plan(A, B)))
    await core.providers.called.wait()
    await handle.cancel()
    return handle


async def canceled_in_fallback(client: Client, core: Core) -> Handle:
    """Canceled during a fallback call."""
    core.providers.will(A, [failure()])
    core.providers.will(B, [*stream()[:2], asyncio.Event()])
    handle = await fly(client, core, accepted(plan(A, B)))
    await until(lambda: core.providers.models == ["a", "b"])
    await handle.cancel()
    return handle


async def stored_late(client: Client, core: Core) -> Handle:
    """Postgres was away, so an ordinary activity stored."""
    core.ledger.failures = 42
    return await fly(client, core, accepted(plan(A)))


async def recovered(client: Client, core: Core) -> Handle:
    """The worker had no entry of the request: every step was run again with the whole request."""
    return await start(client, accepted(plan(A), owner="a dead gateway"))


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        happy_path,
        fallback_success,
        fallback_exhausted,
        canceled,
        canceled_in_fallback,
        stored_late,
        recovered,
    )
}


async def run(client: Client, name: str) -> Handle:
    """Run a scenario to its end."""
    core = Core()
    async with worker(client, core.activities()):
        handle = await SCENARIOS[name](client, core)
        await handle.result()
    return handle


HISTORIES = SavedHistories(RouteRequestWorkflow, "route/alice/saved", "histories", SCENARIOS, run)

if __name__ == "__main__":
    retries.INITIAL_WAIT_S, controller.COMMIT_RETRY_WAIT_S = 0.05, 0.001
    HISTORIES.make_missing()
