"""Gemini's generateContent: requests from OpenAI bodies, and streams back into OpenAI chunks."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.requests.outcome import ProviderError, Usage
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.gemini import GeminiDecoder, generate_request, model_path, unsupported_content
from modelpilot.wire.openai import checked_chunk
from modelpilot.wire.reader import AnswerReader

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def tool_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def request(model: str = "gemini-2.5-flash", **body: Any) -> dict[str, Any]:
    return generate_request({"messages": [USER], **body}, model)


def response(*parts: dict[str, Any], finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": index}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": "g", **fields}


def decoded(responses: list[dict[str, Any]], expected: int = 1) -> ChunkAssembler:
    decoder, assembler = GeminiDecoder(7, "fallback", expected), ChunkAssembler()
    for item in responses:
        for chunk in decoder.take(item):
            assembler.add(checked_chunk(chunk))
    assert decoder.complete
    for chunk in decoder.closing():
        assembler.add(checked_chunk(chunk))
    return assembler


def test_a_conversation_with_parallel_tools() -> None:
    """System texts go to systemInstruction, and results carry the name and id of the call they answer."""
    messages = [
        {"role": "system", "content": "S"},
        USER,
        {
            "role": "assistant",
            "content": "ok",
            "tool_calls": [tool_call("a", "f", '{"x": 1}'), tool_call("b", "g", "")],
        },
        {"role": "tool", "tool_call_id": "a", "content": "plain"},
        {"role": "tool", "tool_call_id": "b", "content": '{"y": 2}'},
    ]
    wire = generate_request({"messages": messages, "tools": [TOOL]}, "gemini-2.5-pro")
    assert wire["systemInstruction"] == {"parts": [{"text": "S"}]}
    declared = {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}
    assert wire["tools"] == [{"functionDeclarations": [declared]}]
    assert wire["contents"] == [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {
            "role": "model",
            "parts": [
                {"text": "ok"},
                {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}},
                {"functionCall": {"id": "b", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "f", "response": {"result": "plain"}}},
                {"functionResponse": {"id": "b", "name": "g", "response": {"y": 2}}},
            ],
        },
    ]


def test_signatures_of_thoughts() -> None:
    """Gemini 3 wants each call's signature back; calls of another model get the documented placeholder."""
    signed = {**tool_call("a"), "extra_content": {"google": {"thought_signature": "sig"}}}
    parts = [
        request("gemini-3-pro", messages=[USER, {"role": "assistant", "tool_calls": [first, tool_call("b")]}])
        for first in (signed, tool_call("a"))
    ]
    found = [[part.get("thoughtSignature") for part in wire["contents"][1]["parts"]] for wire in parts]
    assert found == [["sig", None], ["skip_thought_signature_validator", None]]


@pytest.mark.parametrize(
    ("part", "wire"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://h/a.png?x=1"}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://h/a.png?x=1"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        ),
    ],
)
def test_content_parts(part: dict[str, Any], wire: dict[str, Any]) -> None:
    """Images by URL and in base64, and sound."""
    assert request(messages=[{"role": "user", "content": [part]}])["contents"][0]["parts"] == [wire]


@pytest.mark.parametrize(
    ("body", "config"),
    [
        ({}, None),
        (
            {"temperature": 0, "top_p": 0.5, "max_tokens": 9, "stop": "x", "n": 2, "seed": 3},
            {"temperature": 0, "topP": 0.5, "maxOutputTokens": 9, "stopSequences": ["x"]}
            | {"candidateCount": 2, "seed": 3},
        ),
        ({"logprobs": True, "top_logprobs": 2}, {"responseLogprobs": True, "logprobs": 2}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
        ({"reasoning_effort": "none"}, {"thinkingConfig": {"thinkingBudget": 0}}),
        ({"reasoning_effort": "medium"}, {"thinkingConfig": {"thinkingBudget": 8_192}}),
        ({"reasoning_effort": "max"}, {"thinkingConfig": {"thinkingBudget": 24_576}}),
    ],
)
def test_generation_config(body: dict[str, Any], config: dict[str, Any] | None) -> None:
    """Every supported field has its counterpart."""
    assert request(**body).get("generationConfig") == config


def test_gemini_3_is_told_a_level() -> None:
    """It takes no budget of tokens."""
    wire = request("gemini-3-flash-preview", reasoning_effort="low")
    assert wire["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "low"}}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choice(choice: Any, config: dict[str, Any]) -> None:
    """Every choice of tools has its counterpart."""
    assert request(tools=[TOOL], tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, []),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, ["messages[0].content"]),
        ({"tools": [{"type": "web_search"}]}, ["tools[0].type"]),
    ],
)
def test_unsupported_content(body: dict[str, Any], fields: list[str]) -> None:
    """What Gemini has nothing for is said by its place."""
    assert unsupported_content({"messages": [USER], **body}) == fields


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-pro", "models/gemini-2.5-pro"),
        ("models/gemini-2.5-pro", "models/gemini-2.5-pro"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("a/../b?c#d", "models/a%2F..%2Fb%3Fc%23d"),
    ],
)
def test_model_path(model: str, path: str) -> None:
    """A model's name cannot lead to another URL."""
    assert model_path(model) == path


