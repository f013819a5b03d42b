"""What one request asks for, read once."""

import json

from modelpilot.chat.body import ChatBody, RequestOptions
from modelpilot.chat.profile import profile_request
from tests.support.routing_samples import chat_body, profile


def test_a_plain_request() -> None:
    """Text, type, size and defaults of the simplest body."""
    plain = profile("Simple question")
    assert (plain.text, plain.request_type, plain.stream, plain.max_output_tokens) == (
        "Simple question",
        "chat",
        False,
        None,
    )
    assert plain.prompt_tokens == 3 + 4
    assert plain.capabilities == {"chat"}
    assert plain.options == RequestOptions()


def test_our_own_object_is_stripped_and_the_body_left_alone() -> None:
    """The provider gets what the client sent without `modelpilot`; the client's object is not changed."""
    body = chat_body(modelpilot={"tags": {"team": "a"}}, top_k=3, model="router/support")
    read = profile_request(body, ChatBody.model_validate_json(json.dumps(body)))
    assert read.body == {"messages": body["messages"], "top_k": 3, "model": "router/support"}
    assert read.options.tags == {"team": "a"}
    assert "modelpilot" in body


def test_the_newer_name_of_the_output_limit_wins() -> None:
    """`max_completion_tokens` replaced `max_tokens`."""
    assert profile(max_tokens=5).max_output_tokens == 5
    assert profile(max_tokens=5, max_completion_tokens=7).max_output_tokens == 7


def test_tools_are_counted_and_classified() -> None:
    """Their JSON is part of the prompt's size, and they make a tool request."""
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 400}}]
    with_tools = profile(tools=tools)
    assert with_tools.request_type == "tool_use"
    assert with_tools.prompt_tokens > 100 + profile().prompt_tokens


def test_values_that_orjson_refuses_are_read_too() -> None:
    """Lone surrogates and huge integers in tools pass through."""
    tools = [{"type": "function", "function": {"name": "f", "big": 10**40, "text": "\ud800"}}]
    assert profile(tools=tools).prompt_tokens > 0


def test_streaming_is_what_the_body_says() -> None:
    """`stream: null` is no stream."""
    assert profile(stream=True).stream
    assert not profile(stream=None).stream
