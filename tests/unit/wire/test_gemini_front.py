"""Gemini's generateContent at our own door: requests, translated without loss."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest
from modelpilot.providers.fitting import fit
from modelpilot.providers.manners import manners_of
from modelpilot.wire.gemini import generate_request
from modelpilot.wire.gemini_front import chat_request_of, counted
from modelpilot.wire.gemini_schema import json_schema
from tests.support.gemini_bodies import FULL, body, turn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
ARGUMENTS = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, max_size=3)
CALLS = st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3)


def chat(*contents: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The chat request that it becomes, which our own checks accept."""
    made = chat_request_of(body(*contents, **fields), "router/a", stream=False)
    ChatBody.model_validate(made)
    return made


def snake(value: Any) -> Any:
    """The same in Google's other spelling."""
    if isinstance(value, dict):
        return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(item) for key, item in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


EXPECTED = {
    "model": "router/a",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,a+/b"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"far":true}'},
                    "extra_content": {"google": {"thought_signature": "c2ln"}},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"seen":1}'},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "maxProperties": 2}}}],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "max_completion_tokens": 100,
    "stop": ["END"],
    "n": 2,
    "seed": 7,
    "presence_penalty": 1,
    "frequency_penalty": -1,
    "logprobs": True,
    "top_logprobs": 3,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "response", "schema": {"type": ["string", "null"]}},
    },
    "reasoning_effort": "medium",
    "thinking": {"type": "enabled", "budget_tokens": 7_000},
}


@pytest.mark.parametrize("spelled", [FULL, snake(FULL)], ids=["camelCase", "snake_case"])
def test_everything_with_a_counterpart_is_translated(spelled: dict[str, Any]) -> None:
    """In both spellings that Google takes; safety settings, labels and what Google may add are left out."""
    assert chat_request_of(spelled, "router/a", stream=False) == EXPECTED


@given(TEXT.filter(str.strip), CALLS)  # blank texts of a model are left out: no provider takes them back
def test_a_conversation_survives_the_way_to_a_gemini_provider(
    text: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    """Texts, calls and results come out at the far side as they went in."""
    made = [
        {"functionCall": {"id": f"c{index}", "name": name, "args": args}} for index, (name, args) in enumerate(calls)
    ]
    results = [
        {"functionResponse": {"id": f"c{index}", "name": name, "response": {"at": index}}}
        for index, (name, _) in enumerate(calls)
    ]
    contents = [
        turn("user", {"text": text}),
        turn("model", {"text": text}, *made),
        turn("user", *results, {"text": "?"}),
    ]
    assert generate_request(chat(*contents), "gemini-2.5-pro")["contents"] == contents


def test_one_thing_may_stand_for_a_list_of_it() -> None:
    """As in Google's own examples."""
    made = chat_request_of(
        {
            "contents": {"parts": {"text": "Hi"}},
            "system_instruction": {"parts": {"text": "Brief."}},
            "tools": {"functionDeclarations": {"name": "f"}},
        },
        "m",
        stream=True,
    )
    assert [message["content"] for message in made["messages"]] == ["Brief.", "Hi"]
    assert (made["tools"][0]["function"], made["stream"]) == ({"name": "f"}, True)


def test_results_without_an_id_belong_to_the_calls_of_their_names() -> None:
    """In order: older clients know no ids."""
    calls = [{"functionCall": {"name": name}} for name in ("a", "b", "a")]
    results = [{"functionResponse": {"name": name, "response": {"result": name}}} for name in ("a", "a", "b")]
    _, answer, *tools = chat(turn("user", {"text": "?"}), turn("model", *calls), turn("function", *results))["messages"]
    assert [call["id"] for call in answer["tool_calls"]] == ["call_1", "call_2", "call_3"]
    assert [(tool["tool_call_id"], tool["content"]) for tool in tools] == [
        ("call_1", "a"),
        ("call_3", "a"),
        ("call_2", "b"),
    ]


def test_a_streamed_answer_comes_back_as_one_message() -> None:
    """google-genai keeps every chunk as a content of its own; a thought's signature stands on its last piece."""
    contents = [
        turn("user", {"text": "?"}),
        turn("model", {"text": "Let ", "thought": True}),
        turn("model", {"text": "me see", "thought": True}),
        turn("model", {"text": "", "thought": True, "thoughtSignature": "a-b_"}),
        turn("model", {"text": "So "}),
        turn("model", {"text": "it is."}),
    ]
    assert chat(*contents)["messages"][1] == {
        "role": "assistant",
        "content": "So it is.",
        "reasoning_content": "Let me see",
        "thinking_blocks": [{"type": "thinking", "thinking": "Let me see", "signature": "a+b/"}],
    }


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"inlineData": {"mimeType": "audio/mpeg", "data": "AA"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
        ),
        (
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA", "displayName": "a.pdf"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        ),
        ({"inlineData": {"mimeType": "text/plain", "data": "SGk="}}, {"type": "text", "text": "Hi"}),
        (
            {"fileData": {"mimeType": "image/png", "fileUri": "https://x/y.png"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        ),
        (
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x/y"}},
            {"type": "file", "file": {"filename": "file.pdf", "file_data": "https://x/y"}},
        ),
    ],
)
def test_media_are_translated(part: dict[str, Any], expected: dict[str, Any]) -> None:
    """By value and by address; text in a file is text."""
    assert chat(turn("user", {"text": "?"}, part))["messages"][0]["content"][1] == expected


def test_media_of_a_result_stay_in_it() -> None:
    """For the providers that take them there."""
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    result = {"functionResponse": {"id": "c", "name": "f", "response": {"output": "see"}, "parts": [image]}}
    assert [part["type"] for part in chat(turn("user", result))["messages"][0]["content"]] == ["text", "image_url"]


TOOLS = [{"functionDeclarations": [{"name": name, "description": "d"} for name in ("a", "b", "c")]}]


@pytest.mark.parametrize(
    ("config", "names", "choice"),
    [
        ({}, "abc", None),
        ({"mode": "AUTO"}, "abc", None),
        ({"mode": "none"}, "abc", "none"),
        ({"mode": "ANY"}, "abc", "required"),
        ({"mode": "ANY", "allowedFunctionNames": ["a", "c"]}, "ac", "required"),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["b"]}, "b", None),
    ],
)
def test_which_functions_may_be_called(config: dict[str, Any], names: str, choice: Any) -> None:
    """Of several allowed ones the others are left out, since OpenAI's choice names one or all."""
    made = chat(tools=TOOLS, toolConfig={"functionCallingConfig": config})
    assert [tool["function"]["name"] for tool in made["tools"]] == list(names)
    assert made.get("tool_choice") == choice


