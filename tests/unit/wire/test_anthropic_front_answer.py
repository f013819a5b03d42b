"""Answers and streams in Anthropic's Messages format at our own door: nothing of what a model says is lost."""

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.wire.anthropic_front import chat_request_of
from modelpilot.wire.anthropic_front_answer import MessageEncoder, message_of
from modelpilot.wire.chunks import as_chunks, choice_of, chunk_of
from tests.support.anthropic_bodies import CALLS, TEXT, body
from tests.support.routing_samples import stream


def completion(
    text: str | None, calls: list[tuple[str, dict[str, Any]]], finish: str = "stop", **message: Any
) -> dict[str, Any]:
    """An OpenAI completion."""
    tool_calls = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for index, (name, arguments) in enumerate(calls)
    ]
    answer = {"role": "assistant", "content": text, **({"tool_calls": tool_calls} if calls else {}), **message}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": answer, "finish_reason": finish}],
        "usage": usage,
    }


def accumulated(chunks: list[dict[str, Any]], *, with_thinking: bool = False) -> dict[str, Any]:
    """What Anthropic's own SDK makes of the stream of these chunks."""
    encoder = MessageEncoder(with_thinking=with_thinking)
    events = [event for chunk in chunks for event in encoder.take(chunk)] + encoder.end("msg_1", "m")
    message: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)  # type: ignore[arg-type]
    data: dict[str, Any] = message.to_dict()
    return {**data, "content": [{key: item[key] for key in sorted(item)} for item in data["content"]]}


