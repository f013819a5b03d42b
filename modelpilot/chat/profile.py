"""What one request asks for: computed once, used by eligibility, prediction, storage and the call itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpilot.chat.body import MAX_TAG_NAME, MAX_TAG_VALUE, MAX_TAGS, ChatBody, RequestOptions
from modelpilot.chat.prefix import LEAST_TOKENS, Beginning, beginnings
from modelpilot.chat.size import PromptSize
from modelpilot.chat.text import prompt_text, required_capabilities
from modelpilot.wire.jsonb import dump

# Only this much of a prompt is looked at: the task is stated at its start or its end.
INSPECTED_CHARACTERS = 2_000

# What only the gateway reads. (`provider` is OpenRouter's as well.)
_OURS = frozenset({"modelpilot", "models", "route", "fallbacks"})

Rule = tuple[str, tuple[str, ...], re.Pattern[str]]


def _by_words(name: str, *words: str) -> Rule:
    """The rule for these words, patterns of lower-case text that begin with characters which stand for themselves."""
    literals = tuple(re.sub(r"(.\?|[^\w ]).*", "", word) for word in words)
    return name, literals, re.compile(rf"\b({'|'.join(words)})\b")


_CODE_OPENINGS = ("def", "class", "function", "import", "select", "public static")
_OPERATORS = "-+*/^=×÷"
_CREATIVE = r"(me )?(a|an|the)?\s*\w*\s*(poem|story|song|haiku|slogan|tagline|limerick)"
# The type, pieces of text of which one must be there, and the pattern: looking for pieces costs a hundredth of it.
_RULES: tuple[Rule, ...] = (
    ("code", ("```",), re.compile("```")),
    ("code", _CODE_OPENINGS, re.compile(rf"\b({'|'.join(_CODE_OPENINGS)})\b[^(:;{{]*[(:;{{]")),
    _by_words(
        "code", "python", "javascript", "typescript", "rust", "java", "sql", "regex", "bug", "stack ?trace", "refactor",
        "unit tests?", "code", "compile",
    ),
    _by_words("translation", "translate", "translation", r"übersetz\w*", r"traduis\w*", "traduce"),
    _by_words("summarization", "summari[sz]e", "summary", "tl;?dr", "in (one|two|three) sentences"),
    _by_words("extraction", "extract", "list all", "find all", "parse", r"named entit\w+", "fields?"),
    ("math", tuple(_OPERATORS), re.compile(rf"\d\s*[{re.escape(_OPERATORS)}]\s*\d")),
    _by_words(
        "math", "solve", "equation", "integral", "derivative", "probability", "how many", "how much", "calculate",
        "sum of", "percent(age)?", "theorem", "prove",
    ),
    _by_words("creative", f"write {_CREATIVE}", f"compose {_CREATIVE}"),
    _by_words("classification", "classify", "sentiment", "categori[sz]e", "label the"),
)  # fmt: skip


def classify_request(text: str, *, has_tools: bool, has_images: bool) -> str:
    """By the first rule that matches: tool_use, vision, and by the prompt's text code, translation, summarization,
    extraction, math, creative, classification, or else chat."""
    if has_tools:
        return "tool_use"
    return "vision" if has_images else _type_of_text(text)


def _type_of_text(text: str) -> str:
    if len(text) > 2 * INSPECTED_CHARACTERS:
        text = text[:INSPECTED_CHARACTERS] + text[-INSPECTED_CHARACTERS:]
    text = text.lower()
    for name, pieces, pattern in _RULES:
        if any(piece in text for piece in pieces) and pattern.search(text):
            return name
    return "chat"


@dataclass(frozen=True, slots=True)
class RequestProfile:
    """A checked request. `body` is what the client sent, without what only the gateway reads, and is never changed."""

    body: dict[str, Any]
    options: RequestOptions
    text: str
    request_type: str
    size: PromptSize
    max_output_tokens: int | None
    capabilities: frozenset[str]
    stream: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    end_user: str | None = None  # the client's own name for whom it asks
    prefix: tuple[Beginning, ...] = ()  # empty for prompts too short for any provider's cache

    @property
    def prompt_tokens(self) -> int:
        """The prompt's tokens by our own count, media by OpenAI's rule; models differ from it by a factor."""
        return self.size.tokens


def profile_request(body: dict[str, Any], checked: ChatBody) -> RequestProfile:
    """Read the request once; `checked` is the validated view of `body`."""
    text, options = prompt_text(body["messages"]), checked.modelpilot or RequestOptions()
    size = PromptSize.of(body)
    return RequestProfile(
        body={name: value for name, value in body.items() if name not in _OURS},
        options=options,
        text=text,
        request_type=classify_request(text, has_tools=bool(body.get("tools")), has_images=size.has_images),
        size=size,
        max_output_tokens=checked.max_completion_tokens or checked.max_tokens,
        capabilities=required_capabilities(body, size.has_images),
        stream=bool(checked.stream),
        tags=tags_of(body.get("metadata"), options.tags),
        end_user=end_user_of(body),
        prefix=beginnings(body, size) if size.tokens >= LEAST_TOKENS else (),
    )


def tags_of(metadata: Any, tags: Mapping[str, str]) -> Mapping[str, str]:
    """The request's tags, and behind them what `metadata` says, as OpenAI's and LiteLLM's clients send it."""
    if not isinstance(metadata, dict):
        return tags
    named = {name: _tag_value(value) for name, value in metadata.items() if 0 < len(name) <= MAX_TAG_NAME}
    return dict(list({**tags, **named, **tags}.items())[:MAX_TAGS])


def with_metadata(body: dict[str, Any], metadata: Any) -> dict[str, Any]:
    """A chat body that was translated from another format, with what that calls metadata or labels among its own tags:
    no provider is told of them. Tags that are none are left to whoever checks the body."""
    options = body.get("modelpilot") or {}
    tags = (options.get("tags") or {}) if isinstance(options, dict) else None
    if not metadata or not isinstance(tags, dict) or len(tags) > MAX_TAGS:
        return body
    return {**body, "modelpilot": {**options, "tags": dict(tags_of(metadata, tags))}}


def _tag_value(value: Any) -> str:
    text = value if isinstance(value, str) else dump(value).decode("utf-8", "replace")
    return text if len(text) <= MAX_TAG_VALUE else text[: MAX_TAG_VALUE - 1] + "…"


def end_user_of(body: Mapping[str, Any]) -> str | None:
    """Whom the client asks for, by its own name for them."""
    name = body.get("user") or body.get("safety_identifier")
    return name[:MAX_TAG_VALUE] if isinstance(name, str) else None
