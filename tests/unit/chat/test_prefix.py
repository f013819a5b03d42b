"""The beginnings of prompts, by which a later turn of a conversation is recognized."""

from typing import Any

import pytest

from modelpilot.chat.body import ChatBody
from modelpilot.chat.prefix import Beginning, beginnings
from modelpilot.chat.profile import profile_request

JsonObject = dict[str, Any]
FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
LONG = "policy " * 2_000
TOOL: JsonObject = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL: JsonObject = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def conversation(*more: JsonObject, **fields: Any) -> JsonObject:
    messages = [{"role": "system", "content": LONG}, {"role": "user", "content": "first"}, *more]
    return {"messages": messages, "tools": [TOOL], **fields}


def test_the_next_turn_begins_as_this_one_ended() -> None:
    """Wherever the marks stand meanwhile, and whether a text is a string or a part; with the tokens of the profile."""
    call = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "cache_control": FIVE}]}
    first = conversation(call, {"role": "tool", "tool_call_id": "t1", "content": "found", "cache_control": FIVE})
    marked = [{"type": "text", "text": "found", "cache_control": HOUR}]
    result = {"role": "tool", "tool_call_id": "t1", "content": marked}
    second = conversation(
        {"role": "assistant", "content": None, "tool_calls": [CALL]}, result, {"role": "user", "content": "and then?"}
    )
    second["tools"] = [{**TOOL, "cache_control": FIVE}]
    ended, later = beginnings(first)[-1], beginnings(second)
    assert ended.digest in {each.digest for each in later}
    assert profile_request(first, ChatBody.model_validate(first)).prompt_tokens == ended.tokens
    assert [each.kept_s for each in later] == [300.0, None, None, 3_600.0, None]
    assert [each.shared for each in later] == [True, False, False, False, False]


@pytest.mark.parametrize(
    "other",
    [
        conversation({"role": "user", "content": "b"}),
        conversation({"role": "assistant", "content": "a"}),
        conversation({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]}),
        conversation({"role": "user", "content": "a"}, tools=[]),
        conversation({"role": "user", "content": None, "tool_calls": [CALL]}),
        conversation({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}),
    ],
)
def test_another_prompt_begins_otherwise(other: JsonObject) -> None:
    """Text, role, parts, tools, calls and pictures all make a difference."""
    assert beginnings(conversation({"role": "user", "content": "a"}))[-1].digest != beginnings(other)[-1].digest


def test_a_mark_on_the_body_is_one_on_the_last_message() -> None:
    """Anthropic's automatic caching keeps the whole prompt."""
    assert [each.kept_s for each in beginnings(conversation(cache_control=HOUR))] == [None, 3_600.0]


def test_short_prompts_have_none() -> None:
    """Nothing is hashed for a prompt that no provider would cache."""
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    assert profile_request(body, ChatBody.model_validate(body)).prefix == ()


def test_marked_tools_without_instructions_are_a_beginning() -> None:
    """Other conversations with the same tools share it."""
    body = {"messages": [{"role": "user", "content": LONG}], "tools": [{**TOOL, "cache_control": FIVE}]}
    first, last = beginnings(body)
    assert (first.shared, first.kept_s, last.kept_s) == (True, 300.0, None)
    assert isinstance(first, Beginning)


def test_of_a_long_conversation_its_end_is_kept() -> None:
    """A next turn goes on at the end; what nobody's conversation has holds nobody up."""
    turns = [{"role": "user", "content": str(turn)} for turn in range(500)]
    assert len(beginnings({"messages": [{"role": "system", "content": LONG}, *turns]})) == 65
    assert beginnings({"messages": turns * 50}) == ()
