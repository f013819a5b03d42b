"""OpenAI's wire format: the request sent, chunks checked, usage read, completions turned back into chunks."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.manners import Manners
from modelpilot.requests.outcome import ProviderError, Usage
from modelpilot.wire.chunks import as_chunks
from modelpilot.wire.events import ServerSentEvent
from modelpilot.wire.openai import OpenAIDecoder, chat_request, completion_chunks
from modelpilot.wire.reader import AnswerReader
from modelpilot.wire.usage import parse_usage, usage_object
from tests.support.samples import chunk, delta, event


def decoded(item: ServerSentEvent) -> None:
    """Read one event as a stream does."""
    name = b"event: " + item.name.encode() + b"\n" if item.name else b""
    AnswerReader(OpenAIDecoder()).feed(name + b"data: " + item.data + b"\n\n")


def test_the_request_is_streamed_with_usage_and_otherwise_untouched() -> None:
    """Unknown fields reach the provider; ours do not; the client's body is not changed."""
    body = {"messages": [], "x_new": {"a": [1, None]}, "stream": False, "modelpilot": {"tags": {}}, "model": "router/x"}
    before = copy.deepcopy(body)
    assert chat_request(body, "gpt") == {
        "messages": [],
        "x_new": {"a": [1, None]},
        "model": "gpt",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert body == before


def test_a_whole_answer_can_be_asked_for() -> None:
    """Options of a stream would be refused beside it."""
    body = {"messages": [], "stream": True, "stream_options": {"include_usage": True}}
    assert chat_request(body, "gpt", whole=True) == {"messages": [], "model": "gpt", "stream": False}


def test_stream_options_of_the_client_are_kept() -> None:
    """Asking for usage adds to the client's options and replaces none."""
    options = {"include_obfuscation": False, "include_usage": False}
    assert chat_request({"stream_options": options}, "m")["stream_options"] == {**options, "include_usage": True}


def test_a_server_without_stream_options_gets_none() -> None:
    """Not even the client's own, which it would refuse."""
    body = {"messages": [], "stream_options": {"include_usage": True}}
    assert chat_request(body, "m", manners=Manners(stream_options=False)) == {
        "messages": [],
        "model": "m",
        "stream": True,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"{", b'"x"', b"{}", b'{"choices": {}}', b'{"choices": [1]}',
        b'{"choices": [{"delta": 1}]}',
        b'{"choices": [{"index": -1}]}', b'{"choices": [{"index": true}]}', b'{"choices": [{"index": 999999}]}',
        b'{"choices": [{"delta": {"content": 5}}]}', b'{"choices": [{"delta": {"tool_calls": {}}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {}}}]}}]}',
        b'{"choices": [{"finish_reason": 3}]}', b'{"usage": null}', b"\xff\xfe", b"[" * 100_000,
    ],
)  # fmt: skip
def test_malformed_chunks(data: bytes) -> None:
    """What is no chunk is a malformed response, never an exception of another kind."""
    with pytest.raises(ProviderError) as caught:
        decoded(event(data))
    assert caught.value.error_type == "malformed_response"


@pytest.mark.parametrize("item", [event({"error": {"message": "m", "type": "server_error"}}), event(b"x", "error")])
def test_an_error_event_is_that_error(item: ServerSentEvent) -> None:
    """An error in the middle of a stream ends it as that error."""
    with pytest.raises(ProviderError) as caught:
        decoded(item)
    assert caught.value.error_type == "server_error"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": 3}, Usage(5, 3)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(5, 0, 4)),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 2}, Usage(5, 0, 2)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}, Usage(0, 9, 0, 6)),
        (
            {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 10,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            Usage(1, 9, 0, 7),
        ),
        ({"prompt_tokens": -5, "completion_tokens": "3", "prompt_tokens_details": []}, Usage(0, 3)),
        ({"prompt_tokens": True, "completion_tokens": float("inf")}, Usage()),
        ({"prompt_tokens": 12.0, "completion_tokens": "3.0", "total_tokens": "x"}, Usage(12, 3)),
        ({"prompt_tokens": "many", "completion_tokens": None}, Usage()),
        ({"input_tokens": 5, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}, Usage(5, 3, 0, 2)),
        ({"promptTokens": 5, "completionTokens": 3}, Usage(5, 3)),
        ({"prompt_tokens": 5, "total_tokens": 8}, Usage(5, 3)),
        ({"total_tokens": 8}, Usage(8)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"audio_tokens": 7}}, Usage(9, audio_input_tokens=7)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 50}}, Usage(5, 0, 5)),
    ],
)
def test_usage(raw: Any, expected: Usage) -> None:
    """Token counts are read as OpenAI defines them, and nonsense never becomes a negative or absurd cost."""
    assert parse_usage(raw) == expected


