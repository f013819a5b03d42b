"""Flights of one gateway and what they are told; the way of their chunks; tasks that outlive a request."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from activities.requests.flight import BackgroundTasks, Flight, State
from activities.requests.recording import build_record
from activities.requests.sink import SINK_CHUNKS, ChunkSink
from modelpilot.errors import Conflict, DependencyUnavailable
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import RequestRecord
from modelpilot.wire.chunks import Chunk
from tests.support.core import KEYRING, A, Core
from tests.support.processes import until
from tests.support.routing_samples import plan, request

DONE = Outcome("completed", "sim/a", "simulator", finish_reason="stop")


def chunk(number: int) -> Chunk:
    """A numbered chunk."""
    return Chunk({"number": number, "choices": []})


async def test_the_sink_holds_the_writer_back() -> None:
    """A client that does not read stalls its provider after SINK_CHUNKS chunks, and nothing is lost or reordered."""
    sink = ChunkSink()
    written = 0

    async def write() -> None:
        nonlocal written
        for number in range(3 * SINK_CHUNKS):
            written += 1
            await sink.put([chunk(number)])
        sink.finish()

    writer = asyncio.create_task(write())
    await until(lambda: written == SINK_CHUNKS)
    for _ in range(10):
        await asyncio.sleep(0)
    assert written == SINK_CHUNKS
    read: list[Chunk] = []
    while chunks := await sink.get():
        assert len(chunks) <= SINK_CHUNKS
        read += chunks
    assert [each.data["number"] for each in read] == [*range(3 * SINK_CHUNKS)]
    await writer


async def test_a_closed_sink_lets_the_writer_go_on() -> None:
    """A keyed request whose client has left runs to its end."""
    sink, written = ChunkSink(), 0

    async def write() -> None:
        nonlocal written
        for number in range(2 * SINK_CHUNKS):
            written += 1
            await sink.put([chunk(number)])

    writer = asyncio.create_task(write())
    await until(lambda: written == SINK_CHUNKS)
    sink.close()
    await asyncio.wait_for(writer, 10.0)


async def test_a_finished_sink_ends_the_reader() -> None:
    """What is left comes first, then the end, again and again."""
    sink = ChunkSink()
    last = chunk(1)
    await sink.put([last])
    sink.finish()
    assert await sink.get() == [last]
    assert await sink.get() == []
    assert await sink.get() == []


async def test_a_writer_may_hand_its_chunks_over_itself() -> None:
    """What was put before is read first; a connection that breaks is the reader's failure, and not the call's."""
    sink, passed = ChunkSink(), list[Chunk]()

    async def direct(chunks: list[Chunk]) -> None:
        passed.extend(chunks)
        if len(passed) > 1:
            raise ConnectionResetError("the client has left")

    await sink.put([chunk(1)])
    sink.pass_to(direct)
    await sink.put([chunk(2)])
    assert [each.data["number"] for each in await sink.get()] == [1, 2]
    for number in (3, 4, 5):
        await sink.put([chunk(number)])
    assert [each.data["number"] for each in passed] == [3, 4]
    with pytest.raises(ConnectionResetError):
        await sink.get()


async def test_a_nudged_reader_has_nothing_to_read() -> None:
    """It wakes to do something else; the end is another matter."""
    sink = ChunkSink()
    reading = asyncio.create_task(sink.get())
    await asyncio.sleep(0)
    sink.nudge()
    assert await reading == []
    assert not sink.finished


def registered(core: Core, number: int = 1, **changes: Any) -> Flight:
    """A flight of its own request."""
    flight = core.flight(request(plan(A), request_id=f"r{number}", **changes))
    core.registry.add(flight)
    return flight


def record_of(flight: Flight) -> RequestRecord:
    """How it ended."""
    return build_record(flight.request, flight.profile, DONE, mac=KEYRING.mac, elapsed_ms=1.0, degraded=())


async def test_flights_are_found_by_their_request() -> None:
    """Whose key is another one for another owner."""
    core = Core()
    mine, theirs = registered(core), registered(core, user_id="bob")
    assert core.registry.find(mine.key) is mine
    assert core.registry.find(theirs.key) is theirs
    assert theirs.key.workflow_id == "route/bob/r1"
    core.registry.remove(mine)
    assert core.registry.find(mine.key) is None


@pytest.mark.parametrize("state", State)
async def test_a_repeat_joins_only_the_same_running_body_of_the_same_owner(state: State) -> None:
    """Neither another tenant's request nor one that is over or abandoned is joined."""
    core = Core()
    mine, theirs = registered(core), registered(core, 2, user_id="bob")
    mine.body = theirs.body = b"{}"
    mine.state = state
    running = state in (State.ACCEPTING, State.CALLING, State.FALLING_BACK)
    assert mine.running == running
    assert core.registry.find_running("alice", "support", b"{}") is (mine if running else None)
    assert core.registry.find_running("carol", "support", b"{}") is None
    assert core.registry.find_running("alice", "support", b"other") is None
    assert core.registry.find_running("alice", "sales", b"{}") is None
    mine.abandoned = True
    assert core.registry.find_running("alice", "support", b"{}") is None