@pytest.mark.parametrize(
    ("config", "effort"),
    [
        ({}, None), ({"thinkingBudget": -1}, None), ({"thinkingBudget": 0}, "none"), ({"thinkingBudget": 100}, "low"),
        ({"thinkingBudget": 32768}, "high"), ({"thinkingLevel": "HIGH"}, "high"),
        ({"thinking_level": "minimal"}, "minimal"),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
    ],
)  # fmt: skip
def test_thinking_is_an_effort(config: dict[str, Any], effort: str | None) -> None:
    """The level, or the nearest budget."""
    assert chat(generationConfig={"thinkingConfig": config}).get("reasoning_effort") == effort


@pytest.mark.parametrize(("model", "budget"), [("gemini-2.5-pro", 7_001), ("gemini-2.5-flash", 7_001)])
def test_a_budget_keeps_its_number(model: str, budget: int) -> None:
    """On its way to a model that takes one."""
    made = chat(generationConfig={"thinkingConfig": {"thinkingBudget": budget}})
    assert (made["reasoning_effort"], made["thinking"]["budget_tokens"]) == ("medium", budget)
    sent = generate_request(fit(made, "google", manners_of("google", "", model)).body, model)
    assert sent["generationConfig"]["thinkingConfig"]["thinkingBudget"] == budget


