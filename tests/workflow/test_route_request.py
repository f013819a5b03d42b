"""The workflow of a request on a real Temporal server: closed by its first task, run where it lasts, recovered."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import Replayer

from infra.temporal.codec import data_converter
from modelpilot.requests.route_request import RouteRequestResult
from modelpilot.wire.jsonb import dump
from tests.support.core import COST_USD, KEYRING, A, B, failure
from tests.support.processes import until
from tests.support.routing_runs import (
    SCENARIOS,
    House,
    accepted,
    house,
    local_steps,
    of_type,
    ordinary_steps,
)
from tests.support.routing_samples import plan, stream
from tests.support.saved_histories import connect
from workflows.route_request import RouteRequestWorkflow

STEPS = ["load_router", "embed_prompt", "query_history", "score_models", "call_provider", "store_performance"]


@pytest.fixture
async def client(temporal_address: str) -> Client:
    """A client with encryption."""
    return await connect(temporal_address)


@pytest.fixture
async def home(client: Client) -> AsyncIterator[House]:
    """A gateway, a closer and a worker."""
    async with house(client) as found:
        yield found


@pytest.fixture
async def unattended(client: Client) -> AsyncIterator[House]:
    """The same without workers: nobody runs the class."""
    async with house(client, working=False) as found:
        yield found


async def closed(home: House) -> None:
    """Wait until no row is open."""
    await until(lambda: not home.core.ledger.open)


async def test_what_has_ended_is_closed_without_a_worker(unattended: House) -> None:
    """Six steps in order, each one once, and the result of the request."""
    handle = unattended.launch(accepted(plan(A)))
    result = await unattended.result(handle)
    assert (result.status, result.model, result.attempts, result.finish_reason) == ("completed", "sim/a", 1, "stop")
    assert result.cost_usd == pytest.approx(COST_USD)
    assert result.answer is not None
    assert result.answer["choices"][0]["message"]["content"] == "Hello there"
    history = await handle.fetch_history()
    assert local_steps(history) == STEPS
    assert ordinary_steps(history) == []
    await closed(unattended)


async def test_the_steps_say_what_they_did_and_when(client: Client, unattended: House) -> None:
    """Their results are readable with the key, and their times are those of the request."""
    work = accepted(plan(A))
    handle = unattended.launch(work)
    await unattended.result(handle)
    markers = of_type(await handle.fetch_history(), EventType.EVENT_TYPE_MARKER_RECORDED)
    details = [marker.marker_recorded_event_attributes.details for marker in markers]
    (report,) = await client.data_converter.decode(details[0]["result"].payloads)
    assert report == {"duration_ms": 0.3, "detail": {"of": "load_router"}}
    (called,) = await client.data_converter.decode(details[4]["result"].payloads)
    assert called["outcome"]["attempts"][0]["model"] == "sim/a"
    (stored,) = await client.data_converter.decode(details[5]["result"].payloads)
    assert stored["detail"]["row"] is True
    assert stored["detail"]["point"].endswith("/sim/a")
    about = [json.loads(each["data"].payloads[0].data) for each in details]
    began = [each["original_schedule_time"]["seconds"] for each in about]
    assert began == sorted(began)
    assert began[0] == int(work.created_at)


async def test_a_workflow_can_be_found_and_read(home: House) -> None:
    """Search attributes and a summary for the Web UI; the outcome is added at the end."""
    handle = home.launch(accepted(plan(A)))
    await home.result(handle)
    described = await handle.describe()
    attributes = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    attributes.pop("BuildIds", None)  # the server's own
    assert attributes == {"RouterId": "support", "Model": "sim/a", "Provider": "simulator", "Outcome": "completed"}
    assert await described.static_summary() == "support → sim/a · chat · whole"


async def test_a_failed_request_is_a_completed_workflow(home: House) -> None:
    """Providers fail: that is an outcome with a row, no failed workflow."""
    home.core.providers.will(A, [failure(http_status=500)])
    work = accepted(plan(A))
    result = await home.result(home.launch(work))
    assert (result.status, result.error_code, result.answer) == ("failed", "server_error", None)
    assert home.core.ledger.rows[work.key].outcome.error_status == 500


async def test_what_runs_shows_as_running(unattended: House) -> None:
    """Its workflow is there before it ends, and is completed by whoever started it."""
    gate = asyncio.Event()
    unattended.core.providers.will(A, [gate, *stream()])
    handle = unattended.launch(accepted(plan(A)))
    await unattended.started(handle)
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    gate.set()
    assert (await unattended.result(handle)).status == "completed"
    assert local_steps(await handle.fetch_history()) == STEPS


async def test_a_dead_owner_is_recovered_once(home: House) -> None:
    """The worker calls the provider, once, and the row says so."""
    work = accepted(plan(A), owner="a dead gateway")
    await home.core.ledger.accept(work)
    result = await home.result(home.handle(work))
    assert result.status == "completed"
    assert len(home.core.providers.made) == 1
    assert home.core.ledger.rows[work.key].degraded == ("recovered",)
    assert len(home.core.ledger.points) == 1
    await closed(home)


async def test_a_recorded_outcome_is_not_called_for_again(home: House) -> None:
    """The gateway died after it had recorded the answer: nobody calls."""
    work = accepted(plan(A))
    await home.core.settled(work)
    home.core.leases.alive.discard("gw-1")
    assert (await home.result(home.handle(work))).status == "completed"
    assert len(home.core.providers.made) == 1


async def test_a_worker_waits_for_the_living_owner(home: House) -> None:
    """The class runs while the owner's call does: one call, the owner's outcome."""
    gate = asyncio.Event()
    home.core.providers.will(A, [gate, *stream()])
    work = accepted(plan(A))
    home.core.controller.launch(home.core.flight(work))
    await home.tasks.start(work.key, dump(work), work, eager=False)
    await until(lambda: home.core.leases.asked.count((work.key, 0)) > 3)
    gate.set()
    assert (await home.result(home.handle(work))).status == "completed"
    assert len(home.core.providers.made) == 1
    assert len(home.core.ledger.rows) == 1
    await closed(home)


async def test_canceled_in_the_web_ui_while_it_runs(client: Client) -> None:
    """Whoever holds the first task gives it away when it sees the cancellation, and the class stores a canceled row."""
    async with house(client) as home:
        home.core.providers.will(A, [*stream()[:2], asyncio.Event()])
        work = accepted(plan(A))
        handle = home.launch(work)
        await home.started(handle)
        await handle.cancel()
        result = await home.result(handle)
    assert (result.status, result.error_code) == ("canceled", "request_canceled")
    assert home.core.ledger.rows[work.key].outcome.status == "canceled"


async def test_canceled_too_late_changes_nothing(home: House) -> None:
    """Canceled when the answer was given: the request is completed and stored, whatever its workflow says."""
    home.core.ledger.gate.clear()
    gate = asyncio.Event()
    home.core.providers.will(A, [gate, *stream()])
    work = accepted(plan(A))
    handle = home.launch(work)
    await home.started(handle)
    gate.set()
    await home.core.ledger.recording.wait()
    home.core.ledger.gate.set()
    await until(lambda: work.key in home.core.ledger.rows)
    await handle.cancel()
    await home.result(handle)
    assert home.core.ledger.rows[work.key].outcome.status == "completed"
    await closed(home)


async def test_storing_goes_on_when_postgres_is_back(home: House) -> None:
    """The local step gives up, an ordinary activity retries until the row is in; nothing is called again."""
    home.core.ledger.failures = 4
    work = accepted(plan(A), owner="a dead gateway")
    await home.core.ledger.accept(work)
    handle = home.handle(work)
    assert (await home.result(handle)).status == "completed"
    ((name, _),) = ordinary_steps(await handle.fetch_history())
    assert name == "store_performance"
    assert home.core.ledger.rows[work.key].outcome.status == "completed"
    assert len(home.core.providers.made) == 1


async def test_a_large_answer_is_not_in_the_history(home: House) -> None:
    """Temporal carries a reference; the ledger has the answer."""
    home.core.providers.will(A, stream("word " * 40_000))
    work = accepted(plan(A))
    handle = home.launch(work)
    result = await home.result(handle)
    assert (result.status, result.answer) == ("completed", None)
    assert home.core.ledger.rows[work.key].outcome.answer is not None
    history = await handle.fetch_history()
    assert sum(event.ByteSize() for event in history.events) < 100_000


async def test_the_same_start_is_one_workflow(unattended: House) -> None:
    """Whoever makes it again gets the first task again, and nothing once the workflow is closed."""
    work = accepted(plan(A))
    first = await unattended.tasks.start(work.key, dump(work), work)
    again = await unattended.tasks.start(work.key, dump(work), work)
    assert first
    assert again
    await unattended.core.settled(work)
    await unattended.result(unattended.handle(work))
    assert await unattended.tasks.start(work.key, dump(work), work) == b""
    assert await unattended.tasks.is_closed(work.key)


async def test_a_terminated_workflow_ends_its_request(home: House) -> None:
    """Somebody terminates it by hand while its gateway is dead: the row is a failed one, and the ledger forgets it."""
    home.core.providers.will(A, [asyncio.Event()])
    work = accepted(plan(A, total_ms=500_000), owner="a dead gateway")
    await home.core.ledger.accept(work)
    handle = home.handle(work)
    await home.core.providers.called.wait()
    await handle.terminate("by hand")
    await until(lambda: work.key in home.core.ledger.rows)
    assert home.core.ledger.rows[work.key].outcome.error_code == "internal_error"
    await closed(home)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_way_to_go_replays(client: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the installed SDK and server make of it now: the class issues the same commands, sandboxed."""
    monkeypatch.setattr("modelpilot.providers.retries.INITIAL_WAIT_S", 0.05)
    async with house(client) as home:
        handle = await SCENARIOS[name](home)
        result = await home.result(handle)
        await closed(home)
    assert isinstance(result, RouteRequestResult)
    replayer = Replayer(workflows=[RouteRequestWorkflow], data_converter=data_converter(KEYRING))
    await replayer.replay_workflow(await handle.fetch_history())


