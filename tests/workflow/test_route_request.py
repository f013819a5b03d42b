"""The request workflow on a real Temporal server, sandboxed: steps, recovery, cancellation, storing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from modelpilot import names
from modelpilot.errors import Conflict
from tests.support.core import COST_USD, A, B, Core, failure
from tests.support.processes import until
from tests.support.routing_runs import Handle, accepted, fly, local_steps, ordinary_steps, start, worker
from tests.support.routing_samples import plan, stream
from tests.support.saved_histories import connect

STEPS = ["load_router", "embed_prompt", "query_history", "score_models", "call_provider", "store_performance"]


@pytest.fixture
async def client(temporal_address: str) -> Client:
    """A client with encryption."""
    return await connect(temporal_address)


@pytest.fixture
async def core(client: Client) -> AsyncIterator[Core]:
    """One gateway with its worker."""
    gateway = Core()
    async with worker(client, gateway.activities()):
        yield gateway


async def test_six_local_steps_in_order(client: Client, core: Core) -> None:
    """The history names the six steps, each one once, and the workflow reports what came out."""
    handle = await fly(client, core, accepted(plan(A)))
    result = await handle.result()
    assert (result.status, result.model, result.attempts, result.finish_reason) == ("completed", "sim/a", 1, "stop")
    assert result.cost_usd == pytest.approx(COST_USD)
    assert result.answer is not None
    assert result.answer["choices"][0]["message"]["content"] == "Hello there"
    history = await handle.fetch_history()
    assert local_steps(history) == STEPS
    assert ordinary_steps(history) == []


async def test_the_workflow_joins_and_does_not_call(client: Client, core: Core) -> None:
    """One provider call, one row, one point, and the entry may go."""
    work = accepted(plan(A))
    await (await fly(client, core, work)).result()
    assert len(core.providers.made) == 1
    assert core.ledger.rows[work.key].outcome.status == "completed"
    assert len(core.history.points) == 1
    assert core.registry.unstored == 0


async def test_a_workflow_can_be_found_and_read(client: Client, core: Core) -> None:
    """Search attributes and a summary for the Web UI; the outcome is added at the end."""
    handle = await fly(client, core, accepted(plan(A)))
    await handle.result()
    described = await handle.describe()
    attributes = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    attributes.pop("BuildIds", None)  # the server's own
    assert attributes == {"RouterId": "support", "Model": "sim/a", "Provider": "simulator", "Outcome": "completed"}
    assert await described.static_summary() == "support → sim/a · chat · whole"


async def test_a_failed_request_is_a_completed_workflow(client: Client, core: Core) -> None:
    """Providers fail: that is an outcome with a row, no failed workflow."""
    core.providers.will(A, [failure(http_status=500)])
    work = accepted(plan(A))
    result = await (await fly(client, core, work)).result()
    assert (result.status, result.error_code, result.answer) == ("failed", "server_error", None)
    assert core.ledger.rows[work.key].outcome.error_status == 500


async def test_a_recovery_without_entry_runs_the_steps_from_the_input(client: Client) -> None:
    """The first gateway is dead: each step says `missing`, gets the whole request, and the provider is called once."""
    gateway = Core(instance="gw-2")
    work = accepted(plan(A), owner="gw-1")
    async with worker(client, gateway.activities()):
        handle = await start(client, work)
        result = await handle.result()
    assert result.status == "completed"
    # The entry made by the recovery is joined by nonce from then on, so storing needs no second try.
    steps = local_steps(await handle.fetch_history())
    assert (sorted(steps[:-1]), steps[-1]) == (sorted(STEPS[:5] * 2), STEPS[5])
    assert len(gateway.providers.made) == 1
    assert gateway.ledger.rows[work.key].degraded == ("recovered",)


async def test_a_recovered_outcome_is_not_called_again(client: Client) -> None:
    """The gateway died after it had recorded the answer: the recovery finds it in the ledger."""
    first = Core()
    work = accepted(plan(A))
    flight = first.flight(work)
    first.controller.launch(flight)
    await flight.recorded
    second = Core(like=first, instance="gw-2")
    first.leases.alive.discard("gw-1")
    async with worker(client, second.activities()):
        result = await (await start(client, work)).result()
    assert (result.status, len(first.providers.made)) == ("completed", 1)
    assert len(first.ledger.rows) == 1


# A waiting local step asks for a new task, and hears of a cancellation, after 80 % of the task timeout.
SOON = timedelta(seconds=2)


async def test_a_canceled_workflow_stores_a_canceled_outcome(client: Client, core: Core) -> None:
    """Canceled in the Web UI during the call: the call ends, and its cost is in the one row."""
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    work = accepted(plan(A))
    handle = await fly(client, core, work, task_timeout=SOON)
    await core.providers.called.wait()
    await handle.cancel()
    result = await handle.result()
    assert (result.status, result.error_code) == ("canceled", "request_canceled")
    row = core.ledger.rows[work.key]
    assert (row.outcome.status, row.outcome.attempts[0].status) == ("canceled", "canceled")
    assert row.outcome.cost_usd
    assert core.providers.made[0].closed


async def canceled_and_told(handle: Handle) -> bool:
    """Whether a workflow task was begun after the cancellation was requested."""
    kinds = [event.event_type for event in (await handle.fetch_history()).events]
    requested = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
    return requested in kinds and EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED in kinds[kinds.index(requested) :]


async def test_a_cancellation_that_comes_too_late_changes_nothing(client: Client, core: Core) -> None:
    """Canceled while the row is being committed: the answer was given, so the request is completed and stored."""
    core.ledger.gate.clear()
    work = accepted(plan(A))
    handle = await fly(client, core, work, task_timeout=SOON)
    await core.ledger.recording.wait()
    await handle.cancel()
    # The cancellation reaches the workflow with the next task, after the waiting step's heartbeat.
    while not await canceled_and_told(handle):  # noqa: ASYNC110 - the server is asked
        await asyncio.sleep(0.05)
    core.ledger.gate.set()
    assert (await handle.result()).status == "completed"
    assert core.ledger.rows[work.key].outcome.status == "completed"
    assert len(core.history.points) == 1


async def test_storing_goes_on_when_postgres_is_back(client: Client) -> None:
    """The local step gives up, an ordinary activity retries until the row is in; nothing is called again."""
    core = Core()
    core.ledger.down = True
    work = accepted(plan(A))
    tries = 0
    store = core.performance.store_performance
    async with worker(client, core.activities()):
        handle = await fly(client, core, work)
        while tries < 3:
            described = await handle.describe()
            pending = described.raw_description.pending_activities
            tries = pending[0].attempt if pending else 0
        core.ledger.down = False
        assert (await handle.result()).status == "completed"
    history = await handle.fetch_history()
    assert local_steps(history) == STEPS
    ((name, attempt),) = ordinary_steps(history)
    assert (name, attempt >= 3) == (store.__name__, True)
    assert core.ledger.rows[work.key].outcome.status == "completed"
    assert len(core.providers.made) == 1


async def test_a_foreign_gateway_waits_for_the_living_owner(client: Client) -> None:
    """Temporal gave the task to another process while the owner's call runs: one call, the owner's outcome."""
    owner, gate = Core(), asyncio.Event()
    owner.providers.will(A, [gate, *stream()])
    work = accepted(plan(A))
    owner.controller.launch(owner.flight(work))
    other = Core(like=owner, instance="gw-2")
    async with worker(client, other.activities()):
        handle = await start(client, work)
        await until(lambda: len(owner.leases.asked) > 3)
        gate.set()
        assert (await handle.result()).status == "completed"
    assert len(owner.providers.made) == 1
    assert len(owner.ledger.rows) == 1


async def test_a_large_answer_is_not_in_the_history(client: Client, core: Core) -> None:
    """Temporal carries a reference; the ledger has the answer."""
    core.providers.will(A, stream("word " * 40_000))
    work = accepted(plan(A))
    handle = await fly(client, core, work)
    result = await handle.result()
    assert (result.status, result.answer) == ("completed", None)
    assert core.ledger.rows[work.key].outcome.answer is not None
    history = await handle.fetch_history()
    assert sum(event.ByteSize() for event in history.events) < 100_000


async def test_a_second_start_of_a_request_is_a_conflict(client: Client, core: Core) -> None:
    """REJECT_DUPLICATE: also after the first has ended."""
    work = accepted(plan(A))
    await (await fly(client, core, work)).result()
    with pytest.raises(Conflict):
        await start(client, work)


async def test_a_request_with_fallbacks_that_succeeds_uses_none(client: Client, core: Core) -> None:
    """The happy path has no ordinary activity."""
    handle = await fly(client, core, accepted(plan(A, B)))
    assert (await handle.result()).model == "sim/a"
    assert ordinary_steps(await handle.fetch_history()) == []
    assert names.ROUTING_QUEUE == "modelpilot-routing"
