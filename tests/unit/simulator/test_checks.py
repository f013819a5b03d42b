"""Requests that the real providers refuse are refused, in every dialect, without a fault being asked for."""

import json
from typing import Any

import pytest

from simulator.faults import SimError
from simulator.generate import Dialect
from simulator.wire_anthropic import Anthropic
from simulator.wire_gemini import Gemini
from simulator.wire_openai import OpenAI

Json = dict[str, Any]
ASK: Json = {"role": "user", "content": "Hi"}
CALL: Json = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
CALLING: Json = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT: Json = {"role": "tool", "tool_call_id": "c1", "content": "12:00"}
USE: Json = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "clock", "input": {}}]}
USED: Json = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "12:00"}]}
NOTE: Json = {"role": "system", "content": "Be brief"}
PARTS: Json = {"role": "user", "parts": [{"text": "Hi"}]}
FUNCTION: Json = {"role": "model", "parts": [{"functionCall": {"name": "clock", "args": {}}}]}
RESPONSE: Json = {"role": "user", "parts": [{"functionResponse": {"name": "clock", "response": {"now": "12:00"}}}]}


def tool(name: str = "clock") -> Json:
    return {"type": "function", "function": {"name": name, "parameters": {}}}


def claude_tool(name: str = "clock") -> Json:
    return {"name": name, "input_schema": {"type": "object"}}


def declared(*names: str) -> list[Json]:
    return [{"functionDeclarations": [{"name": name} for name in names]}]


def calling(**config: Any) -> Json:
    return {"functionCallingConfig": config}


def checked(dialect: Dialect, body: Json) -> None:
    request = dialect.parse(body, {"model": "small", "method": "generateContent"})
    dialect.check(body, request)


OPENAI = [
    ({"messages": []}, "must not be empty"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "Invalid value: 'robot'"),
    ({"messages": [ASK, RESULT]}, "must be a response to a preceding message with 'tool_calls'"),
    ({"messages": [ASK, CALLING]}, "must be followed by tool messages"),
    ({"messages": [ASK, CALLING, ASK]}, "did not have response messages: c1"),
    ({"messages": [ASK, CALLING, RESULT, RESULT]}, "must be a response to"),
    ({"temperature": 2.1}, "Invalid 'temperature': decimal above maximum value"),
    ({"temperature": -1}, "Invalid 'temperature': decimal below minimum value"),
    ({"temperature": "hot"}, "Invalid type for 'temperature'"),
    ({"top_p": 1.5}, "Invalid 'top_p'"),
    ({"presence_penalty": 3}, "Invalid 'presence_penalty'"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"n": 0}, "n must be"),
    ({"n": 129}, "n must be"),
    ({"tool_choice": "auto"}, "'tool_choice' is only allowed when 'tools' are specified"),
    ({"tools": [tool()], "tool_choice": "maybe"}, "Invalid value: 'maybe'"),
    ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "Tool choice 'x' not found"),
    ({"tools": [tool(), tool()]}, "'clock' is not unique"),
    ({"tools": [tool("a b")]}, "string does not match pattern"),
    ({"tools": [tool("a" * 65)]}, "string too long"),
    ({"response_format": {"type": "xml"}}, "Invalid value: 'xml'"),
    ({"response_format": {"type": "json_schema"}}, "Missing required parameter: 'response_format.json_schema'"),
]
ANTHROPIC = [
    ({"messages": []}, "messages: Field required"),
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": [{"role": "system", "content": "x"}]}, "top-level `system` parameter"),
    ({"messages": [ASK, {"role": "assistant", "content": "Hi"}, NOTE, ASK]}, "top-level `system` parameter"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "Input should be 'user' or 'assistant'"),
    ({"messages": [ASK, USED]}, "unexpected `tool_use_id` found in `tool_result` blocks: c1"),
    ({"messages": [ASK, USE]}, "messages.1: `tool_use` ids were found without `tool_result` blocks"),
    ({"messages": [ASK, USE, ASK]}, "messages.1: `tool_use` ids were found without `tool_result` blocks"),
    ({"temperature": 1.5}, "temperature: range: 0..1"),
    ({"temperature": True}, "temperature: Input should be a valid number"),
    ({"tool_choice": {"type": "auto"}}, "while providing tools"),
    ({"tools": [claude_tool()], "tool_choice": {"type": "maybe"}}, "Input tag 'maybe'"),
    ({"tools": [claude_tool()], "tool_choice": {"type": "tool", "name": "x"}}, "Tool 'x' not found"),
    ({"tools": [claude_tool(), claude_tool()]}, "tools: Tool names must be unique"),
    ({"tools": [claude_tool("a.b")]}, "tools.0.custom.name: String should match pattern"),
]
GEMINI = [
    ({"contents": []}, "contents is not specified"),
    ({"contents": [{"role": "assistant", "parts": []}]}, "Please use a valid role: user, model"),
    ({"contents": [PARTS, RESPONSE]}, "immediately after a function call turn"),
    ({"contents": [PARTS, FUNCTION]}, "number of function response parts"),
    ({"contents": [PARTS, FUNCTION, PARTS]}, "number of function response parts"),
    ({"generationConfig": {"temperature": 2.5}}, "temperature must be in the range"),
    ({"generationConfig": {"topP": "much"}}, "TYPE_FLOAT"),
    ({"generationConfig": {"maxOutputTokens": 0}}, "maxOutputTokens"),
    ({"tools": declared("a", "a")}, "Duplicate function declaration found: a"),
    ({"tools": declared("1a")}, "Invalid function name"),
    ({"toolConfig": calling(mode="ANY")}, "without function_declarations"),
    ({"tools": declared("a"), "toolConfig": calling(mode="MAYBE")}, "MAYBE"),
    ({"tools": declared("a"), "toolConfig": calling(mode="ANY", allowedFunctionNames=["b"])}, "b is not among"),
]
BASES: list[tuple[Dialect, Json, Any]] = [
    (OpenAI(), {"model": "small", "messages": [ASK]}, OPENAI),
    (Anthropic(), {"model": "small", "max_tokens": 9, "messages": [ASK]}, ANTHROPIC),
    (Gemini(), {"contents": [PARTS]}, GEMINI),
]
CASES = [(dialect, {**base, **change}, said) for dialect, base, cases in BASES for change, said in cases]


