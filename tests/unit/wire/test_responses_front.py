"""OpenAI's Responses format at our own door: its requests as chat bodies."""

import json
from typing import Any

import pytest

from api.http.bodies import validate
from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest
from modelpilot.wire.responses_front import ResponsesBody, chat_request_of, check
from modelpilot.wire.responses_input import as_items, messages_of
from modelpilot.wire.responses_tools import function_name, toolbox_of

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
PATCH = {"type": "custom", "name": "patch", "description": "Change files."}
CLOSE = {"type": "function", "name": "close", "parameters": {"type": "object"}}
AGENTS = {"type": "namespace", "name": "agents", "description": "Agents", "tools": [CLOSE, PATCH]}
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}


def call(call_id: str = "call_1", name: str = "weather", arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    """A call that the model made."""
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **fields}


def result(output: Any, call_id: str = "call_1") -> dict[str, Any]:
    """What came of it."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def said(text: str) -> dict[str, Any]:
    """A message of the model."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def opened(sealed: str) -> dict[str, Any] | None:
    """What these tests seal is JSON."""
    return json.loads(sealed) if sealed.startswith("{") else None


def translated(**fields: Any) -> dict[str, Any]:
    """The chat body of a request, checked as the routes check it."""
    body: dict[str, Any] = {"model": "router/a", "input": "Hi", **fields}
    validate(body, ResponsesBody)
    check(body)
    items = as_items(body["input"])
    chat = chat_request_of(body, items, toolbox_of(body.get("tools"), items), opened)
    validate(chat, ChatBody)
    return chat


def messages(*items: dict[str, Any]) -> list[dict[str, Any]]:
    """The chat messages of these items."""
    return messages_of(items, None, opened)


def test_a_plain_request_is_a_plain_chat() -> None:
    """Text in, one message out; instructions come first."""
    assert translated(instructions="Be brief") == {
        "model": "router/a",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_output_tokens": 50}, {"max_completion_tokens": 50}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "c", "schema": {"type": "object"}, "strict": True}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "c", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        (
            {"temperature": 0.5, "top_p": 0.9, "parallel_tool_calls": False, "user": "u", "service_tier": "flex"},
            {"temperature": 0.5, "top_p": 0.9, "parallel_tool_calls": False, "user": "u", "service_tier": "flex"},
        ),
        ({"prompt_cache_key": "k", "safety_identifier": "s"}, {"prompt_cache_key": "k", "safety_identifier": "s"}),
        ({"modelpilot": {"tags": {"a": "b"}}}, {"modelpilot": {"tags": {"a": "b"}}}),
        # Bookkeeping and what nobody knows: OpenAI's chat completions refuse metadata without their own store.
        ({"metadata": {"a": "b"}, "store": False, "truncation": "auto", "client_metadata": {"x": 1}, "new": 1}, {}),
        ({"tool_choice": "auto"}, {}),
    ],
)
def test_fields(given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every field is said in chat's words, or changes no answer."""
    plain = translated()
    assert translated(**given) == {**plain, **expected}


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("background", {"background": True}),
        ("conversation", {"conversation": "conv_1"}),
        ("prompt", {"prompt": {"id": "pmpt_1"}}),
        ("input", {"input": []}),
        ("input", {"input": None}),
        ("text.format.type", {"text": {"format": {"type": "grammar"}}}),
        ("tool_choice", {"tool_choice": "any", "tools": [WEATHER]}),
        ("tool_choice", {"tool_choice": {"type": "function", "name": "other"}, "tools": [WEATHER]}),
        ("tool_choice.type", {"tool_choice": {"type": "file_search"}, "tools": [WEATHER]}),
        ("tools[0].type", {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}),
        ("tools[1].type", {"tools": [WEATHER, {"type": "mcp", "server_label": "x"}]}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("tools[1].name", {"tools": [WEATHER, WEATHER]}),
        ("input[0].type", {"input": [{"type": "computer_call", "call_id": "c"}]}),
        ("input[0].content[0].file_id", {"input": [{**USER, "content": [{"type": "input_image", "file_id": "f"}]}]}),
        ("input[0].content[0].file_id", {"input": [{**USER, "content": [{"type": "input_file", "file_id": "f"}]}]}),
        ("input[0].content[0].type", {"input": [{**USER, "content": [{"type": "input_video"}]}]}),
        ("input[1].call_id", {"input": [USER, result("12")]}),
        ("input[0].call_id", {"input": [{"type": "function_call_output", "output": "12"}]}),
        ("input[0].role", {"input": [{"role": "tool", "content": "x"}]}),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_place(field: str, given: dict[str, Any]) -> None:
    """Never dropped in silence: the error names the field, in the client's spelling."""
    with pytest.raises(InvalidRequest) as caught:
        translated(**given)
    assert caught.value.param == field


def test_content_of_every_sort() -> None:
    """Texts, images with their detail, files by value and by address, in order."""
    parts = [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "original"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        {"type": "input_file", "file_url": "https://example.org/b.pdf"},
    ]
    assert messages({"role": "user", "content": parts})[0]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "https://example.org/b.pdf"}},
    ]


