"""Entries that the workflow's steps join: they stay as long as needed, and none leaks."""

import asyncio
import time
from typing import Any

import pytest

from activities.requests.flight import SINK_CHUNKS, BackgroundTasks, ChunkSink, Flight, FlightRegistry
from modelpilot.requests.outcome import Outcome
from tests.support.core import A, Core
from tests.support.processes import until
from tests.support.routing_samples import plan, request

DONE = Outcome("completed", "sim/a", "simulator", finish_reason="stop")


def chunk(number: int) -> dict[str, Any]:
    """A numbered chunk."""
    return {"number": number, "choices": []}


async def test_the_sink_holds_the_writer_back() -> None:
    """A client that does not read stalls its provider after SINK_CHUNKS chunks, and nothing is lost or reordered."""
    sink = ChunkSink()
    written = 0

    async def write() -> None:
        nonlocal written
        for number in range(3 * SINK_CHUNKS):
            await sink.put(chunk(number))
            written += 1
        sink.finish()

    writer = asyncio.create_task(write())
    await until(lambda: written == SINK_CHUNKS)
    for _ in range(10):
        await asyncio.sleep(0)
    assert written == SINK_CHUNKS
    read: list[dict[str, Any]] = []
    while chunks := await sink.get():
        assert len(chunks) <= SINK_CHUNKS
        read += chunks
    assert read == [chunk(number) for number in range(3 * SINK_CHUNKS)]
    await writer


async def test_a_closed_sink_lets_the_writer_go_on() -> None:
    """A keyed request whose client has left runs to its end."""
    sink = ChunkSink()

    async def write() -> None:
        for number in range(2 * SINK_CHUNKS):
            await sink.put(chunk(number))

    writer = asyncio.create_task(write())
    await until(lambda: sink.transcript.started)
    sink.close()
    await asyncio.wait_for(writer, 10.0)


async def test_a_finished_sink_ends_the_reader() -> None:
    """What is left comes first, then the end, again and again."""
    sink = ChunkSink()
    await sink.put(chunk(1))
    sink.finish()
    assert await sink.get() == [chunk(1)]
    assert await sink.get() == []
    assert await sink.get() == []


def registered(core: Core, number: int = 1, **changes: Any) -> Flight:
    """A flight of its own request."""
    return core.flight(request(plan(A), request_id=f"r{number}", nonce=f"n{number}", **changes))


async def test_flights_are_found_by_nonce_and_by_request() -> None:
    """Steps join by nonce; a request is found by its key, which is another for another owner."""
    core = Core()
    mine, theirs = registered(core), registered(core, 2, user_id="bob")
    assert core.registry.get("n1") is mine
    assert core.registry.find(theirs.key) is theirs
    assert core.registry.get("n3") is None
    assert theirs.key.workflow_id == "route/bob/r2"


async def test_a_repeat_joins_only_the_same_running_body_of_the_same_owner() -> None:
    """Neither another tenant's request nor a finished one is joined."""
    core = Core()
    mine, theirs = registered(core), registered(core, 2, user_id="bob")
    mine.body_digest = theirs.body_digest = b"digest"
    assert core.registry.find_running("alice", b"digest") is mine
    assert core.registry.find_running("carol", b"digest") is None
    assert core.registry.find_running("alice", b"other") is None
    mine.settle(DONE)
    assert core.registry.find_running("alice", b"digest") is None


async def test_an_entry_stays_while_its_workflow_is_open() -> None:
    """A workflow task that Temporal hands out once more must find the answer, not call the provider again."""
    core = Core()
    flight = registered(core)
    flight.settle(DONE)
    flight.recorded.set_result(None)
    assert core.registry.sweep([], time.monotonic()) == 0, "the last step has not run"
    flight.stored_at = time.monotonic()
    asked_before = flight.stored_at
    assert core.registry.sweep([], asked_before) == 0, "the list is older than the last step"
    assert core.registry.sweep([flight.key.workflow_id], time.monotonic() + 1) == 0
    assert core.registry.sweep([], time.monotonic() + 1) == 1
    assert len(core.registry) == 0
    assert core.registry.find(flight.key) is None


async def test_an_entry_stays_until_its_row_is_committed() -> None:
    """The row exists only here until then."""
    core = Core()
    flight = registered(core)
    flight.stored_at = time.monotonic()
    assert core.registry.sweep([], time.monotonic() + 1) == 0
    flight.recorded.set_result(None)
    assert core.registry.sweep([], time.monotonic() + 1) == 1


async def test_the_backstop_forgets_what_never_ends() -> None:
    """An entry whose close is never seen goes after the maximum age, open workflow or not."""
    now = time.monotonic()
    registry = FlightRegistry("gw-1", maximum_age_s=3_600.0, clock=lambda: now + 3_601.0)
    core = Core()
    flight = registered(core)
    registry.add(flight)
    assert registry.sweep([flight.key.workflow_id], now) == 1
    assert len(registry) == 0


async def test_active_counts_the_unfinished() -> None:
    """What the overload limit and the drain look at."""
    core = Core()
    first, second = registered(core), registered(core, 2)
    assert (core.registry.active, core.registry.unstored) == (2, 2)
    first.settle(DONE)
    await asyncio.sleep(0)
    assert core.registry.active == 1
    second.settle(DONE)
    await until(lambda: core.registry.active == 0)
    assert core.registry.unstored == 2


async def test_removing_an_old_flight_keeps_its_successor() -> None:
    """A request that was begun anew under the same key is not forgotten with the first try."""
    core = Core()
    old = registered(core)
    new = core.flight(request(plan(A), nonce="n9"))
    core.registry.remove(old)
    assert core.registry.find(old.key) is new
    core.registry.remove(new)
    assert core.registry.find(old.key) is None


async def test_background_tasks_are_drained() -> None:
    """What ends in time ends, the rest is cancelled."""
    background = BackgroundTasks()
    ended, gate = [], asyncio.Event()

    async def quick() -> None:
        ended.append("quick")

    async def endless() -> None:
        await gate.wait()

    await background.drain(0.0)
    background.spawn(quick())
    late = background.spawn(endless())
    await background.drain(0.05)
    assert ended == ["quick"]
    assert late.cancelled()


@pytest.mark.parametrize("started", [True, False])
async def test_the_first_word_about_the_start_counts(started: bool) -> None:
    """An acknowledgement is not taken back."""
    flight = registered(Core())
    flight.acknowledge(started=not started)
    assert flight.acknowledged.result() is True
