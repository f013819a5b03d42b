"""How good an answer is: deterministic checks, and one quality out of what checks, people and a judge say.

Each says a value in [0, 1] with a precision (the inverse of a variance): the quality is their precision-weighted mean.
A check that proves an answer useless (empty, refused, not parseable) overrules everybody.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from modelpilot.chat.text import content_text
from modelpilot.wire.jsonb import as_object, as_objects

Source = Literal["checks", "feedback", "judge"]

# Standard deviations in brackets. A failed check is a proof (0.1). A passed one proves the form, not the content
# (0.4). One person's taste differs from the next one's by about a fifth (0.2). Rubric judges agree less with people
# than people do with each other (0.3).
FAILED_CHECK_PRECISION = 100.0
CHECK_PRECISION = 6.25
FEEDBACK_PRECISION = 25.0
JUDGE_PRECISION = 11.0
# One person's word makes us half sure.
HALF_CONFIDENCE_PRECISION = FEEDBACK_PRECISION
HARD_FAIL = 0.0
TRUNCATED_QUALITY = 0.5  # the part that came may still be of use

_REFUSAL = re.compile(
    r"^\s*(i['’]?m sorry,? but i|i (can(no|['’])t|am (not able|unable) to) (assist|help|comply|do that|provide)"
    r"|as an ai( language model)?,? i (can(no|['’])t))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one answer, each in [0, 1] or None. `voices` is how many people the feedback stands for; less
    than one where most of what they say was capped (`modelpilot.learning.feedback`)."""

    checks: float | None = None
    feedback: float | None = None
    judge: float | None = None
    voices: float = 1.0


@dataclass(frozen=True, slots=True)
class Quality:
    """A quality in [0, 1], the sources that it comes from (joined by `+`), and the confidence in it, in (0, 1)."""

    value: float
    source: str
    confidence: float

    @property
    def weight(self) -> float:
        """How much is learnt from it, in (0, 1]: against one person's word, and never more than that. A passed check
        alone, which proves the form only, has 0.25."""
        return min(self.confidence / (1.0 - self.confidence), 1.0) if self.confidence < 1.0 else 1.0


def combine(evidence: Evidence) -> Quality | None:
    """The quality, or None where nobody has said anything."""
    if evidence.checks == HARD_FAIL:
        return _quality(HARD_FAIL, "checks", FAILED_CHECK_PRECISION)
    said = _said(evidence)
    if not said:
        return None
    precision = sum(weight for _, _, weight in said)
    value = sum(value * weight for _, value, weight in said) / precision
    return _quality(value, "+".join(source for source, _, _ in said), precision)


def _said(evidence: Evidence) -> list[tuple[Source, float, float]]:
    values: tuple[tuple[Source, float | None, float], ...] = (
        ("checks", evidence.checks, CHECK_PRECISION),
        ("feedback", evidence.feedback, FEEDBACK_PRECISION * max(evidence.voices, 1e-3)),
        ("judge", evidence.judge, JUDGE_PRECISION),
    )
    return [(source, value, precision) for source, value, precision in values if value is not None]


def _quality(value: float, source: str, precision: float) -> Quality:
    confidence = precision / (precision + HALF_CONFIDENCE_PRECISION)
    # Rounded, so that the same evidence gives the same row, whatever the order of the sums.
    return Quality(round(min(max(value, 0.0), 1.0), 6), source, round(confidence, 6))


def answer_quality(body: dict[str, Any], answer: dict[str, Any]) -> float | None:
    """Quality in [0, 1] of the first choice, or None where the checks cannot tell. `answer` is what a provider sent:
    nothing in it need have the type that it should have."""
    choices = as_objects(answer.get("choices"))
    if not choices:
        return 0.0
    message = as_object(choices[0].get("message"))
    if calls := message.get("tool_calls"):
        return 1.0 if _tool_calls_valid(body, calls) else 0.0
    content = message.get("content")
    text = content_text(content)
    if message.get("refusal") or _REFUSAL.search(text):
        return 0.0
    if not text.strip():
        return None if isinstance(content, list) and content else 0.0  # parts that are no text: an image, say
    if choices[0].get("finish_reason") == "length":
        return TRUNCATED_QUALITY
    if as_object(body.get("response_format")).get("type") in ("json_object", "json_schema"):
        return 1.0 if _parses(text) else 0.0
    return None


def _parses(text: Any) -> bool:
    """Whether `text` is a JSON object; one that is nested too deeply to be read is of no use to anybody."""
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _tool_calls_valid(body: dict[str, Any], calls: Any) -> bool:
    offered = [as_object(tool.get("function")).get("name") for tool in as_objects(body.get("tools"))]
    functions = [as_object(as_object(call).get("function")) for call in calls] if isinstance(calls, list) else [{}]
    return all(f.get("name") in offered and _parses(f.get("arguments") or "{}") for f in functions)
