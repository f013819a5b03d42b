"""Marks for caches (`cache_control`): from either front to whoever knows them, and to nobody else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.fitting import dishonours
from modelpilot.providers.kinds import KINDS
from modelpilot.providers.manners import manners_of
from modelpilot.wire.anthropic import messages_request
from modelpilot.wire.anthropic_front import chat_request_of
from modelpilot.wire.cache_marks import MARK
from modelpilot.wire.jsonb import dump

JsonObject = dict[str, Any]
FIVE: JsonObject = {"type": "ephemeral"}
HOUR: JsonObject = {"type": "ephemeral", "ttl": "1h"}
PICTURE = "data:image/png;base64,AAAA"
PDF = "data:application/pdf;base64,AAAA"
CALL: JsonObject = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def text(said: str, **more: Any) -> JsonObject:
    return {"type": "text", "text": said, **more}


def turns(turn: int) -> list[JsonObject]:
    """An agent's conversation as a Messages client sends it in its `turn`: the mark stands on the newest result."""
    messages: list[JsonObject] = [{"role": "user", "content": [text("task")]}]
    for step in range(turn):
        use = {"type": "tool_use", "id": f"t{step}", "name": "look", "input": {"b": step, "a": 1.5}}
        result = {"type": "tool_result", "tool_use_id": f"t{step}", "content": [text(f"found {step}")]}
        messages += [{"role": "assistant", "content": [text("so"), use]}, {"role": "user", "content": [result]}]
    messages[-1]["content"][-1][MARK] = FIVE
    return messages


def claude(body: JsonObject) -> JsonObject:
    return messages_request(body, "claude-sonnet-4-5")


def test_marks_of_a_messages_request_reach_anthropic_unchanged() -> None:
    """On system, text, image, document, tool_use, tool_result and tools, each with its ttl, through our own shape."""
    blocks = [
        text("look", **{MARK: HOUR}),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}, MARK: FIVE},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}, MARK: FIVE},
    ]
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}, MARK: FIVE}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "found", MARK: FIVE}
    for turn in ([blocks[0]], [blocks[1]], [blocks[2]], [text("hm", **{MARK: FIVE})]):
        body = {"max_tokens": 9, "messages": [{"role": "user", "content": turn}]}
        assert claude(chat_request_of(body))["messages"][0]["content"] == turn
    body = {
        "max_tokens": 9,
        "system": [text("policy"), text("more", **{MARK: HOUR})],
        "tools": [{"name": "look", "input_schema": {"type": "object"}, MARK: HOUR}],
        "messages": [
            {"role": "user", "content": "task"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ],
    }
    request = claude(chat_request_of(body))
    assert (request["system"], request["tools"]) == (body["system"], body["tools"])
    assert request["messages"][1]["content"] == [use]
    assert request["messages"][2]["content"] == [{**result, "content": [text("found")]}]


def test_an_answer_of_one_marked_text_keeps_its_mark() -> None:
    """A single text of the assistant is sent as a string, but not where its mark would be lost."""
    message = {"role": "assistant", "content": [text("so", **{MARK: FIVE})]}
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": "a"}, message, {"role": "user", "content": "b"}]}
    assert claude(chat_request_of(body))["messages"][1] == message


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": [text("q", **{MARK: HOUR})]}, 0),
        ({"role": "user", "content": "q", MARK: HOUR}, 0),
        ({"role": "user", "content": [text("q"), text("", **{MARK: HOUR})]}, 0),
        ({"role": "user", "content": [text("q"), {"type": "image_url", "image_url": {"url": PICTURE}, MARK: HOUR}]}, 1),
        ({"role": "user", "content": [text("q"), {"type": "file", "file": {"file_data": PDF}, MARK: HOUR}]}, 1),
        ({"role": "tool", "tool_call_id": "t", "content": "r", MARK: HOUR}, 0),
        ({"role": "tool", "tool_call_id": "t", "content": [text("r", **{MARK: HOUR})]}, 0),
    ],
)
def test_marks_in_the_spellings_of_chat_clients_reach_anthropic(message: JsonObject, place: int) -> None:
    """On parts and on messages, and behind an empty text, which Anthropic refuses, on what stands before it."""
    before = [{"role": "assistant", "content": None, "tool_calls": [CALL]}] if message["role"] == "tool" else []
    blocks = claude({"messages": [*before, message]})["messages"][-1]["content"]
    assert [block.get(MARK) for block in blocks] == [HOUR if index == place else None for index in range(len(blocks))]


