"""The content parts of OpenAI messages, read into the few shapes that every provider knows."""

import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from modelpilot.wire.cache_marks import mark_of
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects

# How some write reasoning into an assistant's content (Mistral, Anthropic): nobody else takes it.
REASONING_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
_READABLE = frozenset({"text", "refusal", *REASONING_PARTS})
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Text:
    """Text, or the text of a refusal; with the mark (`cache_control`) that says to cache the prompt up to here."""

    text: str
    mark: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound or a file: base64 `data`, or the `url` where the provider finds it (never fetched by us)."""

    mime_type: str
    data: str | None = None
    url: str | None = None
    mark: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """A part that has no counterpart elsewhere (a file by its OpenAI id, a future kind of part)."""

    type: str
    mark: JsonObject | None = None


Part = Text | Media | Foreign


def parts_of(content: Any) -> list[Part]:
    """The parts of a message's `content`, without reasoning and without empty texts, which other providers refuse. The
    mark of an empty one goes to the part before it, where the prompt ends at the same place."""
    if isinstance(content, str):
        return [Text(content)] if content else []
    parts: list[Part] = []
    for raw in as_objects(content):
        part, mark = _part(raw), mark_of(raw)
        if part == Text(""):
            part = parts.pop() if parts else part
            mark = part.mark or mark
        if part != Text(""):
            parts.append(part if mark is None else replace(part, mark=mark))
    return parts


def text_of(content: Any) -> str:
    """All text of a message's `content`."""
    return "".join(part.text for part in parts_of(content) if isinstance(part, Text))


def thinking_of(content: Any) -> str:
    """All reasoning in a message's `content`: Mistral's and Cohere's models put it there, in parts of its own."""
    thoughts = [part.get("thinking") for part in as_objects(content) if part.get("type") == "thinking"]
    return "".join(thought if isinstance(thought, str) else text_of(thought) for thought in thoughts)


def reasoning_of(message: JsonObject) -> str:
    """The visible reasoning in a message or delta, under either of its two names or among the parts of its content."""
    text = message.get("reasoning_content") or message.get("reasoning")
    return text if text and isinstance(text, str) else thinking_of(message.get("content"))


def media_of(content: Any) -> list[JsonObject]:
    """The parts of a message's `content` that are neither text nor reasoning."""
    return [part for part in as_objects(content) if part.get("type") not in _READABLE]


def foreign_parts(messages: Any) -> Iterator[tuple[str, Part]]:
    """Every part of every message with the name of its place, `messages[3].content`."""
    for index, message in enumerate(as_objects(messages)):
        for part in parts_of(message.get("content")):
            yield f"messages[{index}].content", part


def _part(raw: JsonObject) -> Part:
    kind = str(raw.get("type"))
    if kind in REASONING_PARTS:
        return Text("")
    if kind in ("text", "refusal"):
        return Text(str(raw.get(kind) or ""))
    if kind == "image_url":
        image = raw.get(kind)
        return _from_url(str(as_object(image).get("url") if isinstance(image, dict) else image))
    if kind == "input_audio":
        audio = as_object(raw.get(kind))
        return Media(f"audio/{audio.get('format', 'wav')}", data=str(audio.get("data", "")))
    if kind == "file" and isinstance(data := as_object(raw.get(kind)).get("file_data"), str):
        return _from_url(data, "application/pdf")
    return Foreign(kind)


def _from_url(url: str, usual: str = "image/jpeg") -> Part:
    if match := _DATA_URL.match(url):
        return Media(match[1].lower(), data=url[match.end() :])
    if url.lower().startswith(("https://", "http://")):
        guessed, _ = mimetypes.guess_type(url.partition("?")[0])
        return Media(guessed or usual, url=url)
    return Foreign("url")