async def test_our_markers_are_those_of_the_sdk(client: Client) -> None:
    """An upgrade of the SDK that writes other markers, or needs other flags, is noticed here."""
    async with house(client) as home:
        ours = home.launch(accepted(plan(A)))
        await home.result(ours)
        work = accepted(plan(A, B), owner="a dead gateway")
        await home.core.ledger.accept(work)
        theirs = home.handle(work)
        await home.result(theirs)

    async def described(handle: object) -> tuple[list[set[str]], list[str], set[int]]:
        history = await handle.fetch_history()  # type: ignore[attr-defined]
        markers = of_type(history, EventType.EVENT_TYPE_MARKER_RECORDED)
        attributes = [marker.marker_recorded_event_attributes for marker in markers]
        about = [json.loads(each.details["data"].payloads[0].data) for each in attributes]
        tasks = of_type(history, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
        metadata = [task.workflow_task_completed_event_attributes.sdk_metadata for task in tasks]
        flags = {flag for each in metadata for flag in each.core_used_flags}
        keys = [set(each) for each in about]
        return keys, sorted({each.marker_name for each in attributes}), flags

    our_keys, our_names, our_flags = await described(ours)
    their_keys, their_names, their_flags = await described(theirs)
    assert our_names == their_names
    assert {frozenset(keys) for keys in our_keys} == {frozenset(keys) for keys in their_keys}
    assert our_flags == their_flags
