"""Verified resume: the same answer, however it is cut into chunks, goes on to the same text; any other one does not."""

from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import as_chunks, choice_of, chunk_of
from modelpilot.wire.resume import Diverged, Resume, Transcript, characters, is_comparable

BASE = {"id": "first", "created": 1, "model": "a"}
AGAIN = {"id": "second", "created": 2, "model": "b"}
TEXTS = st.text(min_size=1, max_size=12)
FIELDS = ("reasoning_content", "content", "refusal")

Step = tuple[str, int, str]  # a field, the position of a tool call, the next piece


@st.composite
def answers(draw: st.DrawFn) -> list[Step]:
    """An answer as its fields in the order in which they are streamed; tool calls last."""
    steps = [(name, 0, draw(TEXTS)) for name in FIELDS if draw(st.booleans())]
    for position in range(draw(st.integers(0, 2))):
        steps += [("name", position, draw(TEXTS)), ("arguments", position, draw(TEXTS))]
    assume(steps)
    return steps


def delta_of(step: Step, call_id: str) -> dict[str, Any]:
    """One piece as a delta."""
    field, position, piece = step
    if field == "name":
        call = {"index": position, "id": f"{call_id}{position}", "type": "function"}
        return {"tool_calls": [{**call, "function": {"name": piece, "arguments": ""}}]}
    if field == "arguments":
        return {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}
    return {field: piece}


def split(data: st.DataObject, steps: list[Step]) -> list[Step]:
    """The same answer in other pieces; names stay whole, as every provider sends them."""
    pieces: list[Step] = []
    for field, position, text in steps:
        at = len(text) if field == "name" else data.draw(st.integers(1, len(text)))
        pieces += [(field, position, part) for part in (text[:at], text[at:]) if part]
    return pieces


def chunks_of(steps: list[Step], base: dict[str, Any], *, call_id: str, index: int = 0) -> list[dict[str, Any]]:
    """A whole stream."""
    deltas = [{"role": "assistant", "content": ""}, *(delta_of(step, call_id) for step in steps)]
    chunks = [chunk_of(base, [choice_of(delta, index=index)]) for delta in deltas]
    return [*chunks, chunk_of(base, [choice_of({}, index=index, finish_reason="stop")])]


def assembled(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client makes of the chunks."""
    assembler = ChunkAssembler()
    for chunk in chunks:
        assembler.add(chunk)
    return assembler.result()


def resumed(sent: list[dict[str, Any]], again: list[dict[str, Any]]) -> list[dict[str, Any]] | Diverged:
    """What the client gets of a second answer."""
    resume, rest = Resume(assembled(sent)), []
    for chunk in again:
        left = resume.feed(chunk)
        if isinstance(left, Diverged):
            return left
        rest += left
    return resume.finish() or rest


def test_content_in_parts_resumes() -> None:
    """Reasoning and text in parts are compared as what they are; a picture among them cannot be."""
    think, text = ({"type": "thinking", "thinking": "Hmm"}, {"type": "text", "text": "Hello"})
    sent = [chunk_of(BASE, [choice_of({"content": [think]})]), chunk_of(BASE, [choice_of({"content": "Hel"})])]
    again = [chunk_of(AGAIN, [choice_of({"content": [part]})]) for part in (think, text)]
    rest = resumed(sent, again)
    assert not isinstance(rest, Diverged)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in rest] == [[{"type": "text", "text": "lo"}]]
    assert isinstance(resumed(sent, [chunk_of(AGAIN, [choice_of({"content": [text]})])]), Diverged)
    assert not is_comparable(assembled([chunk_of(BASE, [choice_of({"content": [{"type": "image_url"}]})])]))


@given(st.data())
def test_the_same_answer_resumes_to_the_same_text(data: st.DataObject) -> None:
    """Cut anywhere, repeated in any pieces: the client ends with the whole answer, under the first id."""
    answer = data.draw(answers())
    first = chunks_of(split(data, answer), BASE, call_id="x")
    cut = data.draw(st.integers(1, len(first)))
    rest = resumed(first[:cut], chunks_of(split(data, answer), AGAIN, call_id="y"))
    assert not isinstance(rest, Diverged)
    got, whole = assembled([*first[:cut], *rest]), assembled(first)
    for call in got["choices"][0]["message"].get("tool_calls", []):
        call["id"] = call["id"].replace("y", "x")
    assert got == whole
    assert {chunk["id"] for chunk in rest} <= {"first"}


@given(st.data())
def test_any_change_in_what_was_sent_diverges(data: st.DataObject) -> None:
    """One character of one text that the client has: nothing of the other answer reaches it."""
    answer = data.draw(answers())
    place = data.draw(st.integers(0, len(answer) - 1))
    field, position, text = answer[place]
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters().filter(lambda other: other != text[at])) + text[at + 1 :]
    other = [*answer[:place], (field, position, changed), *answer[place + 1 :]]
    sent = chunks_of(answer, BASE, call_id="x")[: place + 2]
    assert isinstance(resumed(sent, chunks_of(split(data, other), AGAIN, call_id="y")), Diverged)


@given(st.data())
def test_a_shorter_answer_diverges(data: st.DataObject) -> None:
    """An answer that ends before the point where the client stands is another answer."""
    answer = data.draw(answers())
    sent = chunks_of(answer, BASE, call_id="x")[: len(answer) + 1]
    field, position, text = answer[-1]
    shorter = [*answer[:-1], *([(field, position, text[:-1])] if len(text) > 1 else [])]
    assert isinstance(resumed(sent, chunks_of(shorter, AGAIN, call_id="y")), Diverged)


def words(*pieces: str, index: int = 0) -> list[dict[str, Any]]:
    """Content chunks."""
    return [chunk_of(BASE, [choice_of({"content": piece}, index=index)]) for piece in pieces]


def test_a_chunk_across_the_boundary_is_trimmed() -> None:
    """The client has `one two`, the second answer sends `one` and ` two three`."""
    rest = resumed(words("one", " two"), [*words("one", " two three"), chunk_of(AGAIN, [], usage={"total_tokens": 1})])
    assert isinstance(rest, list)
    assert [chunk["choices"] for chunk in rest] == [[choice_of({"content": " three"})], []]
    assert rest[1]["usage"] == {"total_tokens": 1}


def test_nothing_passes_before_all_choices_are_verified() -> None:
    """Two choices: the first one's rest waits until the second one was seen again."""
    resume = Resume(assembled([*words("a"), *words("b", index=1)]))
    assert resume.feed(words("aX")[0]) == []
    assert not resume.caught_up
    released = resume.feed(words("bY", index=1)[0])
    assert isinstance(released, list)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in released] == ["X", "Y"]


