"""Anthropic's Messages: requests from OpenAI bodies, and streams back into OpenAI chunks."""

from typing import Any

import pytest

from modelpilot.wire.anthropic import DEFAULT_MAX_TOKENS, messages_request, unsupported_content

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
PNG = "data:image/png;base64,AAAA"


def tool_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def request(model: str = "claude-sonnet-4-5", **body: Any) -> dict[str, Any]:
    return messages_request({"messages": [USER], **body}, model)


def test_a_simple_request() -> None:
    """A limit is always there, and nothing that was not asked for."""
    assert request() == {
        "model": "claude-sonnet-4-5",
        "max_tokens": DEFAULT_MAX_TOKENS,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


def test_a_conversation_with_parallel_tools() -> None:
    """System texts go to `system`, calls become tool_use, and all results share the one user turn behind them."""
    messages = [
        {"role": "system", "content": "S"},
        {"role": "developer", "content": [{"type": "text", "text": "D"}]},
        USER,
        {"role": "assistant", "content": "", "tool_calls": [tool_call("a", "f", '{"x": 1}'), tool_call("b", "g", "")]},
        {"role": "tool", "tool_call_id": "a", "content": "A"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
        {"role": "user", "content": "and?"},
    ]
    wire = messages_request({"messages": messages, "tools": [TOOL]}, "claude")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    assert wire["system"] == [{"type": "text", "text": "S"}, {"type": "text", "text": "D"}]
    assert wire["tools"] == [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
    assert wire["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "A"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": [image]},
                {"type": "text", "text": "and?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "text", "text": "x"}, {"type": "text", "text": "x"}),
        (
            {"type": "image_url", "image_url": {"url": "https://h/a.webp"}},
            {"type": "image", "source": {"type": "url", "url": "https://h/a.webp"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ=="}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}},
        ),
    ],
)
def test_content_parts(part: dict[str, Any], block: dict[str, Any]) -> None:
    """Images by URL and in base64, and PDF files."""
    wire = request(messages=[{"role": "user", "content": [part]}])
    assert wire["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": 8, "max_tokens": 9}, {"max_tokens": 8}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"type": "tool", "name": "f"}},
        ),
        (
            {"tools": [TOOL], "parallel_tool_calls": False},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        ),
        (
            {"reasoning_effort": "low"},
            {"thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": DEFAULT_MAX_TOKENS + 1_024},
        ),
        (
            {"reasoning_effort": "high", "max_completion_tokens": 5_000},
            {"thinking": {"type": "enabled", "budget_tokens": 4_000}, "max_tokens": 5_000},
        ),
        ({"thinking": {"type": "disabled"}, "top_k": 4}, {"thinking": {"type": "disabled"}, "top_k": 4}),
    ],
)
def test_settings(body: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every supported field has its counterpart."""
    assert request(**body).items() >= expected.items()


@pytest.mark.parametrize("body", [{"reasoning_effort": "none"}, {"reasoning_effort": "low", "max_tokens": 500}, {}])
def test_no_thinking(body: dict[str, Any]) -> None:
    """Thinking stays off where nobody wants it or the client's own limit leaves no room for the smallest budget."""
    assert "thinking" not in request(**body)


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-4.6", "claude-opus-4-7-20260401", "claude-x-5"])
def test_newer_models_take_an_effort(model: str) -> None:
    """Models that set their own budget are told the effort instead."""
    wire = request(model, reasoning_effort="minimal")
    assert (wire["thinking"], wire["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})


def test_thinking_is_left_off_where_its_history_is_missing() -> None:
    """Anthropic refuses tool results whose call came without its thinking; with it, the blocks come first."""
    called = {"role": "assistant", "tool_calls": [tool_call("a")]}
    result = {"role": "tool", "tool_call_id": "a", "content": "A"}
    assert "thinking" not in request(messages=[USER, called, result], reasoning_effort="low")
    block = {"type": "thinking", "thinking": "t", "signature": "s"}
    wire = request(messages=[USER, {**called, "thinking_blocks": [block]}, result], reasoning_effort="low")
    assert wire["thinking"]["type"] == "enabled"
    assert wire["messages"][1]["content"][0] == block


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, []),
        ({"tools": [TOOL, {"type": "custom"}]}, ["tools[1].type"]),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, ["tool_choice.type"]),
        ({"messages": [{"role": "function", "name": "f"}]}, ["messages[0].function_call"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}]},
            ["messages[0].content"],
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, ["messages[0].content"]),
    ],
)
def test_unsupported_content(body: dict[str, Any], fields: list[str]) -> None:
    """What Anthropic has nothing for is said by its place."""
    assert unsupported_content({"messages": [USER], **body}) == fields
