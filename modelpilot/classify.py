"""Request type from the messages, by documented rules: the first rule that matches wins."""

import re
from collections.abc import Sequence
from typing import Any

from modelpilot.messages_text import content_text, has_images, prompt_text

# Only this much of a prompt is looked at: the task is stated at its start or its end.
INSPECTED_CHARACTERS = 2_000

_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "code",
        re.compile(
            r"```|\b(def|class|function|import|SELECT|public static)\b.*[(:;{]|\b(python|javascript|typescript|rust"
            r"|java|sql|regex|bug|stack ?trace|refactor|unit tests?|code|compile)\b",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    ("translation", re.compile(r"\b(translate|translation|übersetz\w*|traduis\w*|traduce)\b", re.IGNORECASE)),
    ("summarization", re.compile(r"\b(summari[sz]e|summary|tl;?dr|in (one|two|three) sentences)\b", re.IGNORECASE)),
    ("extraction", re.compile(r"\b(extract|list all|find all|parse|named entit\w+|fields?)\b", re.IGNORECASE)),
    (
        "math",
        re.compile(
            r"\d\s*[-+*/^=×÷]\s*\d|\b(solve|equation|integral|derivative|probability|how many|how much|calculate|sum of"
            r"|percent(age)?|theorem|prove)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "creative",
        re.compile(
            r"\b(write|compose) (me )?(a|an|the)?\s*\w*\s*(poem|story|song|haiku|slogan|tagline|limerick)\b",
            re.IGNORECASE,
        ),
    ),
    ("classification", re.compile(r"\b(classify|sentiment|categori[sz]e|label the)\b", re.IGNORECASE)),
)


def classify_request(messages: Sequence[dict[str, Any]], has_tools: bool) -> str:
    """One of tool_use, vision, code, translation, summarization, extraction, math, creative, classification, chat."""
    if has_tools:
        return "tool_use"
    if has_images(messages):
        return "vision"
    text = prompt_text(messages)
    inspected = (
        text if len(text) <= 2 * INSPECTED_CHARACTERS else text[:INSPECTED_CHARACTERS] + text[-INSPECTED_CHARACTERS:]
    )
    return next((name for name, pattern in _RULES if pattern.search(inspected)), "chat")


def surface_features(messages: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Numbers about the prompt's surface that estimators may need when the text itself is no longer there."""
    text = prompt_text(messages)
    total = max(len(text), 1)
    return {
        "characters": float(len(text)),
        "words": float(text.count(" ") + 1),
        "lines": float(text.count("\n") + 1),
        "digitShare": sum(character.isdigit() for character in text) / total,
        "upperShare": sum(character.isupper() for character in text) / total,
        "brackets": float(sum(text.count(bracket) for bracket in "()[]{}")),
        "questionMarks": float(text.count("?")),
        "codeFences": float(text.count("```")),
        "messages": float(len(messages)),
        "systemCharacters": float(
            sum(len(content_text(m.get("content"))) for m in messages if m.get("role") in ("system", "developer"))
        ),
    }