async def test_active_counts_the_unfinished() -> None:
    """What the overload limit and the drain look at: an answer that waits for its row is none of them."""
    core = Core()
    first, second = registered(core), registered(core, 2)
    assert (core.registry.active, core.registry.running()) == (2, [first, second])
    first.state = State.ENDED
    assert (core.registry.active, core.registry.running(), len(core.registry)) == (1, [second], 2)


async def test_removing_an_old_flight_keeps_its_successor() -> None:
    """A request that was begun anew under the same key is not forgotten with the first try."""
    core = Core()
    old, new = registered(core), registered(core)
    core.registry.remove(old)
    assert core.registry.find(old.key) is new
    core.registry.remove(new)
    assert core.registry.find(old.key) is None


async def test_the_end_is_told_once() -> None:
    """To those who wait for the end and for acceptance, and to the stream; a later word changes nothing."""
    flight = Core().flight(request(plan(A)), stream=True)
    flight.record = record = record_of(flight)
    flight.settle()
    flight.accepted.result()
    assert flight.sink is not None
    assert await flight.sink.get() == []
    flight.record = replace(record, degraded=("ledger",))
    flight.settle()
    flight.refuse(Conflict("too late"))
    assert flight.ended.result() is record


async def test_a_refusal_is_told_to_everybody() -> None:
    """Who waits for acceptance, for the end, and the stream; nobody has to ask."""
    flight = Core().flight(request(plan(A)), stream=True)
    flight.refuse(Conflict("somebody else has it"))
    for future in (flight.accepted, flight.ended):
        with pytest.raises(Conflict):
            await future
    assert flight.sink is not None
    assert await flight.sink.get() == []
    assert (flight.state, flight.running, flight.recorded.done()) == (State.REFUSED, False, False)
    flight.refuse(DependencyUnavailable("and is gone"))
    with pytest.raises(Conflict):
        await flight.ended


async def test_acceptance_is_not_taken_back() -> None:
    """The answer may have left."""
    flight = Core().flight(request(plan(A)))
    flight.accept()
    flight.accept()
    flight.refuse(DependencyUnavailable("shutting down"))
    flight.accepted.result()
    with pytest.raises(DependencyUnavailable):
        flight.ended.result()


async def test_a_flight_that_begins_again_shares_nothing_with_its_first_try() -> None:
    """Its first clients were refused; whoever comes back is told of its own end."""
    flight = Core().flight(request(plan(A)), stream=True, named=True)
    flight.unsure = True
    flight.received_at -= 60.0
    flight.refuse(DependencyUnavailable("away"))
    again = flight.again()
    assert (again.key, again.state, again.named, again.kept, again.unsure) == (
        flight.key,
        State.ACCEPTING,
        True,
        True,
        False,
    )
    assert (again.sink, again.waiting) == (None, 0)
    assert again.received_at > flight.received_at + 59.0
    assert not any(future.done() for future in (again.accepted, again.ended, again.recorded))


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