@given(st.builds(Usage, st.integers(5, 99), st.integers(5, 99), st.integers(0, 5), st.integers(0, 5)))
def test_usage_survives_a_round_trip(usage: Usage) -> None:
    """What other wire formats report reaches the accounting through OpenAI's object unchanged."""
    assert parse_usage(usage_object(usage)) == usage


def test_the_decoder_remembers_finish_reasons_and_usage_and_ends_at_done() -> None:
    """Neither of the two is the end: servers send them early, too."""
    decoder = OpenAIDecoder(expected_choices=2)
    decoder.take(chunk(delta(0, "stop")))
    assert (decoder.complete, decoder.counted) == (False, False)
    decoder.take(chunk(delta(1, "stop"), usage={"prompt_tokens": 1, "completion_tokens": 1}))
    assert (decoder.complete, decoder.counted, decoder.ended) == (True, True, False)
    decoder.done()
    assert decoder.ended


def test_done_without_a_finish_reason_is_not_complete() -> None:
    """[DONE] alone proves nothing: a truncated answer must not pass as one."""
    decoder = OpenAIDecoder()
    decoder.take(chunk(delta(content="a")))
    decoder.done()
    assert (decoder.complete, decoder.ended) == (False, True)


@pytest.mark.parametrize("body", [{}, [], None, {"choices": []}, {"choices": [{"index": 0}]}, {"choices": "x"}, 5])
def test_a_whole_answer_must_be_a_completion(body: Any) -> None:
    """JSON that is no completion is a malformed response."""
    with pytest.raises(ProviderError) as caught:
        completion_chunks(body)
    assert caught.value.error_type == "malformed_response"


def test_usage_can_be_left_out_of_the_chunks() -> None:
    """A client that did not ask for usage does not get the extra chunk."""
    completion = {"id": "x", "choices": [], "usage": {"prompt_tokens": 1}}
    assert all("usage" not in item for item in as_chunks(completion, include_usage=False))


WRITES = {"cache_write_5m_tokens": 3, "cache_write_1h_tokens": 2}


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5}}, Usage(20, 0, 4, 0, 5)),
        ({"cached_tokens": 4}, Usage(20, 0, 4)),
        ({"cache_read_input_tokens": 4, "cache_creation_input_tokens": 5}, Usage(20, 0, 4, 0, 5)),
        (
            {
                "prompt_tokens_details": {
                    "cache_creation_tokens": 5,
                    "cache_creation_token_details": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2},
                }
            },
            Usage(20, 0, 0, 0, **WRITES),
        ),
        (
            {"prompt_tokens_details": {"cache_creation": {"ephemeral_5m_input_tokens": 5}, "cached_tokens": None}},
            Usage(20, 0, 0, 0, 5),
        ),
        ({"prompt_tokens_details": {"cached_tokens": 15, "cache_write_tokens": 15}}, Usage(20, 0, 15, 0, 5)),
        ({"total_tokens": 29, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 5}, Usage(29, 0, 4, 0, 5)),
    ],
)
def test_caches_are_counted_under_every_name(raw: dict[str, Any], usage: Usage) -> None:
    """OpenRouter's, Moonshot's, Portkey's, LiteLLM's and Alibaba's; never more than the input, which Portkey counts
    without them."""
    assert parse_usage({"prompt_tokens": 20, **raw}) == usage


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_usage_survives_our_own_shape(fresh: int, output: int, cached: int, five: int, hour: int) -> None:
    """What clients and the ledger are given says what the provider said."""
    usage = Usage(fresh + cached + five + hour, output, cached, 0, five, hour)
    assert parse_usage(usage_object(usage)) == usage
