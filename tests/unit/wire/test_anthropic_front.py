"""Anthropic's Messages format at our own door: requests, translated without loss."""

from typing import Any

import pytest
from hypothesis import given

from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest
from modelpilot.wire.anthropic import messages_request
from modelpilot.wire.anthropic_front import chat_request_of, wants_thinking
from tests.support.anthropic_bodies import CALLS, TEXT, body, user


@given(TEXT, CALLS)
def test_a_conversation_survives_the_way_to_an_anthropic_provider(
    text: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    """Texts, tool calls, their ids and results come out at the far side as they went in."""
    uses = [
        {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": arguments}
        for index, (name, arguments) in enumerate(calls)
    ]
    results = [
        {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": text}]} for use in uses
    ]
    turns = [
        user({"type": "text", "text": text}),
        {"role": "assistant", "content": [{"type": "text", "text": text}, *uses]},
        user(*results, {"type": "text", "text": text}),
    ]
    chat = chat_request_of(body(*turns, system=text))
    ChatBody.model_validate(chat)
    sent = messages_request(chat, "claude")
    assert sent["messages"] == turns
    assert sent["system"] == [{"type": "text", "text": text}]
    assert sent["max_tokens"] == 100


def test_media_become_parts_of_openai() -> None:
    """Images by base64 and by URL, and PDF files; nothing is fetched."""
    source = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "BB=="}
    turn = user(
        {"type": "image", "source": source},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
    )
    assert chat_request_of(body(turn))["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BB=="}},
        {"type": "text", "text": "words"},
    ]


def test_results_of_tools_stand_before_the_rest_of_their_turn() -> None:
    """OpenAI wants them directly behind the calls; their images stay in them, an error goes into the text."""
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    failed = {"type": "tool_result", "tool_use_id": "a", "is_error": True, "content": "no such city"}
    shown = {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "see"}, image]}
    first, second, rest = chat_request_of(body(user(failed, shown, {"type": "text", "text": "Well?"})))["messages"]
    assert first == {"role": "tool", "tool_call_id": "a", "content": "Error: no such city"}
    shown_parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    assert second == {"role": "tool", "tool_call_id": "b", "content": shown_parts}
    assert rest["content"] == [{"type": "text", "text": "Well?"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop_sequences": ["END"], "temperature": 0.5}, {"stop": ["END"], "temperature": 0.5}),
        ({"top_p": 0.9, "top_k": 5, "stream": True}, {"top_p": 0.9, "top_k": 5, "stream": True}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1_024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "adaptive"}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": None}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "xhigh"}),
        ({"service_tier": "auto", "cache_control": {"type": "ephemeral"}}, {"service_tier": None}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": None}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
    ],
)
def test_settings_find_their_counterparts(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each setting of a Messages request under the name that OpenAI gives it; None: it is left out."""
    chat = chat_request_of(body(**fields))
    assert {name: chat.get(name) for name in expected} == expected
    assert chat["max_completion_tokens"] == 100


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, "auto", None),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "none"}, "none", None),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}, None),
    ],
)
def test_tools_and_their_choice(choice: dict[str, Any], expected: Any, parallel: bool | None) -> None:
    """Tools become functions, with every way to choose among them."""
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
    chat = chat_request_of(body(tools=[tool], tool_choice=choice))
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert chat["tools"] == [{"type": "function", "function": function, "cache_control": {"type": "ephemeral"}}]
    assert (chat["tool_choice"], chat.get("parallel_tool_calls")) == (expected, parallel)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"metadata": {"other": 1}}, "metadata.other"),
        ({"thinking": {"type": "odd"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "odd"}}, "tool_choice.type"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "search_result"})]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "image", "source": {"type": "file"}})]}, "messages[0].content[0].source.type"),
        ({"messages": [user({"type": "image", "source": {"type": "url"}})]}, "messages[0].content[0].source.url"),
        ({"messages": [user({"type": "document", "source": {"type": "file"}})]}, "messages[0].content[0].source.type"),
        (
            {"messages": [user({"type": "document", "source": {}, "citations": {"enabled": True}})]},
            "messages[0].content[0].citations",
        ),
        ({"messages": [user({"type": "tool_result"})]}, "messages[0].content[0].tool_use_id"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {}, "name": "f"}]}]},
            "messages[0].content[0].id",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """Silently dropping a field would answer another question than the one that was asked."""
    with pytest.raises(InvalidRequest) as caught:
        chat_request_of(body(**fields))
    assert caught.value.param == param
    assert param in caught.value.message


def test_who_wants_to_see_thinking() -> None:
    """Only a request with thinking switched on."""
    asked = [wants_thinking(body(thinking={"type": kind})) for kind in ("enabled", "adaptive", "disabled")]
    assert asked == [True, True, False]
    assert not wants_thinking(body())
