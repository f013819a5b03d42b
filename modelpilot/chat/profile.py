"""What one request asks for: computed once, used by eligibility, prediction, storage and the call itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelpilot.chat.body import ChatBody, RequestOptions
from modelpilot.chat.text import estimate_prompt_tokens, has_images, prompt_text, required_capabilities
from modelpilot.wire.jsonb import dump

# Only this much of a prompt is looked at: the task is stated at its start or its end.
INSPECTED_CHARACTERS = 2_000

# The request type is that of the first rule that matches.
# The type, pieces of text of which one must be there for the pattern to match, and the pattern. Looking for the pieces
# costs a hundredth of the pattern, and most prompts have none. All are read in lower case.
_RULES: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = (
    ("code", ("```",), re.compile("```")),
    (
        "code",
        ("def", "class", "function", "import", "select", "public static"),
        re.compile(r"\b(def|class|function|import|select|public static)\b[^(:;{]*[(:;{]"),
    ),
    (
        "code",
        (
            "python", "javascript", "typescript", "rust", "java", "sql", "regex", "bug", "stack", "refactor",
            "unit test", "code", "compile",
        ),
        re.compile(
            r"\b(python|javascript|typescript|rust|java|sql|regex|bug|stack ?trace|refactor|unit tests?|code|compile)\b"
        ),
    ),
    (
        "translation",
        ("translat", "übersetz", "traduis", "traduce"),
        re.compile(r"\b(translate|translation|übersetz\w*|traduis\w*|traduce)\b"),
    ),
    (
        "summarization",
        ("summar", "tl;dr", "tldr", "sentences"),
        re.compile(r"\b(summari[sz]e|summary|tl;?dr|in (one|two|three) sentences)\b"),
    ),
    (
        "extraction",
        ("extract", "list all", "find all", "parse", "named entit", "field"),
        re.compile(r"\b(extract|list all|find all|parse|named entit\w+|fields?)\b"),
    ),
    ("math", tuple("-+*/^=×÷"), re.compile(r"\d\s*[-+*/^=×÷]\s*\d")),
    (
        "math",
        (
            "solve", "equation", "integral", "derivative", "probability", "how many", "how much", "calculate", "sum of",
            "percent", "theorem", "prove",
        ),
        re.compile(
            r"\b(solve|equation|integral|derivative|probability|how many|how much|calculate|sum of"
            r"|percent(age)?|theorem|prove)\b"
        ),
    ),
    (
        "creative",
        ("poem", "story", "song", "haiku", "slogan", "tagline", "limerick"),
        re.compile(
            r"\b(write|compose) (me )?(a|an|the)?\s*\w*\s*(poem|story|song|haiku|slogan|tagline|limerick)\b"
        ),
    ),
    (
        "classification",
        ("classify", "sentiment", "categori", "label the"),
        re.compile(r"\b(classify|sentiment|categori[sz]e|label the)\b"),
    ),
)  # fmt: skip


def classify_request(messages: Sequence[dict[str, Any]], has_tools: bool) -> str:
    """One of tool_use, vision, code, translation, summarization, extraction, math, creative, classification, chat."""
    if has_tools:
        return "tool_use"
    if has_images(messages):
        return "vision"
    text = prompt_text(messages)
    if len(text) > 2 * INSPECTED_CHARACTERS:
        text = text[:INSPECTED_CHARACTERS] + text[-INSPECTED_CHARACTERS:]
    text = text.lower()
    return next((name for name, needed, pattern in _RULES if _has(text, needed) and pattern.search(text)), "chat")


def _has(text: str, pieces: tuple[str, ...]) -> bool:
    return any(piece in text for piece in pieces)


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
    )
