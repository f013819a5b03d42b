"""When an answer is over: a finish reason on the way is remembered, not believed, and nothing is no answer."""

import re
from typing import Any

import orjson
import pytest

from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.wire.anthropic import WIRE as ANTHROPIC
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.failures import connection_error, timed_out
from modelpilot.wire.gemini import WIRE as GEMINI
from modelpilot.wire.gemini import GeminiDecoder
from modelpilot.wire.openai import WIRE as OPENAI
from modelpilot.wire.openai import OpenAIDecoder
from modelpilot.wire.reader import AnswerReader, StreamDecoder

COUNTS = {"prompt_tokens": 3, "completion_tokens": 5}
SILENCE = timed_out("idle", 1_000)


def data(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def part(finish: str | None = None, usage: Any = None, **delta: Any) -> bytes:
    counts = {} if usage is None else {"usage": usage}
    return data({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **counts})


def gemini(text: str = "", finish: str | None = None, *parts: Any, **counts: Any) -> bytes:
    shown = [*({"text": text} for text in (text,) if text), *parts]
    candidate = {"content": {"parts": shown}, "index": 0, **({"finishReason": finish} if finish else {})}
    usage = counts or {"promptTokenCount": 3, "candidatesTokenCount": 5}
    return data({"candidates": [candidate], "usageMetadata": usage})


def anthropic(*events: tuple[str, dict[str, Any]]) -> bytes:
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3}}}
    return data(start) + b"".join(data({"type": kind, **fields}) for kind, fields in events)


def block(text: str, index: int = 0) -> tuple[tuple[str, dict[str, Any]], ...]:
    shown = {"type": "text", "text": text}
    return ("content_block_start", {"index": index, "content_block": shown}), ("content_block_stop", {"index": index})


def delta(reason: str | None) -> tuple[str, dict[str, Any]]:
    return "message_delta", {"delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}


class Read:
    """What a client got of a stream: its chunks, what they add up to, and how it ended."""

    def __init__(
        self, body: bytes, decoder: StreamDecoder | None = None, *, broken: ProviderError | None = None
    ) -> None:
        self.reader, self.chunks = AnswerReader(decoder or OpenAIDecoder()), []
        self.error: ProviderError | None = None
        try:
            for piece in re.split(rb"(?<=\n\n)", body):
                self.chunks += self.reader.feed(piece)
            self.chunks += self.reader.finish() if broken is None else self.reader.break_off(broken)
        except ProviderError as error:
            self.error = error
        self.error = self.error or self.reader.failure
        self.assembler = ChunkAssembler()
        self.assembler.extend(self.chunks)

    @property
    def text(self) -> str:
        return self.assembler.text

    @property
    def reasons(self) -> list[Any]:
        """The finish reasons in the order in which the client sees them."""
        choices = [choice for chunk in self.chunks for choice in chunk.data["choices"]]
        return [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]

    @property
    def outcome(self) -> tuple[str, list[Any]] | str:
        return (self.text, self.reasons) if self.error is None else self.error.error_type


DONE = b"data: [DONE]\n\n"
ON_EVERY_CHUNK = b"".join(part("stop", COUNTS, content=word) for word in ("one ", "two ", "three"))
CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "text", "reasons"),
    [
        pytest.param(ON_EVERY_CHUNK + DONE, "one two three", ["stop"], id="on every chunk"),
        pytest.param(ON_EVERY_CHUNK, "one two three", ["stop"], id="on every chunk, closed"),
        pytest.param(part("stop", COUNTS) + part(content="Hi") + DONE, "Hi", ["stop"], id="once, first, empty"),
        pytest.param(
            part("stop", reasoning_content="Hm") + part(content="Hi") + part("stop") + DONE,
            "Hi", ["stop"], id="first and last",
        ),
        pytest.param(part("stop") + part(content="Hi") + part("length"), "Hi", ["length"], id="another one later"),
        pytest.param(part("stop") + part(content="Hi"), "Hi", ["stop"], id="early, closed"),
        pytest.param(
            part("stop", content="a") + data({"choices": [], "usage": COUNTS}) + part(content="b") + DONE,
            "ab", ["stop"], id="usage before the last text",
        ),
        pytest.param(part(content="a") + part("content_filter") + part(content="b") + DONE, "ab",
                     ["content_filter"], id="a filter that let more through"),
    ],
)  # fmt: skip
def test_an_early_finish_reason_ends_nothing(body: bytes, text: str, reasons: list[str]) -> None:
    """All that follows is read, and clients see one finish reason, the last, behind everything."""
    found = Read(body)
    assert found.outcome == (text, reasons)
    assert found.assembler.finish_reason == reasons[-1]


