"""Anthropic's Messages format at our own door: requests, answers and streams, translated without loss."""

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest
from modelpilot.providers.fitting import dishonours, fit
from modelpilot.providers.kinds import KINDS
from modelpilot.providers.manners import manners_of
from modelpilot.wire.anthropic import messages_request
from modelpilot.wire.anthropic_front import chat_request_of, wants_thinking
from modelpilot.wire.anthropic_front_answer import MessageEncoder, message_of
from modelpilot.wire.chunks import as_chunks, choice_of, chunk_of
from modelpilot.wire.support import NATIVE
from tests.support.routing_samples import stream

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
INPUTS = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, max_size=3)
CALLS = st.lists(st.tuples(NAMES, INPUTS), max_size=3)


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A Messages request."""
    return {
        "model": "router/a",
        "max_tokens": 100,
        "messages": list(messages) or [{"role": "user", "content": "Hi"}],
        **fields,
    }


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A turn of the user."""
    return {"role": "user", "content": list(blocks)}


def completion(
    text: str | None, calls: list[tuple[str, dict[str, Any]]], finish: str = "stop", **message: Any
) -> dict[str, Any]:
    """An OpenAI completion."""
    tool_calls = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for index, (name, arguments) in enumerate(calls)
    ]
    answer = {"role": "assistant", "content": text, **({"tool_calls": tool_calls} if calls else {}), **message}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": answer, "finish_reason": finish}],
        "usage": usage,
    }


def accumulated(chunks: list[dict[str, Any]], *, with_thinking: bool = False) -> dict[str, Any]:
    """What Anthropic's own SDK makes of the stream of these chunks."""
    encoder = MessageEncoder(with_thinking=with_thinking)
    events = [event for chunk in chunks for event in encoder.take(chunk)] + encoder.end("msg_1", "m")
    message: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)  # type: ignore[arg-type]
    data: dict[str, Any] = message.to_dict()
    return {**data, "content": [{key: item[key] for key in sorted(item)} for item in data["content"]]}


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


