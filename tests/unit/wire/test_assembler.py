"""OpenAI's chunks added up: text, tool calls and every other field, however they were cut."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.requests.outcome import Usage
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import as_chunks
from modelpilot.wire.openai import checked_chunk
from modelpilot.wire.usage import usage_object
from tests.support.samples import chunk, delta


def assembled(*chunks: dict[str, Any]) -> dict[str, Any]:
    assembler = ChunkAssembler()
    for item in chunks:
        assembler.add(item)
    return assembler.result()


def message(*chunks: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = assembled(*chunks)["choices"][0]["message"]
    return found


def calls(*deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = message(*(chunk(delta(tool_calls=item)) for item in deltas))["tool_calls"]
    return found


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_text_adds_up() -> None:
    """Deltas become one message with its finish reason, usage and identity."""
    result = assembled(
        chunk(delta(role="assistant", content="", refusal=None), service_tier="default", usage=None),
        chunk(delta(content="Hel"), obfuscation="xyz"),
        chunk(delta(content="lo"), system_fingerprint="fp"),
        chunk(delta(finish="stop")),
        chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    )
    assert result == {
        "id": "c1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": "fp",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def test_choices_are_kept_apart() -> None:
    """With n > 1 interleaved deltas end up in their own choice, in order."""
    result = assembled(chunk(delta(1, content="b")), chunk(delta(0, content="a"), delta(1, "length", content="B")))
    assert [(item["index"], item["message"]["content"]) for item in result["choices"]] == [(0, "a"), (1, "bB")]
    assert [item["finish_reason"] for item in result["choices"]] == [None, "length"]


def test_parallel_tool_calls() -> None:
    """Interleaved deltas of parallel calls are continued by their index."""
    assert calls(
        [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y'}}],
        [{"index": 0, "function": {"arguments": '{"x":'}}, {"index": 1, "function": {"arguments": '":2}'}}],
        [{"index": 0, "function": {"arguments": "1}"}}],
    ) == [call("a", "f", '{"x":1}'), call("b", "g", '{"y":2}')]


def test_tool_calls_of_sloppy_servers() -> None:
    """Whole calls that share the index 0, repeat their name or have no index at all are still told apart."""
    whole = [{"index": 0, **call("a", "f", "{}")}]
    assert calls(whole, [{"index": 0, **call("b", "f", "{}")}]) == [call("a", "f", "{}"), call("b", "f", "{}")]
    assert calls([call("a", "f", "{}"), call("b", "g", "")]) == [call("a", "f", "{}"), call("b", "g", "")]
    again = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}}]
    assert calls(again, again) == [call("a", "f", "11")]
    assert calls([{"index": None, "id": "a", "function": {"name": "f", "arguments": None}}]) == [call("a", "f", "")]


def test_other_fields_of_a_delta() -> None:
    """Reasoning, refusals, logprobs and fields of tomorrow add up as their types suggest."""
    first = delta(
        reasoning_content="Let", refusal="No", audio={"id": "x", "data": "AA"}, extra=[{"index": 0, "t": "a"}]
    )
    second = delta(reasoning_content=" me", refusal="pe", audio={"data": "BB"}, extra=[{"index": 0, "t": "b"}, 1])
    first["logprobs"] = {"content": [{"token": "a"}], "refusal": None}
    second["logprobs"] = {"content": [{"token": "b"}], "refusal": None}
    second["content_filter_results"] = {"hate": {"filtered": False}}
    choice = assembled(chunk(first), chunk(second), chunk(delta(function_call={"name": "f"})))["choices"][0]
    assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}
    assert choice["content_filter_results"] == {"hate": {"filtered": False}}
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Let me",
        "refusal": "Nope",
        "audio": {"id": "x", "data": "AABB"},
        "extra": [{"index": 0, "t": "ab"}, 1],
        "function_call": {"name": "f"},
    }


def test_content_in_parts() -> None:
    """Text goes where clients read it, reasoning beside it, whatever the order; other parts keep their place."""
    think = [{"type": "thinking", "thinking": [{"type": "text", "text": word}]} for word in "AB"]
    chunks = [chunk(delta(role="assistant", content="")), *(chunk(delta(content=[part])) for part in think)]
    assert message(*chunks, chunk(delta(content=[{"type": "text", "text": "Hel"}])), chunk(delta(content="lo"))) == {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "AB",
    }
    image = {"type": "image_url", "image_url": {"url": "u"}}
    mixed = message(chunk(delta(content="a")), chunk(delta(content=[image, {"type": "text", "text": "b"}])))
    assert mixed["content"] == [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]


def test_lists_of_a_delta_are_not_changed_by_those_behind_it() -> None:
    """Also where the field was there before, as null: a chunk may be on its way to the client."""
    chunks = [chunk(delta(images=None)), *(chunk(delta(images=[{"n": n}])) for n in range(3))]
    before = copy.deepcopy(chunks)
    assert message(*chunks)["images"] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert chunks == before


def test_chunks_are_not_changed_by_adding_them_up() -> None:
    """A chunk may be on its way to the client while it is added up."""
    chunks = [chunk(delta(audio={"data": "A"}, extra=[{"index": 0, "t": "a"}], x={"y": "z"})) for _ in range(3)]
    before = copy.deepcopy(chunks)
    assembled(*chunks)
    assert chunks == before


@pytest.mark.parametrize(
    ("fields", "started"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"content": "a"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
        ({"refusal": "n"}, True),
        ({"reasoning_content": "r"}, True),
    ],
)
def test_content_started(fields: dict[str, Any], started: bool) -> None:
    """The first token is the first output of any sort, not the role that is announced before it."""
    assembler = ChunkAssembler()
    assembler.add(chunk(delta(**fields)))
    assert assembler.content_started is started


texts = st.none() | st.text(max_size=20)
tokens = st.fixed_dictionaries({"token": st.text(max_size=3), "logprob": st.floats(-9, 0), "top_logprobs": st.just([])})
tool_call = st.builds(call, st.uuids().map(str), st.text(min_size=1, max_size=9), st.text(max_size=20))
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts},
    optional={
        "refusal": texts,
        "reasoning_content": texts,
        "tool_calls": st.lists(tool_call, min_size=1, max_size=3, unique_by=lambda item: str(item["id"])),
        "annotations": st.lists(st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2), max_size=2),
        "function_call": st.just({"name": "f", "arguments": "{}"}),
    },
)
choices = st.lists(
    st.fixed_dictionaries(
        {"message": messages, "finish_reason": st.sampled_from(["stop", "length", "tool_calls", None])},
        optional={
            "logprobs": st.none() | st.fixed_dictionaries({"content": st.lists(tokens), "refusal": st.none()}),
            "content_filter_results": st.dictionaries(st.text(max_size=3), st.booleans(), max_size=2),
        },
    ),
    max_size=3,
).map(lambda items: [{"index": index, **item} for index, item in enumerate(items)])
completions = st.fixed_dictionaries(
    {
        "id": st.text(max_size=9),
        "object": st.just("chat.completion"),
        "created": st.integers(0, 2**40),
        "model": st.text(max_size=9),
        "choices": choices,
    },
    optional={
        "usage": st.builds(Usage, st.integers(0, 99), st.integers(0, 99)).map(usage_object),
        "system_fingerprint": st.text(max_size=5),
        "service_tier": st.just("default"),
        "provider": st.text(max_size=5),
        "citations": st.lists(st.text(max_size=5), max_size=2),
    },
)


@given(completions)
def test_assembling_the_chunks_of_a_completion_gives_the_completion(completion: dict[str, Any]) -> None:
    """An answer replayed as a stream is the same answer."""
    chunks = as_chunks(completion)
    assert [checked_chunk(item) for item in chunks] == chunks
    assert assembled(*chunks) == completion


@given(st.text(max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_text_is_the_same_however_it_was_cut(text: str, cuts: list[int]) -> None:
    """Neither text nor arguments depend on where the provider cuts them."""
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert message(*(chunk(delta(content=piece)) for piece in pieces))["content"] == text
    deltas = [[{"index": 0, "function": {"arguments": piece}}] for piece in pieces]
    assert calls([{"index": 0, **call("a", "f", "")}], *deltas) == [call("a", "f", text)]
