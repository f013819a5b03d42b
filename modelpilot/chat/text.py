"""Reading an OpenAI-style message list: its text, and what it asks of a model."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

_IMAGES = ("image_url", "input_image")
# Below this many characters the last message alone says too little ("and in French?"), so the one before is added.
SHORT_FOLLOW_UP_CHARACTERS = 80
# Folding takes some 13 ms per million characters and ten times their memory, hashing 1 ms. Nobody types such a prompt
# twice; whoever sends it again sends the same bytes.
FOLDED_CHARACTERS = 256 * 1024


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
    texts = _from_the_end([message for message in messages if message.get("role") == "user"] or messages)
    last = next(texts, "")
    before = next(texts, None) if len(last) < SHORT_FOLLOW_UP_CHARACTERS else None
    return last if before is None else f"{before}\n{last}"


def _from_the_end(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    # One at a time: of a hundred thousand messages two are read.
    return (content_text(message.get("content")) for message in reversed(messages))


def normalized_prompt(text: str) -> str:
    """The prompt with case and white space folded: equal for what a person would call the same prompt.

    Beyond FOLDED_CHARACTERS it is a digest, equal for the very same text only, which no folded text can look like
    (upper case).
    """
    if len(text) > FOLDED_CHARACTERS:
        return f"SHA256 {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return " ".join(text.split()).casefold()


def _parts(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))


def has_images(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether any message carries an image."""
    return any(part.get("type") in _IMAGES for part in _parts(messages))


def required_capabilities(body: dict[str, Any], images: bool | None = None) -> frozenset[str]:
    """The catalogue capabilities that this request needs of a model; `images`: whether there are any, where known."""
    needed = {"chat"}
    if body.get("tools"):
        needed.add("functions")
    if has_images(body["messages"]) if images is None else images:
        needed.add("vision")
    if (body.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        needed.add("json")
    return frozenset(needed)