@given(st.none() | TEXT, CALLS, st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_a_stream_adds_up_to_the_whole_message(
    text: str | None, calls: list[tuple[str, dict[str, Any]]], finish: str
) -> None:
    """Anthropic's SDK puts our events together to the very message that a client without a stream gets."""
    whole = completion(text, calls, finish)
    expected = message_of(whole, with_thinking=False)
    found = accumulated(as_chunks(whole))
    assert found["content"] == [{key: item[key] for key in sorted(item)} for item in expected["content"]]
    assert (found["stop_reason"], found["usage"]) == (expected["stop_reason"], expected["usage"])
    Message.model_validate(expected, strict=True)
    said = "".join(item["text"] for item in expected["content"] if item["type"] == "text")
    assert said == (text or "")
    used = [(item["name"], item["input"]) for item in expected["content"] if item["type"] == "tool_use"]
    assert used == calls


def test_streamed_thinking_ends_with_a_signature() -> None:
    """Clients wait for one before the block's end; a model that signs nothing has an empty one."""
    encoder = MessageEncoder(with_thinking=True)
    deltas: list[dict[str, Any]] = [{"reasoning_content": "Hm."}, {"content": "Yes."}]
    events = [event for delta in deltas for event in encoder.take(chunk_of({}, [choice_of(delta)]))]
    kinds = [event.get("delta", event)["type"] for event in events]
    assert kinds[1:5] == ["content_block_start", "thinking_delta", "signature_delta", "content_block_stop"]
    assert events[3]["delta"]["signature"] == ""


def test_a_stream_in_pieces_adds_up() -> None:
    """Words and pieces of arguments arrive one by one from a real provider."""
    found = accumulated(stream("one two three"))
    assert "".join(item["text"] for item in found["content"]) == "".join(
        choice["delta"].get("content") or "" for chunk in stream("one two three") for choice in chunk["choices"]
    )


def test_calls_under_one_index_are_told_apart_by_their_ids() -> None:
    """Some servers give every parallel call the index 0; arguments still belong to the right call."""
    pieces = [("a", "f", '{"x":'), (None, None, "1}"), ("b", "g", "{}")]
    chunks = [
        chunk_of(
            {"id": "c", "model": "m"},
            [choice_of({"tool_calls": [{"index": 0, "id": call, "function": {"name": name, "arguments": arguments}}]})],
        )
        for call, name, arguments in pieces
    ]
    found = accumulated(chunks)["content"]
    assert [(item["id"], item["name"], item["input"]) for item in found] == [("a", "f", {"x": 1}), ("b", "g", {})]


@pytest.mark.parametrize("cut", [False, True])
def test_calls_that_come_in_turns_are_blocks_one_after_the_other(cut: bool) -> None:
    """Nothing continues a block that was ended: a call waits until the one before it is whole, or the answer ends."""
    turns = [(0, "a", '{"x"'), (1, "b", '{"y"'), (2, "c", ""), (1, None, ":2}"), (2, None, "{}"), (0, None, ":1}")]
    encoder = MessageEncoder(with_thinking=False)
    events = []
    for index, call_id, arguments in turns[:-1] if cut else turns:
        call = {"index": index, "id": call_id, "function": {"name": "f", "arguments": arguments}}
        events += encoder.take(chunk_of({"id": "c", "model": "m"}, [choice_of({"tool_calls": [call]})]))
    events += encoder.end("msg", "m")
    blocks = [event["index"] for event in events if event["type"].startswith("content_block_")]
    assert blocks == sorted(blocks)
    pieces = [
        (event["index"], event["delta"]["partial_json"]) for event in events if event["type"] == "content_block_delta"
    ]
    said = ["".join(piece for index, piece in pieces if index == wanted) for wanted in range(3)]
    assert said == ['{"x"' if cut else '{"x":1}', '{"y":2}', "{}"]


def test_reasoning_in_parts_is_thinking() -> None:
    """Mistral's models put it among the parts of the content."""
    parts = [[{"type": "thinking", "thinking": [{"type": "text", "text": word}]}] for word in "AB"]
    deltas: list[dict[str, Any]] = [*({"content": part} for part in parts), {"content": "Hi"}]
    chunks = [chunk_of({"id": "c", "model": "m"}, [choice_of(delta)]) for delta in deltas]
    shown = accumulated(chunks, with_thinking=True)["content"]
    assert [item.get("thinking") or item.get("text") for item in shown] == ["AB", "Hi"]
    assert [item["type"] for item in accumulated(chunks)["content"]] == ["text"]


def test_blocks_of_a_stream_open_and_close_in_order() -> None:
    """Every block begins once, ends once, and only one is open at a time."""
    encoder = MessageEncoder(with_thinking=True)
    whole = completion("Hi", [("f", {}), ("g", {})], reasoning_content="Hm")
    events = [event for chunk in as_chunks(whole) for event in encoder.take(chunk)] + encoder.end("msg", "m", x=1)
    steps = [(event["type"].removeprefix("content_block_"), event.get("index")) for event in events]
    blocks = [step for step in steps if step[0] in ("start", "stop")]
    assert blocks == [(name, index) for index in range(4) for name in ("start", "stop")]
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    assert events[-2]["x"] == 1


def test_an_empty_stream_is_still_a_message() -> None:
    """A provider may say nothing at all: the client gets an empty message, not half a stream."""
    found = accumulated([])
    assert (found["id"], found["content"], found["stop_reason"]) == ("msg_1", [], "end_turn")


def test_thinking_is_shown_to_those_who_asked() -> None:
    """Others take the first block for the text; a signature must come back to its provider unchanged."""
    signed = [{"type": "thinking", "thinking": "Hm", "signature": "s"}]
    whole = completion("Hi", [], reasoning_content="Hm", thinking_blocks=signed)
    assert [item["type"] for item in message_of(whole, with_thinking=False)["content"]] == ["text"]
    assert message_of(whole, with_thinking=True)["content"][0] == signed[0]
    assert accumulated(as_chunks(whole), with_thinking=True)["content"][0] == dict(sorted(signed[0].items()))
    live = [
        chunk_of({"id": "c", "model": "m"}, [choice_of(delta)])
        for delta in ({"reasoning_content": "H"}, {"reasoning_content": "m"}, {"thinking_blocks": signed})
    ]
    assert accumulated(live, with_thinking=True)["content"] == [dict(sorted(signed[0].items()))]
    turns = [{"role": "assistant", "content": [*signed, {"type": "thinking", "thinking": "x", "signature": ""}]}]
    assert chat_request_of(body(*turns))["messages"][0]["thinking_blocks"] == signed


def test_usage_has_all_that_anthropic_counts() -> None:
    """Input, cache reads and cache writes apart, the writes also by their time."""
    written = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}
    answer = completion("a", [])
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 4, "cache_creation": written}
    assert message_of(answer, with_thinking=False)["usage"] == {
        "input_tokens": 1,
        "output_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 5,
        "cache_creation": written,
    }
