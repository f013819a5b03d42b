"""A stream that breaks off: continued behind identical text only, else ended or marked as begun anew."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from activities.requests.call import CallContext
from activities.requests.delivery import can_go_on, rest_of
from activities.requests.sink import ChunkSink
from api.gateway.described import modelpilot_object
from modelpilot.requests.outcome import Attempt, Outcome, Remedy, Segment
from modelpilot.requests.route_request import CallPlan
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import Chunk
from tests.support.core import COST_USD, A, B, Core, failure
from tests.support.routing_samples import completion, plan, profile, request, stream

WORDS = stream("one two three")
CUT = failure("stream_cut", Remedy.RETRY_SAME, retry_after_s=0.0)


def context(sink: ChunkSink | None, **changes: Any) -> CallContext:
    """A streamed request for sim/a that may repeat it once."""
    call_plan: CallPlan = replace(plan(A, B), same_model_retries=1, **changes)
    deadline = asyncio.get_running_loop().time() + 30.0
    specs = {"sim/a": A, "sim/b": B}
    return CallContext(request(call_plan).key, specs, profile("Simple question"), call_plan, deadline, sink)


async def read(sink: ChunkSink) -> list[dict[str, Any]]:
    """Everything that reached the client."""
    sink.finish()
    return [chunk.data for chunk in await sink.get()]


def text_of(chunks: list[dict[str, Any]]) -> str:
    """The text of some chunks."""
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])


async def test_the_same_model_goes_on_behind_what_was_sent() -> None:
    """One whole answer under one id, two attempts, both segments with their length."""
    core, sink = Core(), ChunkSink()
    again = [{**chunk, "id": "chatcmpl-2"} for chunk in WORDS]
    core.providers.will(A, [*WORDS[:3], CUT], again)
    outcome = await core.caller.first_phase(context(sink))
    chunks = await read(sink)
    assert (outcome.status, text_of(chunks)) == ("completed", "one two three")
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-1"}
    assert [attempt.status for attempt in outcome.attempts] == ["error", "ok"]
    assert outcome.segments == (Segment(0, "sim/a", 7), Segment(1, "sim/a", 6))
    assert outcome.cost_usd == pytest.approx(COST_USD + 9e-6 + 2 * 2e-6)
    assert outcome.answer is not None
    assert outcome.answer["choices"][0]["message"]["content"] == "one two three"


async def test_another_answer_is_cancelled_at_once() -> None:
    """The divergent call is closed at its first different word, and nobody else is called."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, [*WORDS[:3], CUT], [*stream("one other answer")[:3], asyncio.Event()])
    outcome = await core.caller.first_phase(context(sink))
    assert (outcome.status, outcome.error_code, outcome.can_fall_back) == ("failed", "stream_diverged", False)
    assert outcome.answer is None
    assert core.providers.made[1].closed
    assert not core.providers.made[1].completed
    assert outcome.attempts[1].cost_usd
    assert text_of(await read(sink)) == "one two"


async def test_a_shorter_answer_is_another_one() -> None:
    """It repeats all that it has, but ends before the point where the client stands."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, [*WORDS[:3], CUT], stream("one"))
    outcome = await core.caller.first_phase(context(sink))
    assert (outcome.status, outcome.error_code) == ("failed", "stream_diverged")


async def test_a_second_cut_while_catching_up_leaves_the_client_where_it_stood() -> None:
    """The third call has to repeat what the client has, not what the second call managed to say."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, [*WORDS[:3], CUT], [*WORDS[:2], CUT], WORDS)
    outcome = await core.caller.first_phase(context(sink))
    assert outcome.can_fall_back
    core.providers.will(B, WORDS)
    outcome = await core.caller.call(context(sink), "sim/b", 100)
    assert outcome.segments == (Segment(0, "sim/a", 7), Segment(100, "sim/b", 6))
    assert text_of(await read(sink)) == "one two three"


async def test_a_restart_is_marked_and_whole() -> None:
    """`onStreamCut: restart`: the mark, then the other answer from its beginning, even that of the text seen again."""
    core, sink = Core(), ChunkSink()
    sink.can_restart = True
    core.providers.will(A, [*WORDS[:3], CUT], stream("one other answer"))
    outcome = await core.caller.first_phase(context(sink, on_stream_cut="restart"))
    chunks = await read(sink)
    mark = next(place for place, chunk in enumerate(chunks) if "modelpilot" in chunk)
    assert chunks[mark]["modelpilot"] == {"restart": True, "model": "sim/a"}
    assert (text_of(chunks[:mark]), text_of(chunks[mark:])) == ("one two", "one other answer")
    assert (outcome.status, [part.characters for part in outcome.segments]) == ("completed", [7, 16])


