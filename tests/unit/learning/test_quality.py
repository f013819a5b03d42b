"""One quality out of checks, people and a judge."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.quality import TRUNCATED_QUALITY, Evidence, answer_quality, combine

values = st.none() | st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("evidence", "value", "source"),
    [
        (Evidence(checks=0.0), 0.0, "checks"),
        (Evidence(checks=0.0, feedback=1.0, judge=1.0), 0.0, "checks"),
        (Evidence(checks=1.0), 1.0, "checks"),
        (Evidence(feedback=0.3), 0.3, "feedback"),
        (Evidence(judge=0.7), 0.7, "judge"),
        (Evidence(checks=1.0, feedback=0.0), 0.2, "checks+feedback"),
        (Evidence(feedback=1.0, judge=0.0), 25 / 36, "feedback+judge"),
        (Evidence(checks=0.5, feedback=1.0, judge=1.0), (0.5 * 6.25 + 36) / 42.25, "checks+feedback+judge"),
    ],
)
def test_the_weights_are_as_stated(evidence: Evidence, value: float, source: str) -> None:
    """A proof of uselessness overrules; else people weigh more than a judge, and a judge more than a passed check."""
    quality = combine(evidence)
    assert quality is not None
    assert quality.value == pytest.approx(value, abs=1e-6)
    assert quality.source == source


def test_nobody_has_said_anything() -> None:
    """Unknown stays unknown: it is neither good nor bad."""
    assert combine(Evidence()) is None


def test_confidence_grows_with_what_is_known() -> None:
    """A passed check says little; a person says more, five people more still, and a failed check is sure."""
    found = [combine(e) for e in (Evidence(checks=1.0), Evidence(feedback=1.0), Evidence(feedback=1.0, voices=5.0))]
    confidences = [quality.confidence for quality in found if quality is not None]
    assert confidences == [0.2, 0.5, pytest.approx(5 / 6, abs=1e-6)]
    failed = combine(Evidence(checks=0.0))
    assert failed is not None
    assert failed.confidence == 0.8


def test_capped_voices_weigh_less_than_a_judge() -> None:
    """What one source says beyond its cap does not outvote a judge."""
    quality = combine(Evidence(feedback=0.0, judge=1.0, voices=0.01))
    assert quality is not None
    assert quality.value > 0.97


@given(st.builds(Evidence, values, values, values, st.floats(0.0, 1e4)))
def test_a_quality_is_between_what_was_said(evidence: Evidence) -> None:
    """Combining invents nothing: within [0, 1], and within the range of the evidence unless a check failed."""
    quality = combine(evidence)
    said = [value for value in (evidence.checks, evidence.feedback, evidence.judge) if value is not None]
    if quality is None:
        assert not said
        return
    assert 0.0 < quality.confidence < 1.0
    assert min(said) - 1e-6 <= quality.value <= max(said) + 1e-6


def test_nothing_counts_more_than_one_person_does() -> None:
    """What is learnt from a verdict: a passed check proves the form only, a failed one all there is to know."""
    said = (Evidence(checks=1.0), Evidence(judge=1.0), Evidence(feedback=1.0), Evidence(checks=1.0, judge=1.0),
            Evidence(feedback=1.0, voices=9.0), Evidence(checks=0.0))  # fmt: skip
    found = [quality.weight for quality in map(combine, said) if quality is not None]
    assert found == pytest.approx([0.25, 0.44, 1.0, 0.69, 1.0, 1.0], abs=1e-5)


# Deterministic quality of an answer.

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


DEEP = "[" * 100_000
ODD: list[dict[str, Any]] = [
    {"content": [{"type": "text", "text": "four"}]},
    {"content": [{"type": "image_url", "image_url": {}}]},
    {"content": [7, None]},
    {"content": {"text": "four"}},
    {"content": 4},
    {"content": DEEP},
    {"tool_calls": DEEP},
    {"tool_calls": [7, {"function": "f"}, {"function": {"name": ["f"], "arguments": {}}}]},
    {"tool_calls": [{"function": {"name": "f", "arguments": DEEP}}]},
]


@pytest.mark.parametrize("message", ODD)
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response_format": {"type": "json_object"}},
        {"response_format": "json"},
        {"tools": [{"function": {"name": ["f"]}}, {"function": 1}]},
    ],
)
def test_an_answer_of_any_shape_has_a_verdict(message: dict[str, Any], body: dict[str, Any]) -> None:
    """What a provider sends may be of any type; a check that raised would cost the client an answer that was paid."""
    for answer in ({"choices": [{"message": message}]}, {"choices": [message]}, {"choices": message}):
        verdict = answer_quality(body, answer)
        assert verdict is None or 0.0 <= verdict <= 1.0


def test_text_in_parts_is_text() -> None:
    """Some providers send content as a list of parts; parts without any text say nothing about quality."""
    parts = {"content": [{"type": "text", "text": '{"a": 1}'}]}
    body = {"response_format": {"type": "json_object"}}
    assert answer_quality(body, {"choices": [{"message": parts}]}) == 1.0
    assert answer_quality({}, {"choices": [{"message": {"content": [{"type": "image_url"}]}}]}) is None
    assert answer_quality({}, {"choices": [{"message": {"content": []}}]}) == 0.0