def test_developers_words_stay_together() -> None:
    """Instructions and the developer messages behind them are one system message; later ones stay where they are."""
    items: list[dict[str, Any]] = [
        {"role": "developer", "content": "Two"},
        USER,
        {"role": "system", "content": "Three"},
    ]
    assert [each["content"] for each in messages_of(items, "One", opened)] == ["One\n\nTwo", "Hi", "Three"]


def test_what_a_model_wrote_in_one_go_is_one_message() -> None:
    """Reasoning, text and parallel calls together, with their results right behind them."""
    reasoning = {"type": "reasoning", "summary": [], "encrypted_content": '{"message":{"reasoning_content":"Hm"}}'}
    found = messages(
        USER, reasoning, said("Wait"), call("a"), call("b"), result("1", "a"), result("2", "b"), said("So")
    )
    assert [each["role"] for each in found] == ["user", "assistant", "tool", "tool", "assistant"]
    assert (found[1]["reasoning_content"], found[1]["content"]) == ("Hm", "Wait")
    assert [each["id"] for each in found[1]["tool_calls"]] == ["a", "b"]
    assert [each["content"] for each in found[2:]] == ["1", "2", "So"]


def test_a_text_behind_a_call_does_not_part_it_from_its_result() -> None:
    """Providers refuse a call whose result does not follow."""
    found = messages(USER, call("a"), said("Wait"), result("1", "a"))
    assert [each["role"] for each in found] == ["user", "assistant", "tool"]
    assert found[1]["content"] == "Wait"


def test_two_answers_stay_two() -> None:
    """Texts of two turns are not glued together; those that thought interrupts are one answer."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}
    assert [each["content"] for each in messages(said("One"), said("Two"))] == ["One", "Two"]
    (whole,) = messages(said("One"), thought, said("Two"))
    assert (whole["content"], whole["reasoning_content"]) == ("OneTwo", "Hm")


def test_sealed_reasoning_comes_back_as_the_provider_gave_it() -> None:
    """Signed thinking on the message, signatures on their calls, wherever the item stands; strangers' seals are
    nobody's business, and a model that only thought has said nothing."""
    sealed = json.dumps(
        {"message": {"thinking_blocks": [{"signature": "s"}]}, "calls": {"a": {"extra_content": {"g": 1}}}}
    )
    item = {"type": "reasoning", "summary": [], "encrypted_content": sealed}
    for items in ([item, call("a")], [call("a"), item]):
        (message,) = messages(*items)
        assert message["thinking_blocks"] == [{"signature": "s"}]
        assert message["tool_calls"][0]["extra_content"] == {"g": 1}
    assert messages({**item, "encrypted_content": "gAAAA"}, said("Hi")) == [{"role": "assistant", "content": "Hi"}]
    assert messages(USER, item) == [{"role": "user", "content": "Hi"}]


