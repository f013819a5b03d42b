"""Earlier turns fitted to the provider that is asked now: what is carried, translated and left out."""

import copy
from typing import Any

import pytest

from modelpilot.wire.anthropic import messages_request
from modelpilot.wire.anthropic_front import chat_request_of
from modelpilot.wire.anthropic_front_answer import MessageEncoder, message_of
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import as_chunks
from modelpilot.wire.gemini import generate_request
from modelpilot.wire.history import NO_TEXT, Format, fitted_history, target_of
from modelpilot.wire.openai import OPENROUTER, chat_request
from modelpilot.wire.thinking import in_order, placed

USER = {"role": "user", "content": "Hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}
SIGNED = {"type": "thinking", "thinking": "Hm", "signature": "s"}


def called(*ids: str, arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    """An assistant's message with calls."""
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}} for name in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls, **fields}


def result(call_id: str, content: Any = "sunny", **fields: Any) -> dict[str, Any]:
    """A tool's message."""
    return {"role": "tool", "tool_call_id": call_id, "content": content, **fields}


def fitted(*messages: dict[str, Any], wire: Format = "openai", model: str = "gpt-5") -> list[dict[str, Any]]:
    """The messages fitted to a model; the client's own stay as they were."""
    before = copy.deepcopy(messages)
    found = fitted_history([*messages], target_of(wire, model))
    assert messages == before
    return found


def test_plain_conversations_are_the_same_list() -> None:
    """Most conversations need no change, and cost no copy; unknown fields of the client's messages stay."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "S"},
        {**USER, "x": 1},
        {"role": "assistant", "content": "Yes"},
        USER,
    ]
    assert fitted_history(messages, target_of("openai", "gpt-5")) is messages


@pytest.mark.parametrize(
    ("wire", "model", "kept"),
    [
        ("openai", "llama-3", {}),
        ("openrouter", "openai/gpt-5", {"reasoning": "R", "reasoning_details": [{"data": "x"}], "annotations": []}),
        ("anthropic", "claude-sonnet-4-5", {"thinking_blocks": [SIGNED]}),
        ("gemini", "gemini-2.5-flash-image", {"images": [PICTURE]}),
        ("gemini", "gemini-2.5-flash", {}),
    ],
)
def test_what_providers_added_goes_to_those_that_take_it(wire: Format, model: str, kept: dict[str, Any]) -> None:
    """Reasoning, annotations and pictures reach whom they mean something; others refuse what they do not know."""
    said: dict[str, Any] = {
        "role": "assistant",
        "content": "Yes",
        "reasoning_content": "R",
        "reasoning": "R",
        "citations": [],
    }
    said |= {"reasoning_details": [{"data": "x"}], "annotations": [], "thinking_blocks": [SIGNED], "images": [PICTURE]}
    said |= {"audio": None, "refusal": None, "function_call": None, "tool_calls": None, "parsed": {}}
    assert fitted(USER, said, USER, wire=wire, model=model)[1] == {"role": "assistant", "content": "Yes", **kept}


@pytest.mark.parametrize(
    ("model", "said", "wanted"),
    [
        ("deepseek-chat", {"reasoning_content": "R"}, "R"),
        ("moonshotai/kimi-k2-thinking", {"reasoning": "R"}, "R"),
        ("deepseek-chat", {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "R"}]}]}, "R"),
        ("kimi-k2.5", {"thinking_blocks": [SIGNED]}, "(not shown)"),
        ("gpt-5", {"reasoning_content": "R"}, None),
        ("deepseek-r1-distill-llama-70b", {"reasoning_content": "R"}, None),
    ],
)
def test_reasoning_behind_calls_goes_to_models_that_demand_it(
    model: str, said: dict[str, Any], wanted: str | None
) -> None:
    """They refuse calls without it, also those that another model made; an answer in text needs none."""
    messages = fitted(
        USER, called("a", **said), result("a"), {"role": "assistant", **said, "content": "x"}, model=model
    )
    assert [message.get("reasoning_content") for message in messages] == [None, wanted, None, None]


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ({"content": None, "refusal": "I won't"}, "I won't"),
        ({"content": "Well", "refusal": "no"}, "Well\n\nno"),
        ({"content": None, "audio": {"id": "a", "data": "QQ==", "transcript": "Hello"}}, "Hello"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]}, "ab"),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}]}, "a"),
    ],
)
def test_other_places_of_text(said: dict[str, Any], content: str) -> None:
    """Refusals, what was spoken, and parts of content are text to every server; thoughts are not."""
    assert fitted(USER, {"role": "assistant", **said})[1] == {"role": "assistant", "content": content}


def test_sound_goes_back_by_its_id() -> None:
    """OpenAI's models that hear find their own answers by id; the data would be refused."""
    said = {"role": "assistant", "content": None, "audio": {"id": "a", "data": "QQ==", "transcript": "Hello"}}
    assert fitted(said, model="gpt-audio")[0]["audio"] == {"id": "a"}
    assert fitted({"role": "assistant", "audio": {"id": "a"}})[0]["audio"] == {"id": "a"}


