"""Answers under our own names: what changes of a chunk, and what does not."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.wire.chunks import Chunk
from modelpilot.wire.identity import Renamed, request_id_of
from modelpilot.wire.jsonb import parse_object

OURS = {"id": "chatcmpl-req_1", "model": "own/m"}
CHOICES = b'"choices":[{"index":0,"delta":{"tool_calls":[{"id":"call_1","model":"x"}]}}]}'


def named(*raws: bytes) -> list[dict[str, Any]]:
    """The chunks of one stream, renamed."""
    stream = Renamed(OURS["id"], OURS["model"])
    return [orjson.loads(stream.json_of(Chunk(parse_object(raw), raw))) for raw in raws]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id":"a","object":"chat.completion.chunk","created":1,"model":"m",' + CHOICES,
        b'{ "id": "a",\n "model" : "m" , ' + CHOICES,
        b'{"model":"m","id":"a\\"b\\u00e9",' + CHOICES,
        b'{"id":"a","x":{"choices":1},"model":"m",' + CHOICES,  # what looks like the choices is not
        b'{"id":"a",' + CHOICES[:-1] + b',"model":"m"}',
        CHOICES.replace(b'"choices"', b'{"choices"', 1)[:-1] + b',"id":"a","model":"m"}',
        b'{"created":1,' + CHOICES,
        b'{"id":null,"model":null,' + CHOICES,
    ],
)
def test_only_the_two_names_change(raw: bytes) -> None:
    """Wherever they stand and however they are written; ids of calls stay."""
    (found,) = named(raw)
    assert found == {**orjson.loads(raw), **OURS}


def test_a_stream_may_change_its_head_on_the_way() -> None:
    """Providers that give every chunk another id, and proxies that add a field to the last one."""
    heads = [b'{"id":"a",', b'{"id":"b",', b'{"tier":"x","id":"a",', b'{"id":"a",']
    assert [
        (each["id"], each["model"], each.get("tier"))
        for each in named(*(head + b'"model":"m",' + CHOICES for head in heads))
    ] == [
        (*OURS.values(), None),
        (*OURS.values(), None),
        (*OURS.values(), "x"),
        (*OURS.values(), None),
    ]


def test_what_stands_behind_the_names_is_passed_on_as_it_came() -> None:
    """Numbers, spaces and escapes of the choices are the provider's."""
    raw = b'{"id":"a","model":"m","choices": [ {"index":0, "delta":{"content":"\\u00e9 1.0"},"x":1e2} ]}'
    assert Renamed("b", "n").json_of(Chunk(parse_object(raw), raw)).endswith(raw[raw.index(b'"choices"') :])


def test_a_chunk_that_is_ours_has_no_bytes_to_keep() -> None:
    """Translated from another format."""
    assert orjson.loads(Renamed("b", "n").json_of(Chunk({"id": "a", "model": "m", "choices": []}))) == {
        "id": "b", "model": "n", "choices": [],
    }  # fmt: skip


@given(st.dictionaries(st.sampled_from(["id", "model", "created", "choices", "x"]), st.text() | st.integers(0, 9)))
def test_any_chunk_is_renamed(chunk: dict[str, Any]) -> None:
    """Whatever a provider sends, in whatever order."""
    raw = orjson.dumps(chunk)
    assert orjson.loads(Renamed("b", "n").json_of(Chunk(parse_object(raw), raw))) == {**chunk, "id": "b", "model": "n"}


@pytest.mark.parametrize(
    ("answer_id", "request_id"),
    [
        ("chatcmpl-req_1", "req_1"),
        ("cmpl-key_2", "key_2"),
        ("msg_mine", "mine"),
        ("resp_req_1", "req_1"),
        ("req_1", None),
        ("", None),
    ],
)
def test_an_answers_id_leads_to_its_request(answer_id: str, request_id: str | None) -> None:
    """In every format."""
    assert request_id_of(answer_id) == request_id