@pytest.mark.parametrize(
    "again",
    [
        pytest.param([{"reasoning": "hm"}, {"content": "one two"}], id="output that the first answer did not have"),
        pytest.param([{"content": "one"}, {"tool_calls": [{"index": 0, "id": "x"}]}], id="a tool call too early"),
        pytest.param([{"content": "one"}, {"audio": {"data": "x"}}], id="something else too early"),
    ],
)
def test_output_out_of_order_diverges(again: list[dict[str, Any]]) -> None:
    """What comes before the point where the client stands must be what came before it the first time."""
    rest = resumed(words("one tw"), [chunk_of(AGAIN, [choice_of(delta)]) for delta in again])
    assert isinstance(rest, Diverged)


def test_a_choice_that_has_ended_must_end_alike() -> None:
    """The client has the end of the first choice already."""
    ended = chunk_of(BASE, [choice_of({}, finish_reason="stop")])
    sent = [*words("a"), ended, *words("b", index=1)]
    again = [*words("a"), ended, *words("bc", index=1)]
    rest = resumed(sent, again)
    assert isinstance(rest, list)
    assert [chunk["choices"][0]["delta"] for chunk in rest] == [{"content": "c"}]
    assert isinstance(resumed(sent, [*words("a more"), ended, *words("bc", index=1)]), Diverged)
    longer = chunk_of(BASE, [choice_of({}, finish_reason="length")])
    assert isinstance(resumed(sent, [*words("a"), longer, *words("bc", index=1)]), Diverged)


def test_log_probabilities_follow_the_text() -> None:
    """Of a trimmed chunk, those of the tokens behind the boundary."""
    tokens = [{"token": token, "logprob": -0.5} for token in ("one", " two", " three")]
    chunk = chunk_of(AGAIN, [{**choice_of({"content": "one two three"}), "logprobs": {"content": tokens}}])
    rest = resumed(words("one two"), [chunk])
    assert isinstance(rest, list)
    assert rest[0]["choices"][0]["logprobs"] == {"content": tokens[2:]}


@pytest.mark.parametrize(
    "delta",
    [
        {"audio": {"id": "a", "data": "xx"}},
        {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}", "signature": "s"}}]},
    ],
)
def test_what_cannot_be_compared_is_not_resumed(delta: dict[str, Any]) -> None:
    """Audio, custom tools and signatures: better an honest end than a guess."""
    sent = assembled([chunk_of(BASE, [choice_of(delta)])])
    assert not is_comparable(sent)
    assert isinstance(Resume(sent).feed(words("x")[0]), Diverged)


def test_a_whole_answer_continues_a_part_of_it() -> None:
    """An answer that another process got arrives as few large chunks."""
    answer = assembled(chunks_of([("reasoning", 0, "hm"), ("content", 0, "one two")], AGAIN, call_id="y"))
    rest = resumed([chunk_of(BASE, [choice_of({"reasoning": "h"})])], as_chunks(answer))
    assert isinstance(rest, list)
    message = assembled(rest)["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("m", "one two")


def test_segments_say_who_wrote_how_much() -> None:
    """Only where there is more than one; a call that wrote nothing is none."""
    transcript, sent = Transcript(), list[dict[str, Any]]()
    for seq, (model, text) in enumerate((("a", "one"), ("b", ""), ("c", " two"))):
        transcript.begin(seq, model)
        if text:
            sent += words(text)
            transcript.follow(partial(assembled, [*sent]))
        assert seq == 2 or transcript.segments() == ()
    assert [(part.seq, part.model, part.characters) for part in transcript.segments()] == [(0, "a", 3), (2, "c", 4)]
    assert characters(transcript.completion()) == 7
    transcript.begin(3, "d")
    transcript.restart(lambda: assembled(words("anew")))
    assert [part.characters for part in transcript.segments()] == [3, 4, 4]
