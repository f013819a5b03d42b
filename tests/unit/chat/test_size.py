"""The size of a prompt: everything in a body that providers count as input."""

import json
from typing import Any

import pytest

from modelpilot.chat.size import PromptSize
from modelpilot.chat.tokens import count_exactly

Body = dict[str, Any]
USER = {"role": "user", "content": "What is the weather in Bern?"}
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "The city, with its country where it is not the only one"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["city"],
}
FUNCTION = {"name": "get_forecast", "description": "The weather of the next days", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": {**FUNCTION, "name": f"get_forecast_{number}"}} for number in range(20)]
ARGUMENTS = json.dumps({"path": "src/app.py", "content": "def add(first, second):\n    return first + second\n" * 40})


def compact(value: Any) -> str:
    """JSON as SDKs send it."""
    return json.dumps(value, separators=(",", ":"))


def call(**fields: Any) -> Body:
    function = {"name": "write_file", "arguments": ARGUMENTS}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    } | fields


HELPFUL = "You are a helpful, pattern-following assistant"
BACK = "Let's circle back when we have more bandwidth"


def tokens(*messages: Body, **fields: Any) -> int:
    return PromptSize.of({"messages": list(messages), **fields}).tokens


def test_openais_own_example() -> None:
    """Three tokens frame a message, one is its role, one a name, and three begin the answer."""
    said = [
        ("system", None, f"{HELPFUL} that translates corporate jargon into plain English."),
        ("system", "example_user", "New synergies will help drive top-line growth."),
        ("system", "example_assistant", "Things working well together will increase revenue."),
        ("system", "example_user", f"{BACK} to touch base on opportunities for increased leverage."),
        ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
        ("user", None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
    ]  # fmt: skip
    messages = [{"role": role, "content": text} | ({"name": name} if name else {}) for role, name, text in said]
    assert tokens(*messages) == 124  # what the API reports for gpt-4o


@pytest.mark.parametrize(
    ("messages", "fields", "text"),
    [
        ([{"role": "system", "content": "Be brief. " * 50}, USER], {}, "Be brief. " * 50),
        ([{"role": "developer", "content": "Be brief. " * 50}, USER], {}, "Be brief. " * 50),
        ([USER, call()], {}, f"write_file{ARGUMENTS}"),
        ([USER, call(tool_calls=None, function_call={"name": "write_file", "arguments": ARGUMENTS})], {}, ARGUMENTS),
        ([USER, call(tool_calls=[{"type": "custom", "custom": {"name": "f", "input": ARGUMENTS}}])], {}, ARGUMENTS),
        ([USER, {"role": "tool", "tool_call_id": "c1", "content": "found it " * 60}], {}, "found it " * 60),
        ([USER, {"role": "tool", "content": [{"type": "text", "text": "found it " * 60}]}], {}, "found it " * 60),
        ([USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No. " * 90}]}], {}, "No. " * 90),
        ([USER], {"tools": TOOLS}, compact(TOOLS)),
        ([USER], {"functions": [FUNCTION] * 10}, compact([FUNCTION] * 10)),
        (
            [USER],
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"items": [SCHEMA] * 9}}}},
            compact({"items": [SCHEMA] * 9}),
        ),
        ([USER, {"role": "assistant", "reasoning_content": "Let me see. " * 60}], {}, "Let me see. " * 60),
        (
            [USER, {"role": "assistant", "thinking_blocks": [{"type": "thinking", "thinking": "Let me see. " * 60}]}],
            {},
            "Let me see. " * 60,
        ),
    ],
    ids=[
        "system", "developer", "call", "function-call", "custom-call", "result", "result-in-parts", "refusal", "tools",
        "functions", "schema", "reasoning", "thinking",
    ],
)  # fmt: skip
def test_all_that_is_sent_counts(messages: list[Body], fields: Body, text: str) -> None:
    """Within ten per cent of the tokens of what was added."""
    added = tokens(*messages, **fields) - tokens(USER)
    assert added == pytest.approx(count_exactly(text), rel=0.1)


def test_many_arguments_are_not_fourteen_tokens() -> None:
    """A conversation of an agent is mostly calls: 162,000 characters of their arguments."""
    arguments = json.dumps({"content": "for row in rows:\n    total += row.price * row.count\n" * 3_000})
    size = tokens(USER, call(tool_calls=[{"function": {"name": "write_file", "arguments": arguments}}]))
    assert size == pytest.approx(count_exactly(arguments), rel=0.1)
    assert size > 30_000


def test_reasoning_of_earlier_turns_is_not_sent() -> None:
    """Providers leave it out of the prompt."""
    thought = {"role": "assistant", "content": "Hm.", "reasoning_content": "Let me see. " * 60}
    assert tokens(USER, thought, USER) < 50


def test_pictures_are_counted_by_the_model_that_is_asked() -> None:
    """The same prompt by three rules; the picture belongs to its message."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a"}},
    ]
    size = PromptSize.of({"messages": [{"role": "user", "content": parts}, USER]})
    assert size.has_images
    assert size.tokens == size.text_tokens + 765
    assert (size.media_tokens("anthropic"), size.media_tokens("google")) == (1_399, 1_032)
    first, last = size.tokens_until()
    assert last == size.tokens
    assert last - first < 20


@pytest.mark.parametrize(
    "content", [None, [], [None, 3, "x"], [{}], [{"type": "image_url"}], [{"type": "file", "file": 1}]]
)
def test_odd_content_is_counted_without_complaint(content: Any) -> None:
    """What a provider may refuse has a size here all the same."""
    assert tokens({"role": "user", "content": content}) >= 7