@given(st.none() | TEXT, CALLS, st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_a_stream_adds_up_to_the_whole_message(
    text: str | None, calls: list[tuple[str, dict[str, Any]]], finish: str
) -> None:
    """Anthropic's SDK puts our events together to the very message that a client without a stream gets."""
    whole = completion(text, calls, finish)
    expected = message_of(whole, with_thinking=False)
    found = accumulated(as_chunks(whole))
    assert found["content"] == [{key: item[key] for key in sorted(item)} for item in expected["content"]]
    assert (found["stop_reason"], found["usage"]) == (expected["stop_reason"], expected["usage"])
    Message.model_validate(expected, strict=True)
    said = "".join(item["text"] for item in expected["content"] if item["type"] == "text")
    assert said == (text or "")
    used = [(item["name"], item["input"]) for item in expected["content"] if item["type"] == "tool_use"]
    assert used == calls


def test_a_stream_in_pieces_adds_up() -> None:
    """Words and pieces of arguments arrive one by one from a real provider."""
    found = accumulated(stream("one two three"))
    assert "".join(item["text"] for item in found["content"]) == "".join(
        choice["delta"].get("content") or "" for chunk in stream("one two three") for choice in chunk["choices"]
    )


def test_calls_under_one_index_are_told_apart_by_their_ids() -> None:
    """Some servers give every parallel call the index 0; arguments still belong to the right call."""
    pieces = [("a", "f", '{"x":'), (None, None, "1}"), ("b", "g", "{}")]
    chunks = [
        chunk_of(
            {"id": "c", "model": "m"},
            [choice_of({"tool_calls": [{"index": 0, "id": call, "function": {"name": name, "arguments": arguments}}]})],
        )
        for call, name, arguments in pieces
    ]
    found = accumulated(chunks)["content"]
    assert [(item["id"], item["name"], item["input"]) for item in found] == [("a", "f", {"x": 1}), ("b", "g", {})]


@pytest.mark.parametrize("cut", [False, True])
def test_calls_that_come_in_turns_are_blocks_one_after_the_other(cut: bool) -> None:
    """Nothing continues a block that was ended: a call waits until the one before it is whole, or the answer ends."""
    turns = [(0, "a", '{"x"'), (1, "b", '{"y"'), (2, "c", ""), (1, None, ":2}"), (2, None, "{}"), (0, None, ":1}")]
    encoder = MessageEncoder(with_thinking=False)
    events = []
    for index, call_id, arguments in turns[:-1] if cut else turns:
        call = {"index": index, "id": call_id, "function": {"name": "f", "arguments": arguments}}
        events += encoder.take(chunk_of({"id": "c", "model": "m"}, [choice_of({"tool_calls": [call]})]))
    events += encoder.end("msg", "m")
    blocks = [event["index"] for event in events if event["type"].startswith("content_block_")]
    assert blocks == sorted(blocks)
    pieces = [
        (event["index"], event["delta"]["partial_json"]) for event in events if event["type"] == "content_block_delta"
    ]
    said = ["".join(piece for index, piece in pieces if index == wanted) for wanted in range(3)]
    assert said == ['{"x"' if cut else '{"x":1}', '{"y":2}', "{}"]


def test_reasoning_in_parts_is_thinking() -> None:
    """Mistral's models put it among the parts of the content."""
    parts = [[{"type": "thinking", "thinking": [{"type": "text", "text": word}]}] for word in "AB"]
    deltas: list[dict[str, Any]] = [*({"content": part} for part in parts), {"content": "Hi"}]
    chunks = [chunk_of({"id": "c", "model": "m"}, [choice_of(delta)]) for delta in deltas]
    shown = accumulated(chunks, with_thinking=True)["content"]
    assert [item.get("thinking") or item.get("text") for item in shown] == ["AB", "Hi"]
    assert [item["type"] for item in accumulated(chunks)["content"]] == ["text"]


def test_blocks_of_a_stream_open_and_close_in_order() -> None:
    """Every block begins once, ends once, and only one is open at a time."""
    encoder = MessageEncoder(with_thinking=True)
    whole = completion("Hi", [("f", {}), ("g", {})], reasoning_content="Hm")
    events = [event for chunk in as_chunks(whole) for event in encoder.take(chunk)] + encoder.end("msg", "m", x=1)
    steps = [(event["type"].removeprefix("content_block_"), event.get("index")) for event in events]
    blocks = [step for step in steps if step[0] in ("start", "stop")]
    assert blocks == [(name, index) for index in range(4) for name in ("start", "stop")]
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    assert events[-2]["x"] == 1


def test_an_empty_stream_is_still_a_message() -> None:
    """A provider may say nothing at all: the client gets an empty message, not half a stream."""
    found = accumulated([])
    assert (found["id"], found["content"], found["stop_reason"]) == ("msg_1", [], "end_turn")


def test_thinking_is_shown_to_those_who_asked() -> None:
    """Others take the first block for the text; a signature must come back to its provider unchanged."""
    signed = [{"type": "thinking", "thinking": "Hm", "signature": "s"}]
    whole = completion("Hi", [], reasoning_content="Hm", thinking_blocks=signed)
    assert [item["type"] for item in message_of(whole, with_thinking=False)["content"]] == ["text"]
    assert message_of(whole, with_thinking=True)["content"][0] == signed[0]
    assert accumulated(as_chunks(whole), with_thinking=True)["content"][0] == dict(sorted(signed[0].items()))
    live = [
        chunk_of({"id": "c", "model": "m"}, [choice_of(delta)])
        for delta in ({"reasoning_content": "H"}, {"reasoning_content": "m"}, {"thinking_blocks": signed})
    ]
    assert accumulated(live, with_thinking=True)["content"] == [dict(sorted(signed[0].items()))]
    turns = [{"role": "assistant", "content": [*signed, {"type": "thinking", "thinking": "x", "signature": ""}]}]
    assert chat_request_of(body(*turns))["messages"][0]["thinking_blocks"] == signed


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


def sent(kind: Any, model: str, fields: dict[str, Any], betas: str = "") -> tuple[dict[str, Any], list[str]]:
    """What a provider gets of a Messages request, and which fields were left out."""
    manners = manners_of(kind, "", model)
    fitted = fit(chat_request_of(body(**fields), betas), kind, manners)
    assert not fitted.excluded
    return KINDS[kind].wire.chat_request(fitted.body, model, False, manners), [each.field for each in fitted.changes]


SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
AGENTS: dict[str, Any] = {
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "low", "task_budget": 9},
    "tools": [{"name": "f", "input_schema": SCHEMA, "defer_loading": True, "input_examples": [{}]}],
}