@pytest.mark.parametrize(("dialect", "body", "said"), CASES, ids=lambda value: getattr(value, "name", str(value)[:60]))
def test_bad_requests_are_refused(dialect: Dialect, body: Json, said: str) -> None:
    """With 400, in the provider's envelope, and naming what is wrong."""
    with pytest.raises(SimError) as caught:
        checked(dialect, body)
    status, data = dialect.error(caught.value)
    assert status == 400
    assert said in json.loads(data)["error"]["message"]


GOOD: list[tuple[int, Json]] = [
    (0, {"temperature": 2, "top_p": 0, "n": 1, "response_format": {"type": "text"}, "tool_choice": None}),
    (0, {"messages": [{"role": "developer", "content": "x"}, ASK, CALLING, RESULT, ASK]}),
    (0, {"tools": [tool(), tool("b-1_c")], "tool_choice": {"type": "function", "function": {"name": "clock"}}}),
    (0, {"messages": [{"role": "assistant", "content": "Hi"}, ASK], "tools": [tool()], "tool_choice": "none"}),
    (1, {"temperature": 1, "messages": [ASK, USE, USED, {"role": "assistant", "content": "It is"}]}),
    (1, {"messages": [ASK, USE, USED, ASK], "tools": [claude_tool()], "tool_choice": {"type": "any"}}),
    (1, {"messages": [ASK, {"role": "assistant", "content": "Wait"}, USE, USED]}),
    (1, {"messages": [ASK, NOTE, USE, USED, NOTE]}),
    (2, {"contents": [PARTS, FUNCTION, RESPONSE], "generationConfig": {"temperature": 2}}),
    (2, {"contents": [PARTS, FUNCTION, RESPONSE, FUNCTION, RESPONSE, PARTS], "tools": declared("a.b:c")}),
    (2, {"tools": declared("a"), "toolConfig": calling(mode="ANY", allowedFunctionNames=["a"])}),
]


@pytest.mark.parametrize(("at", "change"), GOOD)
def test_good_requests_pass(at: int, change: Json) -> None:
    """What the providers take is taken: limits are included, calls with their results are pairs."""
    dialect, base, _ = BASES[at]
    checked(dialect, {**base, **change})
