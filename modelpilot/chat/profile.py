"""What one request asks for: computed once, used by eligibility, prediction, storage and the call itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelpilot.chat.body import ChatBody, RequestOptions
from modelpilot.chat.text import content_text, estimate_prompt_tokens, has_images, prompt_text, required_capabilities
from modelpilot.wire.jsonb import dump

# Only this much of a prompt is looked at: the task is stated at its start or its end.
INSPECTED_CHARACTERS = 2_000

# The request type is that of the first rule that matches.
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


@dataclass(frozen=True, slots=True)
class RequestProfile:
    """A checked request. `body` is what the client sent, without `modelpilot`, and is never changed."""

    body: dict[str, Any]
    options: RequestOptions
    text: str
    request_type: str
    prompt_tokens: int
    max_output_tokens: int | None
    capabilities: frozenset[str]
    stream: bool
    features: dict[str, float] = field(default_factory=dict)


def profile_request(body: dict[str, Any], checked: ChatBody) -> RequestProfile:
    """Read the request once; `checked` is the validated view of `body`."""
    messages, tools = body["messages"], body.get("tools")
    return RequestProfile(
        body={name: value for name, value in body.items() if name != "modelpilot"},
        options=checked.modelpilot or RequestOptions(),
        text=prompt_text(messages),
        request_type=classify_request(messages, bool(tools)),
        prompt_tokens=estimate_prompt_tokens(messages, len(dump(tools)) if tools else 0),
        max_output_tokens=checked.max_completion_tokens or checked.max_tokens,
        capabilities=required_capabilities(body),
        stream=bool(checked.stream),
        features=surface_features(messages),
    )
