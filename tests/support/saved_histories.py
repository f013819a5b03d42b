"""Saved histories of the request workflow: `python -m tests.support.saved_histories` makes the missing ones.

They are what releases left behind: code that cannot replay them cannot take over requests that older gateways began.
A history is therefore never made anew once it was released; a new way to go gets a new file. Payloads are encrypted
under the keyring of tests (`tests.support.core.KEYRING`).
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

from temporalio.client import Client

from activities import flights
from modelpilot import backoff
from tests.support import servers
from tests.support.core import A, B, C, Core, failure
from tests.support.processes import until
from tests.support.routing_runs import Handle, accepted, connect, fly, start, worker
from tests.support.routing_samples import plan, stream

FOLDER = Path(__file__).parent.parent / "replay" / "histories"
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


SCENARIOS: tuple[Scenario, ...] = (
    happy_path,
    fallback_success,
    fallback_exhausted,
    canceled,
    canceled_in_fallback,
    stored_late,
    recovered,
)


async def run(address: str, scenario: Scenario) -> str:
    """Run a scenario to its end; its history as JSON."""
    client, core = await connect(address), Core()
    async with worker(client, core.activities()):
        handle = await scenario(client, core)
        await handle.result()
        history = await handle.fetch_history()
    return json.dumps(history.to_json_dict(), indent=1) + "\n"


def main() -> None:
    """Make the histories that are not there yet."""
    backoff.INITIAL_WAIT_S, flights.COMMIT_RETRY_WAIT_S = 0.05, 0.001
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, servers.temporal(Path(directory)) as address:
        for scenario in SCENARIOS:
            path = FOLDER / f"{scenario.__name__}.json"
            if not path.exists():
                path.write_text(asyncio.run(run(address, scenario)), encoding="utf-8")
                sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