async def test_a_format_without_the_mark_never_restarts() -> None:
    """A client that cannot be told gets an error, whatever the router says."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, [*WORDS[:3], CUT], stream("one other answer"))
    outcome = await core.caller.first_phase(context(sink, on_stream_cut="restart"))
    assert outcome.error_code == "stream_diverged"


async def test_what_cannot_be_compared_is_not_paid_again() -> None:
    """A cut behind audio is final, unless a restart is allowed."""
    core, sink = Core(), ChunkSink()
    audio = {**WORDS[0], "choices": [{"index": 0, "delta": {"audio": {"data": "x"}}, "finish_reason": None}]}
    core.providers.will(A, [audio, CUT])
    outcome = await core.caller.first_phase(context(sink))
    assert (outcome.can_fall_back, len(core.providers.made)) == (False, 1)
    sink.can_restart = True
    assert can_go_on(sink, context(sink, on_stream_cut="restart").plan)


async def test_a_keyed_client_that_has_gone_needs_no_comparison() -> None:
    """It will collect whichever whole answer there is."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, [*WORDS[:3], CUT], stream("one other answer"))
    sink.close()
    outcome = await core.caller.first_phase(context(sink))
    assert outcome.status == "completed"


def with_part(text: str) -> ChunkSink:
    """A client that has this text from attempt 0."""
    sink, assembler = ChunkSink(), ChunkAssembler()
    sink.transcript.begin(0, "sim/a")
    sink.transcript.follow(assembler.result)
    assembler.extend(map(Chunk, stream(text)[:-2]))
    return sink


def answered_elsewhere(text: str | None) -> Outcome:
    """The outcome of a fallback in another process."""
    attempts = (Attempt(0, "sim/a", "simulator", "error", cost_usd=0.25), Attempt(100, "sim/b", "simulator", "ok"))
    return Outcome("completed", "sim/b", "simulator", attempts, completion(text) if text else None)


async def test_an_answer_from_elsewhere_continues_the_same_text() -> None:
    """The rest is given out whole, and the segments name both models."""
    rest, outcome = rest_of(with_part("one two"), plan(A, B), answered_elsewhere("one two three"))
    assert text_of([chunk.data for chunk in rest]) == " three"
    assert outcome.segments == (Segment(0, "sim/a", 7), Segment(100, "sim/b", 6))


@pytest.mark.parametrize("text", ["one other answer", "one", None])
async def test_another_answer_from_elsewhere_is_an_error(text: str | None) -> None:
    """A cut answer is never presented as complete because somebody else has completed another one."""
    rest, outcome = rest_of(with_part("one two"), plan(A, B), answered_elsewhere(text))
    assert (rest, outcome.status, outcome.error_code) == ([], "failed", "stream_diverged")


async def test_another_answer_from_elsewhere_may_restart() -> None:
    """Marked like any other restart."""
    sink = with_part("one two")
    sink.can_restart = True
    call_plan = replace(plan(A, B), on_stream_cut="restart")
    rest, outcome = rest_of(sink, call_plan, answered_elsewhere("another"))
    assert rest[0].data["modelpilot"] == {"restart": True, "model": "sim/b"}
    assert (text_of([chunk.data for chunk in rest]), outcome.status) == ("another", "completed")
    assert [part.characters for part in outcome.segments] == [7, 7]


async def test_nothing_is_missing_from_a_whole_stream_or_a_failure() -> None:
    """What streamed here to its end is complete, and a failure has nothing to add."""
    sink = with_part("one two")
    failed = Outcome("failed", "sim/a", "simulator")
    assert rest_of(sink, plan(A), failed) == ([], failed)
    sink.transcript.whole = True
    assert rest_of(sink, plan(A), answered_elsewhere("x"))[0] == []
    rest, _ = rest_of(ChunkSink(), plan(A), answered_elsewhere("one"))
    assert text_of([chunk.data for chunk in rest]) == "one"


async def test_segments_are_described_with_their_cost() -> None:
    """`modelpilot.segments` of the last chunk."""
    core = Core()
    await core.answer()
    (record,) = core.ledger.rows.values()
    outcome = replace(answered_elsewhere("x"), segments=(Segment(0, "sim/a", 7), Segment(100, "sim/b", 6)))
    assert modelpilot_object(record, outcome, explain=False)["segments"] == [
        {"model": "sim/a", "attempt": 0, "costUsd": 0.25, "characters": 7},
        {"model": "sim/b", "attempt": 100, "costUsd": None, "characters": 6},
    ]
    assert "segments" not in modelpilot_object(record, record.outcome, explain=False)