def test_json_without_a_schema() -> None:
    """And plain text is what there is anyway."""
    assert chat(generationConfig={"responseMimeType": "application/json"})["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat(generationConfig={"responseMimeType": "text/plain"})
    schema = {"type": "object", "properties": {"maxItems": {"type": "string"}}}
    made = chat(generationConfig={"responseMimeType": "application/json", "responseJsonSchema": schema})
    assert made["response_format"]["json_schema"]["schema"] == schema


def test_googles_schema_becomes_json_schema() -> None:
    """Types, nullable, counts as text and the order of properties; names of properties are nobody's keywords."""
    schema = {
        "type": "OBJECT",
        "title": "T",
        "properties": {
            "max_items": {"type": "ARRAY", "items": {"type": "INTEGER"}, "min_items": "1"},
            "nullable": {"anyOf": [{"type": "STRING"}, {"ref": "#/defs/x"}], "nullable": True},
            "kind": {"type": "STRING", "enum": ["a"], "nullable": True, "format": "enum", "example": "a"},
        },
        "required": ["kind"],
        "propertyOrdering": ["kind", "max_items"],
        "defs": {"x": {"type": "TYPE_UNSPECIFIED", "description": "any"}},
    }
    made = json_schema(schema)
    assert made == {
        "type": "object",
        "title": "T",
        "properties": {
            "kind": {"type": ["string", "null"], "enum": ["a", None], "format": "enum"},
            "max_items": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "nullable": {"anyOf": [{"type": "string"}, {"$ref": "#/defs/x"}, {"type": "null"}]},
        },
        "required": ["kind"],
        "$defs": {"x": {"description": "any"}},
    }
    assert list(made["properties"]) == ["kind", "max_items", "nullable"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (body(cachedContent="cachedContents/1"), "cachedContent"),
        (body(cached_content="cachedContents/1"), "cachedContent"),
        (body(tools=[{"functionDeclarations": []}, {"google_search": {}}]), "tools[1].googleSearch"),
        (body(tools=[{"codeExecution": {}}]), "tools[0].codeExecution"),
        (body(tools=[{"functionDeclarations": [{}]}]), "tools[0].functionDeclarations[0].name"),
        (
            body(tools=TOOLS, toolConfig={"functionCallingConfig": {"mode": "X"}}),
            "toolConfig.functionCallingConfig.mode",
        ),
        (
            body(tools=TOOLS, toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["z"]}}),
            "toolConfig.functionCallingConfig.allowedFunctionNames",
        ),
        (body(turn("narrator", {"text": "x"})), "contents[0].role"),
        (body(turn("user", {"text": 1})), "contents[0].parts[0].text"),
        (body(turn("user", {})), "contents[0].parts[0]"),
        (body(turn("user", {"text": "x"}), turn("model", {"text": "y"}), turn("user")), "contents[2].parts"),
        (body(turn("user", {"executableCode": {"code": "1"}})), "contents[0].parts[0].executableCode"),
        (body(turn("user", {"text": "x"}), turn("model", {"inlineData": {}})), "contents[1].parts[0].text"),
        (body(turn("user", {"inlineData": {"data": "AA"}})), "contents[0].parts[0].inlineData.mimeType"),
        (
            body(turn("user", {"inlineData": {"mimeType": "text/plain", "data": "A"}})),
            "contents[0].parts[0].inlineData.data",
        ),
        (body(turn("user", {"fileData": {"fileUri": "gs://b/x"}})), "contents[0].parts[0].fileData.fileUri"),
        (
            body(turn("user", {"fileData": {"mimeType": "video/mp4", "fileUri": "https://x/y"}})),
            "contents[0].parts[0].fileData.mimeType",
        ),
        (body(turn("model", {"functionCall": {"name": "f", "args": []}})), "contents[0].parts[0].functionCall.args"),
        (body(turn("user", {"functionResponse": {"response": {}}})), "contents[0].parts[0].functionResponse.name"),
        (body(generationConfig={"temperature": 3}), "generationConfig.temperature"),
        (body(generationConfig={"temperature": "warm"}), "generationConfig.temperature"),
        (body(generationConfig={"temperature": "nan"}), "generationConfig.temperature"),
        (body(generationConfig={"seed": "9" * 400}), "generationConfig.seed"),
        (body(generationConfig={"stopSequences": "END"}), "generationConfig.stopSequences"),
        (body(generationConfig={"topK": 1.5}), "generationConfig.topK"),
        (body(generation_config={"max_output_tokens": 0}), "generationConfig.maxOutputTokens"),
        (body(generationConfig={"candidateCount": True}), "generationConfig.candidateCount"),
        (body(generationConfig={"responseModalities": ["TEXT", "AUDIO"]}), "generationConfig.responseModalities"),
        (body(generationConfig={"speechConfig": {"a": 1}}), "generationConfig.speechConfig"),
        (body(generationConfig={"responseMimeType": "text/x.enum"}), "generationConfig.responseMimeType"),
        (
            body(generationConfig={"thinkingConfig": {"thinkingLevel": "SOME"}}),
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
    ],
)
def test_what_has_no_counterpart_is_refused_and_named(asked: dict[str, Any], param: str) -> None:
    """Never dropped in silence."""
    with pytest.raises(InvalidRequest) as refused:
        chat_request_of(asked, "router/a", stream=False)
    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param}: ")


def test_tokens_are_counted_of_contents_or_of_a_whole_request() -> None:
    """Both forms of countTokens."""
    inner = body(systemInstruction={"parts": [{"text": "x"}]})
    assert counted({"generate_content_request": inner}) == inner
    assert counted(inner) == inner