def test_what_only_anthropic_knows_reaches_it_as_it_came() -> None:
    """Coding agents send fields, and properties of tools, that are newer than any translation."""
    request, left_out = sent("anthropic", "claude-opus-4-6", AGENTS)
    assert request["context_management"] == AGENTS["context_management"]
    assert request["output_config"] == AGENTS["output_config"]
    assert request["tools"] == AGENTS["tools"]
    assert (NATIVE in request, left_out) == (False, [])


@pytest.mark.parametrize(("kind", "model"), [("openai", "gpt-5"), ("openai", "m"), ("google", "gemini-2.5-pro")])
def test_others_are_sent_none_of_it_and_the_answer_says_so(kind: Any, model: str) -> None:
    """Their servers would refuse it; nothing of it changes what is asked."""
    request, left_out = sent(kind, model, AGENTS, betas="context-1m-2025-08-07")
    assert not any(name in str(request) for name in (NATIVE, "context_management", "defer_loading", "task_budget"))
    told = {"context_management", "output_config", "tools[].defer_loading", "tools[].input_examples"}
    assert told <= set(left_out)
    assert "anthropic-beta" not in left_out


def test_features_are_asked_for_in_the_header_that_the_client_sent() -> None:
    """As it came, and only where it may stand in a header."""
    for betas, expected in (("a-1, b-2", "a-1, b-2"), ("a\r\nx: y", None), ("", None)):
        chat = chat_request_of(body(), betas)
        assert KINDS["anthropic"].wire.headers("https://h", "k", "r", chat).get("anthropic-beta") == expected
        assert "anthropic-beta" not in KINDS["openai"].wire.headers("https://h/v1", "k", "r", chat)


def test_anthropics_own_tools_go_to_anthropic_alone() -> None:
    """A search that nobody makes would be another answer: models of others are not asked."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    assert sent("anthropic", "claude-sonnet-4-5", {"tools": [search]})[0]["tools"] == [search]
    chat = chat_request_of(body(tools=[search], mcp_servers=[{"type": "url", "url": "https://h", "name": "n"}]))
    for kind in ("openai", "openrouter", "google"):
        why = dishonours(chat)(kind, manners_of(kind, "", "m"))
        assert why is not None
        assert "tools[0].type" in why
        assert "mcp_servers" in why


@pytest.mark.parametrize(
    ("kind", "model", "stays"),
    [("anthropic", "claude-opus-4-8", True), ("anthropic", "claude-sonnet-4-5", False), ("openai", "m", True)],
)
def test_a_system_text_among_the_turns_stays_where_it_may(kind: Any, model: str, stays: bool) -> None:
    """Behind a user's turn, which keeps what is cached before it; elsewhere it joins the system text."""
    turns = [{"role": "user", "content": "hi"}, {"role": "system", "content": "The date changed."}]
    request, _ = sent(kind, model, {"system": "first", "messages": turns})
    roles = [message["role"] for message in request["messages"] if message["content"] != "first"]
    assert roles == (["user", "system"] if stays else ["user"])
    assert "The date changed." in str(request)


def test_a_document_by_url_is_anthropics_to_fetch() -> None:
    """It is passed on by its address, and never fetched here."""
    document = {"type": "document", "source": {"type": "url", "url": "https://example.org/report"}}
    request, _ = sent("anthropic", "claude-sonnet-4-5", {"messages": [user(document, {"type": "text", "text": "?"})]})
    assert request["messages"][0]["content"][0] == document


def test_who_wants_to_see_thinking() -> None:
    """Only a request with thinking switched on."""
    asked = [wants_thinking(body(thinking={"type": kind})) for kind in ("enabled", "adaptive", "disabled")]
    assert asked == [True, True, False]
    assert not wants_thinking(body())


def test_usage_has_all_that_anthropic_counts() -> None:
    """Input, cache reads and cache writes apart, the writes also by their time."""
    written = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}
    answer = completion("a", [])
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 4, "cache_creation": written}
    assert message_of(answer, with_thinking=False)["usage"] == {
        "input_tokens": 1,
        "output_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 5,
        "cache_creation": written,
    }