def test_mistral_gets_its_thoughts_back_as_parts() -> None:
    """Mistral's models write them into the content."""
    content = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}]
    assert fitted({"role": "assistant", "content": content}, model="magistral-small")[0]["content"] == content


def test_an_empty_answer_is_left_out() -> None:
    """Nobody takes one, and roles still alternate: some servers' templates demand that."""
    for nothing in (None, "", "\n\n", [], [{"type": "thinking", "thinking": []}]):
        said = {"role": "assistant", "content": nothing, "thinking_blocks": [SIGNED]}
        assert fitted(USER, said, {"role": "user", "content": "again"}) == [{"role": "user", "content": "Hi\n\nagain"}]
    with_picture = {"role": "user", "content": [PICTURE]}
    assert fitted(USER, said, with_picture)[0]["content"] == [{"type": "text", "text": "Hi"}, PICTURE]
    assert fitted(said) == [{"role": "user", "content": NO_TEXT}]


def test_a_developer_is_the_system() -> None:
    """Every server of OpenAI's format knows that name, and OpenAI reads one as the other."""
    assert fitted({"role": "developer", "content": "S"}, USER)[0] == {"role": "system", "content": "S"}


def test_results_follow_their_calls() -> None:
    """Whatever stands between moves behind them, and they come in the order of the calls."""
    late = {"role": "user", "content": "wait"}
    messages = fitted(USER, called("a", "b"), late, result("b", "B"), result("a", "A"))
    assert messages == [USER, called("a", "b"), result("a", "A"), result("b", "B"), late]


def test_calls_without_results_and_results_without_calls() -> None:
    """Interrupted agents and deleted turns: nothing that was said is lost, and every provider goes on."""
    messages = fitted(result("gone", "old"), called("a", "b"), result("b"), result("b", "twice"), USER)
    assert [message.get("content") for message in messages] == [
        "Result of a tool (gone):\nold",
        None,
        "There is no result of this call.",
        "sunny",
        "Result of a tool (b):\ntwice",
        "Hi",
    ]


def test_a_result_belongs_to_the_newest_call_of_its_id() -> None:
    """Some servers count from 0 in every answer. Ids become unique, and are the same at the next turn."""
    turns = [USER, called("0"), result("0", "first"), called("0", "0"), result("0", "second"), result("0", "third")]
    messages = fitted(*turns)
    ids = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    answered = {message["tool_call_id"]: message["content"] for message in messages if message["role"] == "tool"}
    assert [answered[call_id] for call_id in ids] == ["first", "second", "third"]
    assert (ids[0], len({*ids})) == ("0", 3)
    assert fitted(*turns, USER)[:-1] == messages
    interrupted = fitted(called("0"), USER, called("0"), result("0"))
    assert interrupted[1]["content"] == "There is no result of this call."


@pytest.mark.parametrize(
    ("wire", "model", "given", "kept"),
    [
        ("anthropic", "claude", "functions.f:0", False),
        ("anthropic", "claude", "toolu_" + "x" * 60, False),
        ("anthropic", "claude", "toolu_01-a", True),
        ("openai", "gpt-5", "functions.f:0", True),
        ("openai", "gpt-5", "x" * 41, False),
        ("openai", "mistral-large", "call_1", False),
        ("openai", "mistral-large", "aB3456789", True),
    ],
)
def test_ids_of_calls(wire: Format, model: str, given: str, kept: bool) -> None:
    """Ids that a provider refuses are replaced alike in the call and its result; others are left alone."""
    message, answer = fitted(called(given), result(given), wire=wire, model=model)
    call_id = message["tool_calls"][0]["id"]
    assert answer["tool_call_id"] == call_id
    assert (call_id == given) == kept
    assert target_of(wire, model).call_ids.pattern.fullmatch(call_id)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        ({"a": 1}, '{"a":1}'),
        ("{", '{"arguments":"{"}'),
        ("3", '{"arguments":"3"}'),
    ],
)
def test_arguments_are_json_of_an_object(arguments: Any, sent: str) -> None:
    """Templates of many servers read them; what a model wrote instead is kept under one key."""
    call = fitted(called("a", arguments=arguments), result("a"))[0]["tool_calls"][0]
    assert call["function"]["arguments"] == sent