def test_an_early_finish_reason_leaves_the_rest_of_its_chunk_as_it_is() -> None:
    """Text, usage and unknown fields of the chunk pass; only what was not true is taken away."""
    early = data({"id": "c", "x": 1, "usage": COUNTS, "choices": [{"index": 0, "delta": {"content": "a"},
                 "finish_reason": "stop", "logprobs": {"content": []}}]})  # fmt: skip
    first, second, last = Read(early + part(content="b") + DONE).chunks
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None, "logprobs": {"content": []}}
    assert first.data == {"id": "c", "x": 1, "usage": COUNTS, "choices": [choice]}
    assert second.raw is not None
    assert last.data == {"id": "c", "x": 1, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def test_a_tool_call_behind_a_finish_reason_is_passed_on() -> None:
    """Some relays say `stop` first."""
    found = Read(part("stop") + part(tool_calls=[CALL]) + DONE)
    assert found.outcome == ("", ["stop"])
    assert found.assembler.result()["choices"][0]["message"]["tool_calls"][0]["id"] == "a"


def test_what_has_an_ordinary_end_leaves_as_it_came() -> None:
    """The chunks of most streams keep their very bytes, and those of the end leave together with it."""
    stop, usage = part("stop"), data({"choices": [], "usage": COUNTS})
    reader = AnswerReader(OpenAIDecoder())
    assert [len(reader.feed(piece)) for piece in (part(content="Hi"), stop, usage)] == [1, 0, 0]
    assert [b"data: %b\n\n" % chunk.json for chunk in reader.feed(DONE)] == [stop, usage]


GEMINIS = [
    pytest.param(gemini("one ", "STOP") + gemini("two", "STOP"), "one two", "stop", id="on every event"),
    pytest.param(gemini("", "STOP") + gemini("Hi") + gemini(".", "STOP"), "Hi.", "stop", id="an empty one first"),
    pytest.param(gemini("Hi", "STOP") + gemini("!", "MAX_TOKENS"), "Hi!", "length", id="another one later"),
    pytest.param(gemini("Hi", "STOP") + DONE + b"data: {broken\n\n", "Hi", "stop", id="done"),
    pytest.param(gemini("Hi", "STOP") + data({"candidates": [], "responseId": "r"}), "Hi", "stop", id="no candidates"),
    pytest.param(
        gemini("", "STOP") + gemini("", None, {"functionCall": {"name": "f"}}), "", "tool_calls", id="a call behind it"
    ),
]


@pytest.mark.parametrize(("body", "text", "reason"), GEMINIS)
def test_gemini_ends_with_the_connection(body: bytes, text: str, reason: str) -> None:
    """Its relays and built-in tools send finish reasons and counts early; each goes out once, at the end."""
    found = Read(body, GeminiDecoder(0, "x"))
    assert found.outcome == (text, [reason])
    assert [chunk.data["usage"]["completion_tokens"] for chunk in found.chunks if "usage" in chunk.data] == [5]


def test_gemini_counts_that_come_alone() -> None:
    """Before the finish reason or behind it, in an event of their own."""
    counts, text = data({"usageMetadata": {"promptTokenCount": 3}}), gemini("Hi", "STOP", candidatesTokenCount=2)
    for body in (counts + text, text + counts):
        assert Read(body, GeminiDecoder(0, "x")).assembler.usage.total_tokens == 5


@pytest.mark.parametrize(
    "events",
    [
        (*block("one "), delta("end_turn"), *block("two", 1), delta("end_turn"), ("message_stop", {})),
        (delta("end_turn"), *block("one two"), ("message_stop", {})),
        (*block("one two"), delta("end_turn"), ("message_delta", {"delta": {}, "usage": {"output_tokens": 5}})),
        (*block("one two"), ("new_event", {}), ("content_block_start", {"index": 7, "content_block": {"type": "new"}}),
         ("content_block_delta", {"index": 7, "delta": {"type": "new_delta"}}), delta("end_turn"), ("ping", {})),
    ],
)  # fmt: skip
def test_anthropic_ends_at_message_stop_or_with_the_connection(events: Any) -> None:
    """A stop reason before other blocks, counts behind it, and unknown events and blocks change nothing."""
    found = Read(anthropic(*events), AnthropicDecoder(0))
    assert found.outcome == ("one two", ["stop"])
    assert (found.assembler.usage.input_tokens, found.assembler.usage.output_tokens) == (3, 5)


def test_the_providers_own_tools_are_no_calls_of_the_client() -> None:
    """What Anthropic's `server_tool_use` is called with stays out of the client's tool calls."""
    begun = (
        "content_block_start",
        {"index": 0, "content_block": {"type": "server_tool_use", "id": "s", "name": "web"}},
    )
    piece = ("content_block_delta", {"index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}})
    found = Read(anthropic(begun, piece, *block("Hi", 1), delta("end_turn")), AnthropicDecoder(0))
    assert "tool_calls" not in found.assembler.result()["choices"][0]["message"]


ERROR = data({"error": {"message": "m", "type": "server_error"}})


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        (part("stop", content="Hi") + ERROR + DONE, "server_error"),
        (ON_EVERY_CHUNK + b"data: {broken\n\n", "malformed_response"),
        (ON_EVERY_CHUNK + b'data: {"choices": [{"delta"', "stream_cut"),
        (part(content="Hi") + DONE, "stream_cut"),
        (part(content="Hi"), "stream_cut"),
        (part(content="Hi") + part("error") + DONE, "stream_cut"),
        (part(content="Hi") + part("insufficient_system_resource") + DONE, "stream_cut"),
    ],
)
def test_what_breaks_on_the_way_is_no_answer(body: bytes, error_type: str) -> None:
    """A finish reason before it excuses neither an error, nor a broken chunk where more than one was no end."""
    found = Read(body)
    assert found.outcome == error_type
    assert (found.text[:2], found.reasons) in (("Hi", []), ("on", []))  # what came is passed on, for it is paid


@pytest.mark.parametrize("broken", [SILENCE, connection_error("reset")])
@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (part(content="Hi") + part("stop"), True),
        (part("stop", COUNTS, content="Hi"), True),
        (part(content="Hi"), False),
        (part("stop", COUNTS), False),
        (part("stop", COUNTS, reasoning_content="Hm"), False),
        (ON_EVERY_CHUNK, False),
        (part("length", COUNTS), True),
    ],
)
def test_silence_or_a_reset_behind_a_finish_reason(body: bytes, whole: bool, broken: ProviderError) -> None:
    """It ends the answer only where a finish reason stood behind all output, and there was any."""
    found = Read(body, broken=broken)
    assert found.error is (None if whole else broken)


