"""From bytes to chunks: what counts as an answer, and what each sort of ending means."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.requests.outcome import ProviderError
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.gemini import GeminiDecoder
from modelpilot.wire.openai import OpenAIDecoder
from modelpilot.wire.reader import AnswerReader, StreamDecoder


def data(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def part(finish: str | None = None, **delta: Any) -> bytes:
    return data({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


TEXT, STOP, DONE = part(content="Hi"), part("stop"), b"data: [DONE]\n\n"
USAGE = data({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
WHOLE = orjson.dumps(
    {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
)


def read(body: bytes, size: int = 1_000_000, decoder: StreamDecoder | None = None) -> str:
    """The text of the answer, or the type of the failure."""
    reader, assembler = AnswerReader(decoder or OpenAIDecoder()), ChunkAssembler()
    try:
        for start in range(0, len(body), size):
            assembler.extend(reader.feed(body[start : start + size]))
        assembler.extend(reader.finish())
    except ProviderError as error:
        return error.error_type
    return assembler.text if reader.failure is None else reader.failure.error_type


ANSWERS = [
    pytest.param(TEXT + STOP + USAGE + DONE, "Hi", id="stream"),
    pytest.param(TEXT + STOP + USAGE, "Hi", id="no done"),
    pytest.param(TEXT + STOP, "Hi", id="no done, no usage"),
    pytest.param(TEXT + STOP.rstrip(), "Hi", id="no blank line at the end"),
    pytest.param(TEXT + STOP + b"data: {broken\n\n", "Hi", id="rubbish behind a whole answer"),
    pytest.param(TEXT + STOP + DONE + b"data: {broken\n\n", "Hi", id="rubbish behind done"),
    pytest.param(b"\n\n: wait\n\n" + TEXT + STOP, "Hi", id="blanks and comments first"),
    pytest.param(WHOLE, "Hi", id="a whole completion instead of a stream"),
    pytest.param(b"\xef\xbb\xbf \r\n" + WHOLE + b"\n", "Hi", id="the same with blanks around it"),
    pytest.param(TEXT, "stream_cut", id="cut"),
    pytest.param(TEXT + DONE, "stream_cut", id="done without a finish reason"),
    pytest.param(TEXT + b'data: {"choices": [', "stream_cut", id="cut within a chunk"),
    pytest.param(TEXT + b"data: {broken\n\n", "malformed_response", id="malformed chunk"),
    pytest.param(TEXT + data({"error": {"message": "m"}}), "server_error", id="error in the stream"),
    pytest.param(b"", "malformed_response", id="empty"),
    pytest.param(b": ping\n\n: ping\n\n", "malformed_response", id="comments only"),
    pytest.param(DONE, "stream_cut", id="done only"),
    pytest.param(b"<!doctype html><html></html>", "malformed_response", id="html"),
    pytest.param(b"Service restarting", "malformed_response", id="words"),
    pytest.param(WHOLE[:-9], "malformed_response", id="truncated JSON"),
    pytest.param(b'{"object": "list", "data": []}', "malformed_response", id="other JSON"),
    pytest.param(b'{"error": {"message": "m", "code": 503}}', "server_error", id="error body"),
    pytest.param(b'[{"error": {"message": "m", "code": 404}}]', "not_found", id="error body in an array"),
    pytest.param(part("content_filter"), "content_filter", id="filtered before the first token"),
    pytest.param(TEXT + part("content_filter"), "Hi", id="filtered after some text"),
]


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize(("body", "expected"), ANSWERS)
def test_answers(body: bytes, expected: str, size: int) -> None:
    """Only a whole answer is an answer, whatever its shape and however its bytes arrive."""
    assert read(body, size) == expected


def test_a_whole_answer_may_have_fewer_choices_than_asked_for() -> None:
    """Servers that ignore `n` still answer."""
    assert read(TEXT + STOP + DONE, decoder=OpenAIDecoder(3)) == "Hi"
    assert read(WHOLE, decoder=OpenAIDecoder(3)) == "Hi"


KEPT_ALIVE = [
    pytest.param(b": alive\n\n", id="comment"),
    pytest.param(b"event: ping\ndata: {}\n\n", id="ping"),
    pytest.param(part(), id="empty delta"),
    pytest.param(part(role="assistant", content=""), id="role"),
    pytest.param(part(reasoning_content=None, tool_calls=[]), id="empty fields"),
    pytest.param(data({"choices": []}), id="no choices"),
]


@pytest.mark.parametrize("kept_alive", KEPT_ALIVE)
def test_signs_of_life_are_no_progress(kept_alive: bytes) -> None:
    """A provider that only says that it is alive still runs into its timeout, before and within the answer."""
    reader = AnswerReader(OpenAIDecoder())
    seen = []
    for piece in (kept_alive, TEXT, kept_alive, kept_alive, TEXT + kept_alive, STOP, kept_alive):
        reader.feed(piece)
        seen.append((reader.begun, reader.progressed))
    assert [begun for begun, _ in seen] == [False] + [True] * 6
    assert [progressed for _, progressed in seen] == [False, True, False, False, True, True, False]


def anthropic(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\n".encode() + data({"type": kind, **fields})


CLAUDE = [
    (anthropic("message_start", message={"id": "m", "model": "c", "usage": {"input_tokens": 1}}), True),
    (anthropic("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}), True),
    (anthropic("ping"), False),
    (anthropic("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Well"}), True),
    (data({"type": "ping"}), False),
    (anthropic("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": ""}), False),
    (
        anthropic("content_block_start", index=1, content_block={"type": "server_tool_use", "id": "s"}),
        True,
    ),
]


def test_thoughts_and_searches_are_progress_and_pings_are_not() -> None:
    """Claude may think aloud or use its own tools for long; its pings alone, with or without a name, are idleness."""
    reader = AnswerReader(AnthropicDecoder(0))
    for piece, progressed in CLAUDE:
        reader.feed(piece)
        assert reader.progressed is progressed, piece


@given(st.binary(max_size=200), st.sampled_from([b"", b"data: ", TEXT, b"{", b'data: {"choices": [']))
@pytest.mark.parametrize("decoder", [OpenAIDecoder, lambda: AnthropicDecoder(0), lambda: GeminiDecoder(0, "x")])
def test_rubbish_is_never_an_answer_and_never_a_crash(decoder: Any, body: bytes, prefix: bytes) -> None:
    """Whatever a provider sends, the outcome is a classified failure."""
    assert read(prefix + body, decoder=decoder()) not in ("Hi", "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["choices", "delta", "message", "index", "content", "tool_calls", "function", "arguments", "finish_reason",
         "usage", "type", "content_block", "candidates", "parts", "text", "finishReason", "usageMetadata",
         "stop_reason", "functionCall", "args", "error", "id", "name"]
    ), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
kinds = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "x"]
)


@given(st.lists(st.dictionaries(st.just("type"), kinds).flatmap(
    lambda kind: json_values.map(lambda value: {**(value if isinstance(value, dict) else {"choices": value}), **kind})
), max_size=5))  # fmt: skip
@pytest.mark.parametrize("decoder", [OpenAIDecoder, lambda: AnthropicDecoder(0), lambda: GeminiDecoder(0, "x")])
def test_any_json_is_decoded_or_classified(decoder: Any, values: list[Any]) -> None:
    """JSON of any shape under the right names raises nothing but ProviderError."""
    assert isinstance(read(b"".join(map(data, values)), decoder=decoder()), str)
