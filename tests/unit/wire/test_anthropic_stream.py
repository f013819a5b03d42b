"""Anthropic's streams back into OpenAI chunks, and the whole way there and back."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.requests.outcome import ProviderError, Usage
from modelpilot.wire.anthropic import messages_request
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.openai import checked_chunk

USER = {"role": "user", "content": "Hi"}


def tool_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def decoded(events: list[dict[str, Any]]) -> ChunkAssembler:
    decoder, assembler = AnthropicDecoder(created=7), ChunkAssembler()
    for event in events:
        for chunk in decoder.take(event):
            assembler.add(checked_chunk(chunk))
    assert decoder.complete == decoder.ended
    for chunk in decoder.closing():
        assembler.add(checked_chunk(chunk))
    return assembler


def stream(*blocks: list[dict[str, Any]], reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    """A stream of blocks, each given as its first state and its deltas."""
    message = {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 5, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, (first, *deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": first})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    last = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9, **usage}}
    return [*events, last, {"type": "message_stop"}]


def test_a_text_stream() -> None:
    """Text, identity, finish reason and usage arrive; cached input counts as input."""
    text = [{"type": "text", "text": ""}, {"type": "text_delta", "text": "Hel"}, {"type": "text_delta", "text": "lo"}]
    counts: dict[str, Any] = {"cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
    assembler = decoded(stream(text, **counts, output_tokens_details={"thinking_tokens": 4}))
    assert assembler.usage == Usage(10, 9, 3, 4, cache_write_5m_tokens=2)
    result = assembler.result()
    assert (result["id"], result["model"], result["created"]) == ("msg_1", "claude", 7)
    assert result["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    ]


def test_thinking_and_tools() -> None:
    """Thinking becomes reasoning and can be sent back; parallel calls keep ids, names and streamed arguments."""
    thinking: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": ""},
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "signature_delta", "signature": "sig"},
    ]
    first: list[dict[str, Any]] = [
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"x":'},
        {"type": "input_json_delta", "partial_json": "1}"},
    ]
    second: list[dict[str, Any]] = [{"type": "tool_use", "id": "t2", "name": "g", "input": {}}]
    message = decoded(stream(thinking, first, second, reason="tool_use")).result()["choices"][0]
    assert message["finish_reason"] == "tool_calls"
    assert message["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm",
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": "sig"}],
        "tool_calls": [tool_call("t1", "f", '{"x":1}'), tool_call("t2", "g", "{}")],
    }


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_finish_reasons(reason: str, expected: str) -> None:
    """Every stop reason has its counterpart."""
    assert decoded(stream([{"type": "text", "text": "x"}], reason=reason)).finish_reason == expected


def test_unknown_events_are_skipped_and_broken_ones_are_not() -> None:
    """Anthropic may add events; a delta for a block that never began is a broken stream."""
    decoder = AnthropicDecoder(0)
    assert decoder.take({"type": "new"}) == []
    with pytest.raises(ProviderError) as caught:
        decoder.take({"type": "content_block_delta", "index": 3, "delta": {}})
    assert caught.value.error_type == "malformed_response"


arguments = st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=9), max_size=3)
assistant = st.tuples(
    st.text(max_size=20).filter(lambda text: not text or bool(text.strip())),  # Claude takes no blank text
    st.lists(st.tuples(st.uuids().map(str), st.text("abc", min_size=1, max_size=5), arguments), max_size=3),
).filter(lambda message: bool(message[0] or message[1]))


@given(assistant, st.booleans())
def test_openai_to_anthropic_and_back(message: tuple[str, list[Any]], streamed: bool) -> None:
    """Text, tool calls and their ids survive the way to Anthropic and back, whole or streamed."""
    text, calls = message
    wire_calls = [tool_call(call_id, name, orjson.dumps(value).decode()) for call_id, name, value in calls]
    spoken = {"role": "assistant", "content": text, "tool_calls": wire_calls}
    blocks = messages_request({"messages": [USER, spoken, USER]}, "claude")["messages"][1]["content"]
    if streamed:
        result = decoded(stream(*(_as_deltas(block) for block in blocks))).result()
    else:
        assembler = ChunkAssembler()
        whole = {"type": "message", "id": "m", "model": "c", "content": blocks, "stop_reason": "end_turn"}
        for chunk in AnthropicDecoder(0).decode_whole(whole):
            assembler.add(chunk)
        result = assembler.result()
    answer = result["choices"][0]["message"]
    assert (answer["content"] or "", answer.get("tool_calls", [])) == (text, wire_calls)


def _as_deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        half = len(block["text"]) // 2
        pieces = (block["text"][:half], block["text"][half:])
        return [{"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces)]
    value = orjson.dumps(block["input"]).decode()
    pieces = (value[:3], value[3:])
    return [{**block, "input": {}}, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces)]


def test_what_was_written_to_the_cache_counts_as_input() -> None:
    """For five minutes and for an hour apart, also where a relay's last event repeats the counts as zeros."""
    written = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 7}
    events = stream([{"type": "text", "text": "a"}], cache_creation_input_tokens=0, cache_read_input_tokens=0)
    counts = {"cache_creation_input_tokens": 10, "cache_read_input_tokens": 4, "cache_creation": written}
    events[0]["message"]["usage"] |= counts
    assert decoded(events).usage == Usage(19, 9, 4, 0, 3, 7)
