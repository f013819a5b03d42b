"""Deterministic quality of an answer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.quality import TRUNCATED_QUALITY, answer_quality

TOOLS = {"tools": [{"type": "function", "function": {"name": "weather"}}]}
JSON = {"response_format": {"type": "json_object"}}


def answer(finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """An answer of one choice."""
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish_reason}]}


def call(name: str = "weather", arguments: Any = '{"city": "Rome"}') -> dict[str, Any]:
    """An answer that calls a tool."""
    return answer("tool_calls", content=None, tool_calls=[{"function": {"name": name, "arguments": arguments}}])


@pytest.mark.parametrize(
    ("body", "given_answer", "quality"),
    [
        ({}, answer(content="Paris."), None),
        ({}, answer(content="I can't believe it is not butter."), None),
        ({}, answer(content=""), 0.0),
        ({}, answer(content=" \n"), 0.0),
        ({}, answer(content=None), 0.0),
        ({}, {"choices": []}, 0.0),
        ({}, {}, 0.0),
        ({}, answer(content="I'm sorry, but I can't assist with that."), 0.0),
        ({}, answer(content="I\u2019m sorry but I cannot help."), 0.0),
        ({}, answer(content="As an AI language model, I cannot do this."), 0.0),
        ({}, answer(content="Sure", refusal="no"), 0.0),
        ({}, answer("length", content="Once upon"), TRUNCATED_QUALITY),
        (JSON, answer(content='{"a": 1}'), 1.0),
        (JSON, answer(content="[1]"), 0.0),
        (JSON, answer(content="not json"), 0.0),
        (JSON, answer("length", content='{"a": 1'), TRUNCATED_QUALITY),
        ({"response_format": None}, answer(content="x"), None),
        (TOOLS, call(), 1.0),
        (TOOLS, call(arguments=""), 1.0),
        (TOOLS, call(arguments="{"), 0.0),
        (TOOLS, call(arguments="[]"), 0.0),
        (TOOLS, call(name="invented"), 0.0),
        ({}, call(), 0.0),
    ],
)
def test_verdicts(body: dict[str, Any], given_answer: dict[str, Any], quality: float | None) -> None:
    """1 or 0 where it can be proved, one half for a truncated text, unknown otherwise."""
    assert answer_quality(body, given_answer) == quality


@given(st.text(), st.sampled_from(["stop", "length", "content_filter"]), st.sampled_from([{}, JSON, TOOLS]))
def test_verdicts_are_shares_or_unknown(text: str, reason: str, body: dict[str, Any]) -> None:
    """Never anything outside [0, 1]."""
    quality = answer_quality(body, answer(reason, content=text))
    assert quality is None or 0.0 <= quality <= 1.0
