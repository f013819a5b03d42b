"""Answers in OpenAI's Responses format, whole and streamed, held against the types of OpenAI's own SDK."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from modelpilot.wire.chunks import as_chunks, choice_of, chunk_of
from modelpilot.wire.responses_front_answer import Asked, output_of, response_of
from modelpilot.wire.responses_input import messages_of
from modelpilot.wire.responses_stream import ResponseEncoder
from modelpilot.wire.responses_tools import toolbox_of
from tests.support.routing_samples import stream

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SEALED = {"include": ["reasoning.encrypted_content"]}
TOOLS = [
    {"type": "function", "name": "weather", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "agents", "description": "A", "tools": [{"type": "function", "name": "close"}]},
    {"type": "local_shell"},
    {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}},
]
BASE = {"id": "chatcmpl-1", "created": 1, "model": "m"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def seal(kept: dict[str, Any]) -> str:
    """These tests read what was sealed."""
    return json.dumps(kept)


def asked(**body: Any) -> Asked:
    """A request as its answer shows it."""
    return Asked("req_1", {"model": "router/a", **body}, 1_700_000_000, seal, toolbox_of(body.get("tools")))


def called(name: str, arguments: str = "{}", call_id: str = "call_1", **fields: Any) -> dict[str, Any]:
    """A call in a chat message."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def completion(finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    answer = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": answer, "finish_reason": finish}
    return {**BASE, "object": "chat.completion", "choices": [choice], "usage": usage}


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk."""
    return chunk_of(BASE, [choice_of(fields, finish_reason=finish)])


def events_of(chunks: list[dict[str, Any]], **body: Any) -> list[dict[str, Any]]:
    """The events of these chunks; every one is an event of the SDK's, and they are numbered."""
    encoder = ResponseEncoder(asked(**body))
    events = [event for chunk in chunks for event in encoder.take(chunk)] + encoder.end(1_700_000_001)
    for number, event in enumerate(events):
        EVENT.validate_python(event)
        assert event["sequence_number"] == number
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of the events, without what all have in common and repeated deltas."""
    found: list[str] = []
    for event in events:
        name = event["type"].removeprefix("response.")
        if not found or found[-1] != name:
            found.append(name)
    return found


def shown(response: dict[str, Any]) -> dict[str, Any]:
    """The Response, as the SDK reads it."""
    return Response.model_validate(response).model_dump(by_alias=True)


def test_a_text() -> None:
    """Every field of a Response, with what the request said and OpenAI's defaults for what it did not."""
    found = response_of(
        asked(instructions="Be brief", metadata={"a": "b"}, temperature=0.2), completion(content="Hello")
    )
    assert shown(found)["id"] == "resp_req_1"
    assert found["output"] == [
        {
            "id": "msg_req_1_0",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}],
        }
    ]
    assert (found["status"], found["incomplete_details"], found["error"]) == ("completed", None, None)
    assert (found["instructions"], found["metadata"], found["temperature"]) == ("Be brief", {"a": "b"}, 0.2)
    assert (found["top_p"], found["tool_choice"], found["parallel_tool_calls"]) == (1.0, "auto", True)
    assert found["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }


@pytest.mark.parametrize(
    ("finish", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_an_answer_ended(finish: str, status: str, details: Any) -> None:
    """A truncated answer is incomplete and says why, and so is its message; whole and streamed."""
    answer = completion(finish, content="Hello")
    last = events_of(as_chunks(answer))[-1]
    assert last["type"] == f"response.{status}"
    for found in (response_of(asked(), answer), last["response"]):
        shown(found)
        assert (found["status"], found["incomplete_details"]) == (status, details)
        assert found["output"][0]["status"] == status


def test_calls_in_the_clients_own_words() -> None:
    """Each sort of tool has its sort of item, with the client's name of the tool and the provider's id of the call."""
    calls = [
        called("weather", '{"city": "Paris"}', "a"),
        called("patch", '{"input": "*** Begin"}', "b"),
        called("agents__close", "{}", "c"),
        called("local_shell", '{"command": ["ls"], "timeout_ms": 5}', "d"),
        called("tool_search", '{"q": "x"}', "e"),
        called("unheard_of", "{}", "f"),
    ]
    found = response_of(asked(tools=TOOLS), completion("tool_calls", tool_calls=calls))["output"]
    assert [(item["type"], item["call_id"]) for item in found] == [
        ("function_call", "a"),
        ("custom_tool_call", "b"),
        ("function_call", "c"),
        ("local_shell_call", "d"),
        ("tool_search_call", "e"),
        ("function_call", "f"),
    ]
    assert (found[0]["name"], found[0]["arguments"]) == ("weather", '{"city": "Paris"}')
    assert (found[1]["name"], found[1]["input"]) == ("patch", "*** Begin")
    assert (found[2]["namespace"], found[2]["name"]) == ("agents", "close")
    assert found[3]["action"] == {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": 5}
    assert found[4]["arguments"] == {"q": "x"}
    shown(response_of(asked(tools=TOOLS), completion("tool_calls", tool_calls=calls)))


def test_reasoning_is_a_summary_where_one_was_asked_for() -> None:
    """Else it is what it is; sealed only where the client asked for that."""
    answer = completion(content="4", reasoning_content="2+2")
    plain, summary, sealed = (
        response_of(asked(**body), answer)["output"][0] for body in ({}, {"reasoning": {"summary": "auto"}}, SEALED)
    )
    assert (plain["summary"], plain["content"]) == ([], [{"type": "reasoning_text", "text": "2+2"}])
    assert (summary["summary"], "content" in summary) == ([{"type": "summary_text", "text": "2+2"}], False)
    assert "encrypted_content" not in plain
    assert json.loads(sealed["encrypted_content"]) == {"message": {"reasoning_content": "2+2"}}


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """Some servers write nothing there, and clients parse it."""
    answer = completion("tool_calls", tool_calls=[called("weather", "")])
    for found in (response_of(asked(tools=TOOLS), answer), events_of(as_chunks(answer), tools=TOOLS)[-1]["response"]):
        assert found["output"][0]["arguments"] == "{}"


def test_reasoning_in_parts_is_reasoning() -> None:
    """Mistral's models think within their content."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}
    content = [thought, {"type": "text", "text": "4"}]
    for found in (
        response_of(asked(), completion(content=content)),
        events_of([delta("stop", content=content)])[-1]["response"],
    ):
        assert [item["content"][0]["text"] for item in found["output"]] == ["2+2", "4"]


def test_an_empty_answer_has_a_message() -> None:
    """Clients read the first message's text."""
    assert response_of(asked(), completion())["output"][0]["content"][0]["text"] == ""
    assert events_of(as_chunks(completion()))[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_the_events_of_a_text() -> None:
    """In OpenAI's order; what was added is done again, and the end has all of it."""
    events = events_of(stream("one two three"))
    assert kinds(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert "".join(event["delta"] for event in events if event["type"].endswith(".delta")) == "one two three"
    assert events[-1]["response"]["output"] == [events[-2]["item"]]
    assert {event["item_id"] for event in events if "item_id" in event} == {"msg_req_1_0"}
    assert events[-1]["response"]["usage"]["output_tokens"] == 5


def test_the_events_of_reasoning_and_calls() -> None:
    """Reasoning first, then calls whose arguments come in pieces, also when a server goes on with an earlier one; each
    has its own place, and all are done at the end."""
    chunks = [
        delta(role="assistant", reasoning_content="2"),
        delta(reasoning_content="+2"),
        delta(tool_calls=[{"index": 0, **called("weather", '{"city"', "a")}]),
        delta(tool_calls=[{"index": 1, **called("patch", '{"input": "x', "b")}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ': "Paris"}'}}]),
        delta(tool_calls=[{"index": 1, "function": {"arguments": 'y"}'}}]),
        delta("tool_calls"),
    ]
    events = events_of(chunks, tools=TOOLS, reasoning={"summary": "auto"}, **SEALED)
    assert kinds(events)[2:-1] == [
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        *("custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done"),
    ]
    output = events[-1]["response"]["output"]
    assert [item["id"] for item in output] == ["rs_req_1_0", "fc_req_1_0", "ctc_req_1_1"]
    assert (output[1]["arguments"], output[2]["input"]) == ('{"city": "Paris"}', "xy")
    assert json.loads(output[0]["encrypted_content"])["message"] == {"reasoning_content": "2+2"}


def test_texts_refusals_and_thought_between_them() -> None:
    """A refusal is a part of its own; thought in the middle of a text is an item of its own."""
    chunks = [delta(content="Well"), delta(refusal="No"), delta(reasoning="Hm"), delta(content="Then"), delta("stop")]
    events = events_of(chunks)
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "reasoning", "message"]
    assert output[0]["content"][1] == {"type": "refusal", "refusal": "No"}
    assert "refusal.done" in kinds(events)
    assert "reasoning_text.done" in kinds(events)
    assert [item["id"] for item in output] == ["msg_req_1_0", "rs_req_1_0", "msg_req_1_1"]


def test_log_probabilities_where_asked_for() -> None:
    """Beside the deltas and in the part; bytes are a list, whatever the provider sent."""
    token = {"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    chunk = chunk_of(BASE, [{**choice_of({"content": "a"}), "logprobs": {"content": [token]}}])
    events = events_of([chunk, chunk, delta("stop")], top_logprobs=1)
    part = events[-1]["response"]["output"][0]["content"][0]
    assert [token["bytes"] for token in part["logprobs"]] == [[], []]
    assert [len(event["logprobs"]) for event in events if event["type"] == "response.output_text.delta"] == [1, 1]
    assert events_of([chunk, delta("stop")])[-1]["response"]["output"][0]["content"][0]["logprobs"] == []


def test_citations() -> None:
    """Annotations of chat completions, in the flat shape they have here."""
    cited = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
    expected = [{"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}]
    answer = completion(content="a", annotations=[cited, {"type": "other"}])
    events = events_of([delta(content="a"), delta(annotations=[cited]), delta("stop")])
    for found in (response_of(asked(), answer), events[-1]["response"]):
        assert found["output"][0]["content"][0]["annotations"] == expected


def test_signatures_that_come_late_are_sealed_all_the_same() -> None:
    """Gemini's stand on its calls, behind all reasoning: then a reasoning item without text carries them."""
    signed = {"index": 0, **called("weather", extra_content={"google": {"thought_signature": "s"}})}
    events = events_of([delta(tool_calls=[signed]), delta("tool_calls")], tools=TOOLS, **SEALED)
    last = events[-1]["response"]["output"][-1]
    assert (last["type"], last["summary"]) == ("reasoning", [])
    assert json.loads(last["encrypted_content"])["calls"]["call_1"] == {
        "extra_content": {"google": {"thought_signature": "s"}}
    }
    assert len(events_of([delta(tool_calls=[signed]), delta("tool_calls")], tools=TOOLS)[-1]["response"]["output"]) == 1


def test_a_failed_stream_ends_with_both_events_and_calls_nothing_done() -> None:
    """Half a call that was called done would be carried out."""
    encoder = ResponseEncoder(asked(tools=TOOLS))
    encoder.take(delta(tool_calls=[{"index": 0, **called("weather", '{"ci')}]))
    error = {"type": "provider_error", "code": "provider_failed", "message": "gone", "param": None}
    events = encoder.fail(error, "server_error", modelpilot={"requestId": "req_1"})
    assert [event["type"] for event in events] == ["error", "response.failed"]
    assert (events[0]["message"], events[0]["error"]["code"]) == ("gone", "provider_failed")
    for event in events:
        EVENT.validate_python(event)
    failed = events[1]["response"]
    assert (failed["status"], failed["output"]) == ("failed", [])
    assert failed["error"] == {"code": "server_error", "message": "gone"}
    assert failed["modelpilot"] == {"requestId": "req_1"}


def test_an_unknown_service_tier_is_not_passed_on() -> None:
    """The SDK knows a handful; other providers have words of their own."""
    assert (
        shown(response_of(asked(), {**completion(content="a"), "service_tier": "on_demand"}))["service_tier"]
        == "default"
    )


@given(
    content=st.none() | TEXT,
    reasoning=st.none() | TEXT,
    refusal=st.none() | TEXT,
    calls=st.lists(st.sampled_from(["weather", "patch", "agents__close"]), max_size=3),
    summarized=st.booleans(),
)
def test_a_stream_says_what_the_whole_answer_says(
    content: str | None, reasoning: str | None, refusal: str | None, calls: list[str], summarized: bool
) -> None:
    """The same items with the same ids, so that either can be gone on from; and back at the front they are the message
    that the provider wrote."""
    tool_calls = [called(name, '{"input": "x"}', f"call_{index}") for index, name in enumerate(calls)]
    message = {"content": content, "reasoning_content": reasoning, "refusal": refusal, "tool_calls": tool_calls or None}
    answer = completion("tool_calls" if calls else "stop", **message)
    body = {"tools": TOOLS, "reasoning": {"summary": "auto"} if summarized else {}, **SEALED}
    whole = response_of(asked(**body), answer)
    assert shown(whole)["output"] == shown(events_of(as_chunks(answer), **body)[-1]["response"])["output"]
    back = messages_of(output_of(asked(**body), answer, sealed=True), None, json.loads)
    if content or refusal or calls:
        (said,) = back
        assert (said["content"] or "") == (content or "") + (refusal or "")
        assert said.get("reasoning_content") == reasoning
        assert [call["function"]["name"] for call in said.get("tool_calls", [])] == calls