def test_marks_on_functions_calls_and_the_body_reach_anthropic() -> None:
    """LiteLLM's places for tools and calls; on the body it is Anthropic's automatic caching."""
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}, MARK: FIVE}
    body = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [call]}],
        "tools": [{"type": "function", "function": {"name": "f", MARK: HOUR}}],
        MARK: FIVE,
    }
    request = claude(body)
    assert (request["tools"][0][MARK], request[MARK]) == (HOUR, FIVE)
    assert request["messages"][1]["content"][0][MARK] == FIVE


def test_a_mark_on_nothing_is_left_out() -> None:
    """Anthropic refuses it, and there is nothing before it that could be cached instead."""
    messages = [{"role": "user", "content": [text("", **{MARK: FIVE})]}, {"role": "user", "content": "q"}]
    assert MARK not in str(claude({"messages": messages}))


@pytest.mark.parametrize(("on_body", "kept"), [(False, ["b", "3", "4", "5"]), (True, ["b", "4", "5"])])
def test_at_most_four_marks_are_sent(on_body: bool, kept: list[str]) -> None:
    """Anthropic refuses more: the last one of the instructions, which others share, and the newest stay."""
    messages = [{"role": "system", "content": [text("a", **{MARK: HOUR}), text("b", **{MARK: HOUR})]}]
    messages += [{"role": "user", "content": [text(str(turn), **{MARK: FIVE})]} for turn in range(6)]
    request = claude({"messages": messages, **({MARK: FIVE} if on_body else {})})
    blocks = [*request["system"], *request["messages"][0]["content"]]
    assert [block["text"] for block in blocks if MARK in block] == kept
    assert MARK in messages[0]["content"][0]  # the client's own body is never changed


def test_openrouter_is_sent_the_marks_on_parts_and_tools() -> None:
    """What it knows passes as it came, marks on messages move to their last part and those of functions to the tool."""
    parts = [text("policy", **{MARK: HOUR}), text("more")]
    messages = [
        {"role": "system", "content": parts},
        {"role": "user", "content": "q", MARK: FIVE},
        {"role": "assistant", "content": "so", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "t", "content": [text("r"), text("", **{MARK: FIVE})]},
        {"role": "user", "content": "plain"},
    ]
    body = {"messages": messages, "tools": [{"type": "function", "function": {"name": "f", MARK: HOUR}}], MARK: FIVE}
    sent = KINDS["openrouter"].wire.chat_request(body, "m", False, manners_of("openrouter", "", "m"))
    assert [message["content"] for message in sent["messages"]] == [
        parts,
        [text("q", **{MARK: FIVE})],
        "so",
        [text("r", **{MARK: FIVE})],
        "plain",
    ]
    assert MARK not in sent["messages"][1]
    assert sent["tools"] == [{"type": "function", "function": {"name": "f"}, MARK: HOUR}]
    assert sent[MARK] == FIVE


