"""A stop sequence's way from the provider's answer to a client of Anthropic's format."""

from typing import Any

import pytest

from modelpilot.wire.anthropic_front_answer import MessageEncoder, message_of
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.assembler import ChunkAssembler

END_TURN = {"stop_reason": "end_turn", "stop_sequence": None}
STOPPED = {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def anthropic_events(delta: dict[str, Any]) -> list[dict[str, Any]]:
    """Anthropic's stream of one word that ends as `delta` says."""
    return [
        {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "one"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


def both_ways(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How the answer ends for a client that gave END as a stop sequence: as a whole Message, and as a stream."""
    assembler, encoder = ChunkAssembler(), MessageEncoder(with_thinking=False, stop_sequences={"END"})
    for chunk in chunks:
        assembler.add(chunk)
        encoder.take(chunk)
    message = message_of(assembler.result(), with_thinking=False, stop_sequences={"END"})
    (ended,) = (event for event in encoder.end("m", "c") if event["type"] == "message_delta")
    return [{name: message[name] for name in END_TURN}, ended["delta"]]


@pytest.mark.parametrize(
    ("delta", "expected"), [(STOPPED, STOPPED), (END_TURN, END_TURN), ({"stop_reason": "end_turn"}, END_TURN)]
)
def test_anthropic_names_the_sequence(delta: dict[str, Any], expected: dict[str, Any]) -> None:
    """What Anthropic said reaches the client again, although OpenAI's format lies between."""
    decoder = AnthropicDecoder(created=7)
    chunks = [chunk for event in anthropic_events(delta) for chunk in decoder.take(event)] + decoder.closing()
    assert both_ways(chunks) == [expected, expected]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"finish_reason": "stop", "stop_reason": "END"}, STOPPED),  # vLLM
        ({"finish_reason": "stop", "stop_reason": 128_009}, END_TURN),  # vLLM: the id of a token that ends a turn
        ({"finish_reason": "stop", "stop_reason": "eos"}, END_TURN),  # not one of the client's sequences
        ({"finish_reason": "stop"}, END_TURN),  # OpenAI says nothing
        ({"finish_reason": "length", "stop_reason": "END"}, {"stop_reason": "max_tokens", "stop_sequence": None}),
    ],
)
def test_openai_kinds_are_believed_only_about_the_clients_own_sequences(
    choice: dict[str, Any], expected: dict[str, Any]
) -> None:
    """`stop_reason` is no field of OpenAI's: other servers put other things there."""
    known = {"id": "c", "created": 1, "model": "m"}
    text = {**known, "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}]}
    assert both_ways([text, {**known, "choices": [{"index": 0, "delta": {}, **choice}]}]) == [expected, expected]
