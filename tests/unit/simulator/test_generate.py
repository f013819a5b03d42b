"""Answers are deterministic, and any request body is understood or refused, in all three dialects."""

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.calls import Call, excerpt
from simulator.faults import Active, SimError, parse_faults
from simulator.generate import Completion, Dialect, generate
from simulator.models import MODELS
from simulator.request import Called, ChatRequest, Tool, Turn
from simulator.wire_anthropic import Anthropic
from simulator.wire_gemini import Gemini
from simulator.wire_openai import OpenAI

DIALECTS: list[Dialect] = [OpenAI(), Anthropic(), Gemini()]
PATH = {"model": "small", "method": "streamGenerateContent", "alt": "sse"}
ASK = ChatRequest("small", "Explain how a router picks a model", 7)
WEATHER = Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
CLOCK = Tool("clock", {})
CALL = Called("c", "get_weather")
AFTER_TOOL = (
    Turn("user", "Weather in Paris"),
    Turn("assistant", "", calls=(CALL,)),
    Turn("tool", "12 degrees", results=(CALL,)),
)


def _answer(request: ChatRequest, faults: str = "", tokens: int | None = None, model: str = "small") -> Completion:
    return generate(request, MODELS[model], Active(parse_faults(faults)), tokens, call_id="x", created=1)


def test_same_question_same_answer() -> None:
    """The answer depends on model, prompt and seed, and on nothing else."""
    assert _answer(ASK) == _answer(ASK)
    others = [replace(ASK, seed=1), replace(ASK, prompt="Explain how a router picks a plan")]
    assert len({_answer(each).choices[0].text for each in (ASK, *others)}) == 3
    assert _answer(ASK).choices[0].text != _answer(ASK, model="large").choices[0].text


def test_choices_differ() -> None:
    """`n` answers are n different answers."""
    assert len({choice.text for choice in _answer(replace(ASK, n=4)).choices}) == 4


def test_length_and_limit() -> None:
    """A wanted length is met exactly; `max_tokens` below it ends the answer with `length`."""
    whole = _answer(ASK, tokens=50).choices[0]
    assert (whole.tokens, whole.finish) == (50, "stop")
    cut = _answer(replace(ASK, max_tokens=10), tokens=50).choices[0]
    assert (cut.tokens, cut.finish) == (10, "length")
    assert whole.text.startswith(cut.text)


def test_cut_answers_are_longer_than_the_cut() -> None:
    """`cut40` has 60 tokens to cut from."""
    assert _answer(ASK, "cut40").completion_tokens == 60


@pytest.mark.parametrize(
    ("prompt", "tools", "change", "called"),
    [
        ("What is the weather in Paris?", (WEATHER, CLOCK), {}, ["get_weather"]),
        ("Weather in Paris and Rome", (WEATHER,), {}, ["get_weather", "get_weather"]),
        ("Weather in Paris and Rome", (WEATHER,), {"parallel_tools": False}, ["get_weather"]),
        ("Weather and clock please", (WEATHER, CLOCK), {}, ["get_weather", "clock"]),
        ("Hello", (WEATHER, CLOCK), {}, []),
        ("Hello", (WEATHER, CLOCK), {"tool_choice": "required"}, ["get_weather"]),
        ("Hello", (WEATHER, CLOCK), {"tool_choice": "clock"}, ["clock"]),
        ("Hello", (WEATHER,), {"tool_choice": "none"}, []),
        ("Weather in Paris", (WEATHER,), {"turns": AFTER_TOOL}, []),
        ("Weather in Paris", (WEATHER,), {"turns": AFTER_TOOL, "tool_choice": "required"}, ["get_weather"]),
    ],
)
def test_which_tools_are_called(prompt: str, tools: tuple[Tool, ...], change: Any, called: list[str]) -> None:
    """Tool calls follow the documented rule, so that tests can ask for the calls they need."""
    choice = _answer(replace(ASK, prompt=prompt, tools=tools, **change)).choices[0]
    assert [call.name for call in choice.tool_calls] == called
    assert choice.finish == ("tool_calls" if called else "stop")


def test_tool_arguments_take_names_from_the_prompt() -> None:
    """Parallel calls get one place each, and ids of their own."""
    calls = _answer(replace(ASK, prompt="Weather in Paris and Rome", tools=(WEATHER,))).choices[0].tool_calls
    assert [json.loads(call.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize(
    "schema",
    [{"properties": 5}, {"type": "array", "minItems": "x"}, {"anyOf": 3}, {"$ref": "#"}, {"enum": 5}, {"allOf": [[]]}],
)
def test_bad_schemas_are_refused_or_answered(schema: Any) -> None:
    """A client's broken schema is a 400, never a crash."""
    refused = None
    try:
        _answer(replace(ASK, schema=schema))
    except SimError as error:
        refused = error.status
    assert refused in (None, 400)


JSON_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [
    "model",
    "messages",
    "content",
    "role",
    "parts",
    "text",
    "contents",
    "tools",
    "function",
    "functionDeclarations",
    "name",
    "parameters",
    "input_schema",
    "tool_choice",
    "response_format",
    "json_schema",
    "schema",
    "type",
    "stream",
    "stream_options",
    "n",
    "seed",
    "stop",
    "max_tokens",
    "logprobs",
    "top_logprobs",
    "simulator",
    "system",
    "generationConfig",
    "systemInstruction",
    "toolConfig",
    "output_config",
    "tool_calls",
    "tool_call_id",
    "functionCall",
    "functionResponse",
    "functionCallingConfig",
    "image_url",
    "inlineData",
    "source",
    "temperature",
]
BODIES = st.dictionaries(st.sampled_from(_KEYS), JSON_VALUES | st.dictionaries(st.sampled_from(_KEYS), JSON_VALUES))
GOOD = {
    "model": "small",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hi"}],
    "contents": [{"parts": [{"text": "Hi"}]}],
}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(body=BODIES)
def test_any_body_is_answered_or_refused(dialect: Dialect, body: dict[str, Any]) -> None:
    """Whatever the JSON, the answer is an answer or a 400 that names the field; both can be written."""
    for merged in (body, {**GOOD, **body}, {**body, **GOOD}):
        try:
            request = dialect.parse(merged, PATH)
            dialect.check(merged, request)
            completion = _answer(request)
        except SimError as error:
            status, data = dialect.error(error)
            assert status == 400
            assert orjson.loads(data)
            continue
        assert orjson.loads(dialect.body(completion))
        assert dialect.frames(completion)


def test_log_keeps_both_ends_of_a_prompt() -> None:
    """A tag at either end of a long prompt finds the call; the log does not keep the rest."""
    call = Call(1, 0.0, "/", "", "", model="sim/small+cut5", prompt=excerpt("head" + "x" * 5000 + "tail"))
    assert call.matches("head", "small", "running")
    assert call.matches("tail", "sim/small+cut5", "")
    assert not call.matches("middle", "", "")
    assert len(call.prompt) < 1100
