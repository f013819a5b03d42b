"""Reading an OpenAI-style message list: its text, its size, and what it asks of a model."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

# English prose has about four characters per token with today's tokenizers; a few tokens frame each message.
CHARACTERS_PER_TOKEN = 4.0
TOKENS_PER_MESSAGE = 4
# OpenAI bills a high-detail 1024 x 1024 image at 765 tokens; other providers lie within a factor of two.
TOKENS_PER_IMAGE = 765
# Below this many characters the last message alone says too little ("and in French?"), so the one before is added.
SHORT_FOLLOW_UP_CHARACTERS = 80

_WHITESPACE = re.compile(r"\s+")


def content_text(content: Any) -> str:
    """The text of a message's `content`: a string as it is, the text parts of a list joined by line ends."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if isinstance(part, dict) and _is_text(part))
    return ""


def _is_text(part: dict[str, Any]) -> bool:
    return part.get("type") in ("text", "input_text") and isinstance(part.get("text"), str)


def prompt_text(messages: Sequence[dict[str, Any]]) -> str:
    """The text that stands for this request: the last user message, with the one before if it is a short follow-up.

    System messages are left out: they are the same for all requests of a router and would drown the rest.
    """
    texts = [content_text(message.get("content")) for message in messages if message.get("role") == "user"]
    if not texts:
        texts = [content_text(message.get("content")) for message in messages]
    last = texts[-1] if texts else ""
    if len(texts) > 1 and len(last) < SHORT_FOLLOW_UP_CHARACTERS:
        return f"{texts[-2]}\n{last}"
    return last


def normalized_prompt(text: str) -> str:
    """The prompt with case and white space folded: equal for what a person would call the same prompt."""
    return _WHITESPACE.sub(" ", text).strip().casefold()


def _parts(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def has_images(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether any message carries an image."""
    return any(part.get("type") in ("image_url", "input_image") for part in _parts(messages))


def estimate_prompt_tokens(messages: Sequence[dict[str, Any]], tools_characters: int = 0) -> int:
    """A model-independent estimate of the prompt's tokens, tools included (`tools_characters` of their JSON)."""
    characters = tools_characters + sum(len(content_text(message.get("content"))) for message in messages)
    images = sum(1 for part in _parts(messages) if part.get("type") in ("image_url", "input_image"))
    return int(characters / CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_IMAGE * images


def required_capabilities(body: dict[str, Any]) -> frozenset[str]:
    """The catalogue capabilities that this request needs of a model."""
    needed = {"chat"}
    if body.get("tools"):
        needed.add("functions")
    if has_images(body["messages"]):
        needed.add("vision")
    if (body.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        needed.add("json")
    return frozenset(needed)
