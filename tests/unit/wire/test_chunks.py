"""Chunks on their way: the bytes that came are the bytes that go, and what is known by likeness is what was said."""

from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelpilot.requests.outcome import ProviderError
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import Chunk, Likeness
from modelpilot.wire.identity import Renamed
from modelpilot.wire.jsonb import dump
from modelpilot.wire.openai import OpenAIDecoder
from modelpilot.wire.reader import AnswerReader
from tests.support.samples import chunk, delta

# An integer that no double holds, a field twice, an escape that could be written otherwise, spaces: all JSON.
ODD = (
    b'{"id": "c", "object":"chat.completion.chunk", "created":1,"model":"m","seed":123456789012345678901234567890,'
    b'"x":1,"x":2,"choices":[{"index":0,"delta":{"content":"\\u0041\\/"},"finish_reason":%b}]}'
)


def read(*data: bytes, max_bytes: int = 1_000_000) -> list[Chunk]:
    """The chunks of a stream of events with these data."""
    reader = AnswerReader(OpenAIDecoder(), max_bytes)
    return [found for piece in data for found in reader.feed(b"data: " + piece + b"\n\n")]


def test_what_came_is_passed_on_as_it_came() -> None:
    """Neither unknown fields, nor large integers, nor repeated names are touched, also where our object is added."""
    text, last = read(ODD % b"null", ODD % b'"stop"', b"[DONE]")
    assert (text.text, last.text) == ("A/", None)
    assert text.json == ODD % b"null"
    ours = (ODD % b'"stop"').replace(b'"id": "c"', b'"id":"c"')
    assert Renamed("c", "m").json_with(last, modelpilot={"a": 1}) == ours[:-1] + b',"modelpilot":{"a":1}}'


def test_lone_surrogates_survive() -> None:
    """Half an emoji in a chunk is no broken stream: the other half comes with the next."""
    halves = [
        b'{"id":"c","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}' % half
        for half in (b"\\ud83d", b"\\ude00")
    ]
    chunks, assembler = read(*halves), ChunkAssembler()
    assembler.extend(chunks)
    assert [found.json for found in chunks] == halves
    assert orjson.loads(dump(assembler.result()))["choices"][0]["message"]["content"] == "😀"


def test_our_object_replaces_one_of_the_same_name() -> None:
    """A provider that is a ModelPilot itself does not speak for this one."""
    theirs = chunk(delta(content="Hi", finish="stop"), modelpilot={"requestId": "theirs"})
    (found,) = read(orjson.dumps(theirs), b"[DONE]")
    assert orjson.loads(Renamed("c", "m").json_with(found, modelpilot={"requestId": "ours"}))["modelpilot"] == {
        "requestId": "ours"
    }


texts = st.text(min_size=1, max_size=12) | st.sampled_from(
    ['"', "\\", 'a","x":"b', "\n", "\u2028", "é", "}", "content"]
)


@given(st.lists(texts, min_size=1, max_size=6), st.sampled_from([{}, {"user": "content"}, {"x": '"content":"a"'}]))
def test_alike_chunks_say_what_decoding_would_say(words: list[str], fields: dict[str, str]) -> None:
    """Whether decoded or known by what surrounds the text: the same text, the same object, the same answer."""
    data = [orjson.dumps(chunk(delta(content=word), **fields)) for word in words]
    chunks = read(*data)
    assert [found.text for found in chunks] == words
    assert [found.data for found in chunks] == [orjson.loads(each) for each in data]
    quick, slow = ChunkAssembler(), ChunkAssembler()
    quick.extend(chunks)
    for each in data:
        slow.add(orjson.loads(each))
    assert quick.result() == slow.result()


@given(texts, st.binary(max_size=30), st.binary(max_size=3))
def test_no_rubbish_is_like_a_chunk(text: str, inside: bytes, behind: bytes) -> None:
    """What stands between the known bytes is taken only where it makes valid JSON with that text."""
    raw = orjson.dumps(chunk(delta(content=text)))
    assume(raw.count(b'"content":') == 1)
    before, _, after = raw.partition(orjson.dumps(text))
    other = before + b'"' + inside + b'"' + after + behind
    found = Likeness(raw, text).text_in(other)
    assert found is None or orjson.loads(other)["choices"][0]["delta"]["content"] == found


def test_a_server_that_varies_its_chunks_is_decoded() -> None:
    """Padding that is new in each chunk (OpenAI's `obfuscation`) ends the comparing, and the answer is whole."""
    data = [orjson.dumps(chunk(delta(content=f"w{n}"), obfuscation="x" * n)) for n in range(40)]
    assert "".join(found.text or "" for found in read(*data)) == "".join(f"w{n}" for n in range(40))


def test_a_change_between_alike_chunks_is_kept() -> None:
    """The last fingerprint counts, also where chunks like an earlier one come behind it."""
    first, other = (orjson.dumps(chunk(delta(content="a"), system_fingerprint=name)) for name in ("f1", "f2"))
    for order, expected in (([first, first, other], "f2"), ([first, other, first, first], "f1")):
        assembler = ChunkAssembler()
        assembler.extend(read(*order))
        assert assembler.result()["system_fingerprint"] == expected


@pytest.mark.parametrize("piece", [{"content": "x" * 50}, {"tool_calls": [{"index": 0, "id": "x" * 50}]}])
def test_a_stream_is_bounded_like_a_whole_answer(piece: dict[str, Any]) -> None:
    """Whoever keeps the answer until it is whole needs memory for it: text, calls and bodies count."""
    with pytest.raises(ProviderError) as caught:
        read(*[orjson.dumps(chunk(delta(**piece)))] * 100, max_bytes=5_000)
    assert (caught.value.error_type, caught.value.remedy) == ("answer_too_large", "give_up")
    with pytest.raises(ProviderError):
        AnswerReader(OpenAIDecoder(), 100).feed(b"{" + b" " * 200)