@pytest.mark.parametrize("kind", ["openai", "simulator"])
def test_servers_that_do_not_know_marks_are_sent_none(kind: Any) -> None:
    """A strict server would refuse them; a text that was put into a part for its mark is a string again."""
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    plain: list[JsonObject] = [
        {"role": "system", "content": "policy"},
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t", "content": "r"},
    ]
    tool = {"type": "function", "function": {"name": "f"}}
    marked = [
        {"role": "system", "content": [text("policy", **{MARK: HOUR})]},
        {"role": "user", "content": [text("a"), text("b", **{MARK: FIVE})]},
        {"role": "assistant", "content": None, "tool_calls": [{**call, MARK: FIVE}]},
        {"role": "tool", "tool_call_id": "t", "content": "r", MARK: FIVE},
    ]
    wire, manners = KINDS[kind].wire.chat_request, manners_of(kind, "", "m")
    sent = wire(
        {"messages": marked, "tools": [{**tool, MARK: HOUR}], "prompt_cache_key": "k", MARK: FIVE}, "m", False, manners
    )
    assert sent == wire({"messages": plain, "tools": [tool], "prompt_cache_key": "k"}, "m", False, manners)
    assert sent["prompt_cache_key"] == "k"


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-5.6-sol", True),
        ("gpt-6", True),
        ("gpt-6.1-sol", True),
        ("gpt-10-mini", True),
        ("gpt-5.5", False),
        ("gpt-5", False),
        ("gpt-4o", False),
        ("gpt-35-turbo", False),
        ("mistral-large", False),
    ],
)
def test_openais_own_marks_reach_the_models_that_know_them(model: str, known: bool) -> None:
    """Older ones and other servers refuse them; Anthropic's beside them never pass."""
    point = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    body = {"messages": [{"role": "user", "content": [text("a"), text("b", **point, **{MARK: FIVE})]}]}
    options = {"prompt_cache_options": {"mode": "explicit"}}
    sent = KINDS["openai"].wire.chat_request({**body, **options}, model, False, manners_of("openai", "", model))
    assert sent["messages"][0]["content"] == [text("a"), text("b", **(point if known else {}))]
    assert ("prompt_cache_options" in sent) is known


def test_openais_own_marks_are_translated_for_anthropic() -> None:
    """A conversation may change its provider; with both marks Anthropic's own counts."""
    point = {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
    messages = [{"role": "user", "content": [text("a", **point), text("b", **point, **{MARK: HOUR}), text("c")]}]
    sent = claude({"messages": messages, "prompt_cache_options": {}})
    assert sent["messages"][0]["content"] == [text("a", **{MARK: FIVE}), text("b", **{MARK: HOUR}), text("c")]
    assert "prompt_cache_options" not in sent


@pytest.mark.parametrize("kind", [*KINDS])
def test_a_mark_excludes_nobody(kind: Any) -> None:
    """It is a hint: Gemini and OpenAI cache without being told."""
    messages = [{"role": "user", "content": [text("q", **{MARK: FIVE})]}]
    body = {"messages": messages, MARK: FIVE, "prompt_cache_key": "k", "prompt_cache_options": {"ttl": "30m"}}
    assert dishonours(body)(kind, manners_of(kind, "", "gemini-2.5-flash")) is None
    if kind == "google":
        assert MARK not in str(
            KINDS[kind].wire.chat_request(body, "gemini-2.5-flash", False, manners_of(kind, "", "gemini-2.5-flash"))
        )


@pytest.mark.parametrize("kind", ["anthropic", "google", "openai", "openrouter"])
@given(turn=st.integers(0, 5))
def test_what_was_sent_before_is_sent_again_to_the_byte(kind: Any, turn: int) -> None:
    """Caches are keyed by the bytes of what comes before: each turn must begin as the one before it ended."""

    def sent(turn: int) -> list[bytes]:
        body = {
            "max_tokens": 9,
            "system": [text("policy", **{MARK: HOUR})],
            "tools": [{"name": name, "input_schema": {"type": "object"}} for name in ("z", "look", "a")],
            "messages": turns(turn),
        }
        manners = manners_of(kind, "", "claude-sonnet-4-5")
        request = KINDS[kind].wire.chat_request(chat_request_of(body), "claude-sonnet-4-5", False, manners)
        names = ("tools", "system", "systemInstruction", "messages", "contents")
        values = [request[name] for name in names if name in request]
        return [dump(cached(item)) for value in values for item in (value if isinstance(value, list) else [value])]

    before, after = sent(turn), sent(turn + 1)
    assert after[: len(before)] == before


def cached(item: JsonObject) -> JsonObject:
    """What a cache sees of a message: no marks, which move on, and a string as the text that it is."""
    content = item.get("content")
    if isinstance(content, list):
        content = [{name: value for name, value in part.items() if name != MARK} for part in content]
    return {**item, "content": [text(content)] if isinstance(content, str) else content}