def test_a_text_stream() -> None:
    """Text, thoughts, identity and the final counts arrive; thoughts count as output."""
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 4, "cachedContentTokenCount": 3}
    assembler = decoded(
        [
            response({"text": "Hm", "thought": True}, usageMetadata={"promptTokenCount": 5}),
            response({"text": "Hel"}),
            response({"text": "lo"}, finish="STOP", usageMetadata=usage),
        ]
    )
    assert assembler.usage == Usage(5, 6, 3, 4)
    result = assembler.result()
    assert (result["id"], result["model"], result["created"]) == ("r1", "g", 7)
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm"}
    assert result["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]


def test_tool_calls() -> None:
    """Calls get ids where Gemini gives none, keep their signature, and end as tool_calls."""
    parts: list[dict[str, Any]] = [
        {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "sig"},
        {"functionCall": {"id": "own", "name": "g"}},
    ]
    choice = decoded([response(*parts, finish="STOP")]).result()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {**tool_call("call_r1_0_0", "f", '{"x":1}'), "extra_content": {"google": {"thought_signature": "sig"}}},
        tool_call("own", "g", "{}"),
    ]


def test_candidates_and_logprobs() -> None:
    """Several candidates become choices, and their log probabilities take OpenAI's shape."""
    first = response({"text": "a"}, finish="STOP")
    top = {"token": "a", "logProbability": -0.5}
    first["candidates"][0]["logprobsResult"] = {"chosenCandidates": [top], "topCandidates": [{"candidates": [top]}]}
    second = response({"text": "b"}, finish="MAX_TOKENS", index=1)
    choices = decoded([first, second], expected=2).result()["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]
    token = {"token": "a", "logprob": -0.5, "bytes": [97]}
    assert choices[0]["logprobs"] == {"content": [{**token, "top_logprobs": [token]}]}


@pytest.mark.parametrize(
    ("item", "error_type"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}, "content_filter"),
        (response(finish="MALFORMED_FUNCTION_CALL"), "malformed_response"),
        ({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}, "overloaded"),
        ({"responseId": "x"}, "malformed_response"),
    ],
)
def test_failures(item: dict[str, Any], error_type: str) -> None:
    """What is no answer is the failure that it stands for."""
    with pytest.raises(ProviderError) as caught:
        AnswerReader(GeminiDecoder(0, "x")).feed(b"data: " + orjson.dumps(item) + b"\n\n")
    assert caught.value.error_type == error_type


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "OTHER"])
def test_withheld_answers_are_no_successes(reason: str) -> None:
    """Text that was cut off by a filter never ends with `stop`."""
    assert decoded([response({"text": "x"}, finish=reason)]).finish_reason == "content_filter"


arguments = st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=9), max_size=3)


@given(
    st.text(max_size=20).filter(lambda text: not text or bool(text.strip())),  # a blank answer is left out
    st.lists(st.tuples(st.uuids().map(str), st.text("abc", min_size=1, max_size=5), arguments), max_size=3),
    st.booleans(),
)
def test_openai_to_gemini_and_back(text: str, calls: list[Any], streamed: bool) -> None:
    """Text, tool calls and their ids survive the way to Gemini and back, whole or part by part."""
    wire_calls = [tool_call(call_id, name, orjson.dumps(value).decode()) for call_id, name, value in calls]
    spoken = {"role": "assistant", "content": text, "tool_calls": wire_calls}
    contents = request(messages=[USER, spoken])["contents"][1:]
    parts = [part for content in contents if content["role"] == "model" for part in content["parts"]]
    last = response(finish="STOP")
    items = [*(response(part) for part in parts), last] if streamed else [response(*parts, finish="STOP")]
    answer = decoded(items).result()["choices"][0]["message"]
    assert (answer["content"] or "", answer.get("tool_calls", [])) == (text, wire_calls)