def test_results_with_images_keep_them() -> None:
    """Text parts are a text; an image stays with its result, for the models that take it there."""
    text, image = (
        {"type": "input_text", "text": "12"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
    )
    assert messages(call(), result([text]))[1]["content"] == "12"
    assert [part["type"] for part in messages(call(), result([text, image]))[1]["content"]] == ["text", "image_url"]


def test_a_result_that_nobody_asked_for_is_told() -> None:
    """Codex sends outputs with a name and without a call."""
    item = {"type": "function_call_output", "name": "goal", "namespace": "agent", "output": "basil"}
    assert messages(USER, item)[1] == {"role": "user", "content": "Output of agent.goal:\nbasil"}


def test_tools_of_every_sort_become_functions() -> None:
    """Functions, also in namespaces; custom tools with one text, their grammar told; the local shell; a search."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
    search = {"type": "tool_search", "execution": "client", "description": "Find", "parameters": {"type": "object"}}
    box = toolbox_of([WEATHER, {**PATCH, "format": grammar}, AGENTS, {"type": "local_shell"}, search])
    functions = {tool["function"]["name"]: tool["function"] for tool in box.functions}
    assert list(functions) == ["weather", "patch", "agents__close", "agents__patch", "local_shell", "tool_search"]
    assert functions["weather"] == {"name": "weather", "parameters": {"type": "object"}, "strict": False}
    assert functions["patch"]["parameters"]["required"] == ["input"]
    assert "start: X" in functions["patch"]["description"]
    assert (box.by_name["agents__close"].namespace, box.by_name["agents__close"].name) == ("agents", "close")


def test_calls_of_every_sort_come_back_by_the_functions_names() -> None:
    """What the model is told of its earlier calls are the very names that it knows the tools by."""
    items = [
        call("a", "close", namespace="agents"),
        {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": 'say "hi"'},
        {"type": "local_shell_call", "id": "x", "call_id": "c", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "tool_search_call", "call_id": "d", "arguments": {"q": "x"}},
        result("1", "a"),
        {"type": "custom_tool_call_output", "call_id": "b", "output": "2"},
        {"type": "local_shell_call_output", "id": "c", "output": "3"},
        {"type": "tool_search_output", "call_id": "d", "tools": [WEATHER, AGENTS]},
    ]
    first, *results = messages(*items)
    called = [(each["function"]["name"], json.loads(each["function"]["arguments"])) for each in first["tool_calls"]]
    assert called == [
        ("agents__close", {}),
        ("patch", {"input": 'say "hi"'}),
        ("local_shell", {"command": ["ls"]}),
        ("tool_search", {"q": "x"}),
    ]
    assert [each["tool_call_id"] for each in results] == ["a", "b", "c", "d"]
    assert results[3]["content"] == "Tools found: weather, agents__close, agents__patch"
    assert "agents__close" in toolbox_of(None, items).by_name  # what was found can be called


def test_long_names_stay_short_and_apart() -> None:
    """OpenAI takes 64 characters; the same tool has the same name at every turn."""
    one, two = (function_name(f"{'x' * 60}{last}", "space") for last in "ab")
    assert (len(one), one == two) == (64, False)
    assert function_name("close", "mcp__x__") == "mcp__x__close"


def test_a_web_search_offered_beside_other_tools_is_left_out_and_said() -> None:
    """Coding agents offer one by default; the request must not fail for it, and the answer has to say so."""
    box = toolbox_of([WEATHER, {"type": "web_search", "external_web_access": False}])
    assert [tool["function"]["name"] for tool in box.functions] == ["weather"]
    assert [(each["field"], each["action"]) for each in box.left_out] == [("tools[1]", "dropped")]


@pytest.mark.parametrize(
    ("choice", "tools", "expected"),
    [
        ("required", ["weather", "patch", "agents__close", "agents__patch"], "required"),
        (
            {"type": "function", "name": "weather"},
            ["weather", "patch", "agents__close", "agents__patch"],
            {"type": "function", "function": {"name": "weather"}},
        ),
        (
            {"type": "custom", "name": "patch"},
            ["weather", "patch", "agents__close", "agents__patch"],
            {"type": "function", "function": {"name": "patch"}},
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "patch"}]},
            ["patch"],
            "required",
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, None, None),
    ],
)
def test_tool_choices(choice: Any, tools: list[str] | None, expected: Any) -> None:
    """A choice names the function; allowed tools are the only ones that the model hears of."""
    chat = translated(tools=[WEATHER, PATCH, AGENTS], tool_choice=choice)
    found = None if "tools" not in chat else [tool["function"]["name"] for tool in chat["tools"]]
    assert (found, chat.get("tool_choice")) == (tools, expected)