@pytest.mark.parametrize(
    ("body", "hurried"),
    [
        (part(content="Hi") + part("stop"), False),
        (part(content="Hi", usage=COUNTS), False),
        (part("stop", COUNTS), False),
        (part(content="Hi") + part("stop", COUNTS), True),
        (part(content="Hi") + data({"choices": [], "usage": COUNTS}) + part("stop"), True),
        (part("stop", COUNTS, content="a") + part(content="b"), False),
    ],
)
def test_when_a_second_of_silence_is_the_end(body: bytes, hurried: bool) -> None:
    """Behind finish reason and usage, where there is an answer and nothing came behind them."""
    reader = AnswerReader(OpenAIDecoder())
    for piece in re.split(rb"(?<=\n\n)", body):
        reader.feed(piece)
    assert (reader.settled and reader.counted) is hurried


NOTHING = [
    pytest.param(part(role="assistant", content="") + part("stop"), id="stop"),
    pytest.param(part("stop", COUNTS) + DONE, id="stop with counts"),
    pytest.param(part("tool_calls", tool_calls=[]) + DONE, id="tool_calls without a call"),
    pytest.param(part(reasoning_content="Hm") + part("stop") + DONE, id="reasoning alone"),
    pytest.param(part("stop", content=[{"type": "thinking", "thinking": "Hm"}]) + DONE, id="reasoning alone, in parts"),
    pytest.param(part("stop", content=[{"type": "text", "text": ""}]) + DONE, id="an empty part"),
    pytest.param(
        orjson.dumps({"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]}),
        id="whole",
    ),
]


@pytest.mark.parametrize("body", NOTHING)
def test_nothing_is_no_answer(body: bytes) -> None:
    """Without text, call, refusal or picture, and without a reason, another model is asked and not the same again."""
    error = Read(body).error
    assert error is not None
    assert (error.error_type, error.remedy) == ("empty_answer", Remedy.FALL_BACK)


def test_the_counts_of_an_empty_answer_are_told() -> None:
    """Hidden reasoning is paid, whether or not anything came of it; its finish reason is not passed on."""
    found = Read(part("stop") + data({"choices": [], "usage": COUNTS}) + DONE)
    assert (found.outcome, found.assembler.usage.output_tokens, found.reasons) == ("empty_answer", 5, [])


@pytest.mark.parametrize(
    "body",
    [
        part("length", COUNTS) + DONE,
        part("length", COUNTS, reasoning_content="Hm") + DONE,
        part("stop", refusal="No") + DONE,
        part("stop", images=[{"image_url": {"url": "data:"}}]) + DONE,
        part("stop", audio={"data": "AA"}) + DONE,
        part("stop", content=[{"type": "image_url", "image_url": {"url": "data:"}}]) + DONE,
        part("tool_calls", tool_calls=[CALL]) + DONE,
        part("function_call", function_call={"name": "f"}) + DONE,
        part("stop", content=" ") + DONE,
        part("content_filter", reasoning_content="Hm") + DONE,
    ],
)
def test_what_is_an_answer(body: bytes) -> None:
    """A limit that was used up says so truthfully; refusals, pictures, sounds and calls are answers."""
    assert Read(body).error is None


USER, RESULT = {"role": "user", "content": "Hi"}, {"role": "tool", "tool_call_id": "a", "content": "1"}
TURNS = [USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT]


@pytest.mark.parametrize(
    ("body", "may"),
    [
        ({"messages": [USER]}, (False, False, False)),
        ({"messages": [USER], "stop": ["\n"]}, (True, True, True)),
        ({"messages": TURNS}, (False, True, False)),
        ({"messages": [*TURNS, USER]}, (False, True, False)),
        ({"messages": [*TURNS, {"role": "assistant", "content": "1"}, USER]}, (False, False, False)),
    ],
)
def test_who_may_say_nothing(body: dict[str, Any], may: tuple[bool, ...]) -> None:
    """A stop sequence can be the first that a model writes; behind results of tools Claude may have nothing to add."""
    assert tuple(wire.decoder(body, "r", 0).may_be_empty for wire in (OPENAI, ANTHROPIC, GEMINI)) == may


def test_nothing_where_it_may_be() -> None:
    """It is an answer then, with its finish reason."""
    said = anthropic(delta("end_turn"), ("message_stop", {}))
    assert Read(said, AnthropicDecoder(0, may_be_empty=True)).outcome == ("", ["stop"])
    assert Read(said, AnthropicDecoder(0)).outcome == "empty_answer"


def test_chunks_before_a_failure_in_one_read_are_kept() -> None:
    """What one read brought beside an error was paid for, and counts."""
    reader = AnswerReader(OpenAIDecoder())
    chunks = reader.feed(part(content="Hi") + ERROR)
    assert [chunk.text for chunk in chunks] == ["Hi"]
    assert reader.failure is not None
    with pytest.raises(ProviderError):
        reader.feed(part(content="more"))