def test_pictures_in_results_follow_in_the_users_message() -> None:
    """OpenAI takes them from users only; Claude takes them where they are."""
    shown = result("a", [{"type": "text", "text": "see"}, PICTURE])
    found = fitted(USER, called("a"), shown, {"role": "user", "content": "Well?"})[2:]
    assert found == [result("a", "see"), {"role": "user", "content": [PICTURE, {"type": "text", "text": "Well?"}]}]
    assert fitted(called("a"), shown)[-1] == {"role": "user", "content": [PICTURE]}
    assert fitted(called("a"), shown, wire="anthropic", model="claude")[1] == shown


def test_signatures_of_gemini() -> None:
    """They go to Gemini, also at Google's OpenAI-compatible address; a call of another model gets the placeholder."""
    extra = {"google": {"thought_signature": "sig"}}
    signed = called("a", "b")
    signed["tool_calls"][0]["extra_content"] = extra
    asked = [result("a"), result("b")]
    asking: list[tuple[dict[str, Any], Format, str]] = [
        (signed, "gemini", "gemini-3-pro"),
        (signed, "openai", "gemini-3-pro"),
        (called("a", "b"), "openai", "gemini-3-pro"),
        (signed, "openai", "gpt-5"),
        (called("a", "b"), "gemini", "gemini-2.5-pro"),
    ]
    found = [
        [call.get("extra_content") for call in fitted(message, *asked, wire=wire, model=model)[0]["tool_calls"]]
        for message, wire, model in asking
    ]
    placeholder = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert found == [[extra, None], [extra, None], [placeholder, None], [None, None], [None, None]]


def test_claudes_thinking_travels_through_openrouter() -> None:
    """The same model at two addresses: its signed thoughts go along, and to no other model."""
    mine = [{**SIGNED, "model": "claude-sonnet-4-5"}, {"type": "redacted_thinking", "data": "d"}]
    body = {"messages": [USER, called("a", thinking_blocks=mine), result("a")]}
    message = OPENROUTER.chat_request(body, "anthropic/claude-sonnet-4.5", False, None)["messages"][1]
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1", "index": 1},
    ]
    for other in ("openai/gpt-5", "anthropic/claude-opus-4.1"):
        details = OPENROUTER.chat_request(body, other, False, None)["messages"][1].get("reasoning_details") or []
        assert "s" not in [detail.get("signature") for detail in details]
    assert "reasoning_details" not in chat_request({"messages": [message]}, "gpt-5")["messages"][0]


@pytest.mark.parametrize(
    ("signed_by", "model", "kept"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5", True),
        ("claude-sonnet-4-5-20250929", "anthropic.claude-sonnet-4-5-20250929-v1:0", True),
        ("claude-opus-4-20250514", "claude-opus-4-0", True),
        ("claude-sonnet-4-5-20250929", "our-deployment", True),
        ("a-relay", "claude-sonnet-4-5", True),
        ("claude-sonnet-4-5-20250929", "claude-opus-4-5", False),
        ("glm-4.7", "claude-opus-4-5", False),
    ],
)
@pytest.mark.parametrize("front", ["chat", "messages", "streamed messages"])
def test_thinking_goes_to_the_model_that_signed_it(signed_by: str, model: str, kept: bool, front: str) -> None:
    """Others refuse its signature, as far as the names say who is who; a client cannot know that."""
    completion = interleaved(signed_by)
    turns: list[dict[str, Any]] = [USER]
    if front == "chat":
        body: dict[str, Any] = {"messages": [*turns, completion["choices"][0]["message"], result("a"), result("b")]}
    else:
        content = message_of(completion, with_thinking=True)["content"]
        if front == "streamed messages":
            encoder = MessageEncoder(with_thinking=True)
            events = [event for chunk in as_chunks(completion) for event in encoder.take(chunk)]
            begun = [event["content_block"] for event in events if event["type"] == "content_block_start"]
            # An SDK fills the block that has begun.
            content = [
                {**start, "thinking": block.get("thinking"), "signature": block.get("signature")}
                if block["type"] == "thinking"
                else block
                for start, block in zip(begun, content, strict=True)
            ]
        turns.append({"role": "assistant", "content": content})
        body = chat_request_of({"model": "m", "max_tokens": 9, "messages": turns})
    content = messages_request(body, model)["messages"][1]["content"]
    assert content == INTERLEAVED if kept else not any("thinking" in block["type"] for block in content)


INTERLEAVED: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "one", "signature": "s1"},
    {"type": "text", "text": "First "},
    {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
    {"type": "redacted_thinking", "data": "d"},
    {"type": "text", "text": "then"},
    {"type": "thinking", "thinking": "two", "signature": "s2"},
    {"type": "tool_use", "id": "b", "name": "f", "input": {}},
]


def interleaved(model: str = "c") -> dict[str, Any]:
    """The completion that we make of Claude's answer."""
    whole = {"type": "message", "id": "m", "model": model, "content": INTERLEAVED, "stop_reason": "tool_use"}
    assembler = ChunkAssembler()
    for chunk in AnthropicDecoder(0).decode_whole(whole):
        assembler.add(chunk)
    return assembler.result()


def test_claude_gets_its_blocks_back_in_its_order_from_the_chat_route() -> None:
    """It refuses signed thoughts that were moved, and whatever was added to them."""
    message = interleaved()["choices"][0]["message"]
    results = [result("a"), result("b")]
    assert messages_request({"messages": [USER, message, *results]}, "claude")["messages"][1]["content"] == INTERLEAVED


def test_claude_gets_its_blocks_back_in_its_order_from_the_messages_route() -> None:
    """Whole, streamed again from the stored answer, and back as a request."""
    completion = interleaved()
    assert message_of(completion, with_thinking=True)["content"] == INTERLEAVED
    encoder = MessageEncoder(with_thinking=True)
    events = [event for chunk in as_chunks(completion) for event in encoder.take(chunk)]
    started = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert started == [block["type"] for block in INTERLEAVED]
    used = [{"type": "tool_result", "tool_use_id": name, "content": "x"} for name in ("a", "b")]
    turns = [USER, {"role": "assistant", "content": INTERLEAVED}, {"role": "user", "content": used}]
    chat = chat_request_of({"model": "m", "max_tokens": 9, "messages": turns})
    assert messages_request(chat, "claude")["messages"][1]["content"] == INTERLEAVED


def test_moved_texts_do_not_move_thinking_out() -> None:
    """A client may have shortened the text: thinking that stood behind more of it comes behind what there is."""
    blocks = in_order([placed(SIGNED, 0, 100, 5)], [{"type": "text", "text": "x"}], [{"type": "tool_use"}])
    assert [block["type"] for block in blocks] == ["text", "tool_use", "thinking"]


def test_unsigned_thinking_is_left_out_for_claude() -> None:
    """It came from a model that signs nothing; Claude could not check it. Its text is kept for those who want it."""
    turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm", "signature": ""}, INTERLEAVED[2]]}
    chat = chat_request_of({"model": "m", "max_tokens": 9, "messages": [USER, turn]})
    assert messages_request(chat, "claude")["messages"][1]["content"] == [INTERLEAVED[2]]
    assert chat_request(chat, "kimi-k2-thinking")["messages"][1]["reasoning_content"] == "Hm"


@pytest.mark.parametrize(
    ("messages", "claude", "gemini"),
    [
        ([{"role": "system", "content": "S"}], ["S"], ["S"]),
        ([{"role": "assistant", "content": "Hello"}, USER], [NO_TEXT, "Hello", "Hi"], [NO_TEXT, "Hello", "Hi"]),
        ([USER, {"role": "assistant", "content": " \n"}, USER], ["Hi\n\nHi"], ["Hi\n\nHi"]),
        ([USER, {"role": "assistant", "content": "So, \n"}], ["Hi", "So,"], ["Hi", "So, \n"]),
        ([{"role": "user", "content": ""}], [NO_TEXT], [NO_TEXT]),
    ],
)
def test_turns_that_must_be_there(messages: list[dict[str, Any]], claude: list[str], gemini: list[str]) -> None:
    """Both need a user's turn first and text in every turn; Claude goes on with no answer that ends in a blank."""
    turns = messages_request({"messages": messages}, "claude")["messages"]
    assert [block["text"] for turn in turns for block in turn["content"]] == claude
    contents = generate_request({"messages": messages}, "gemini-2.5-pro")["contents"]
    assert [part["text"] for content in contents for part in content["parts"]] == gemini


def test_thinking_is_off_where_claude_goes_on_with_an_answer() -> None:
    """A begun answer has no thinking, and Claude refuses one without where thinking is on."""
    begun = [USER, {"role": "assistant", "content": "So"}]
    assert "thinking" not in messages_request({"messages": begun, "reasoning_effort": "low"}, "claude-sonnet-4-5")


def test_names_that_claude_refuses_are_fitted() -> None:
    """A model may have called what does not exist."""
    said = called("a")
    said["tool_calls"][0]["function"]["name"] = "functions.get weather"
    block = messages_request({"messages": [USER, said, result("a")]}, "claude")["messages"][1]["content"][0]
    assert block["name"] == "functions_get_weather"
