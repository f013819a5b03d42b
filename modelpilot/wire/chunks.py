"""Chunks on their way to a client; building them, one by one and from a whole completion."""

import re
from typing import Any

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump, parse_object

# These identify the stream, so every chunk has them; all else of a completion's top level goes out once.
_ON_EVERY_CHUNK = ("id", "created", "model", "service_tier", "system_fingerprint")
_PLAIN_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})
_CONTENT = re.compile(rb'"content"\s*:\s*"')


class Chunk:
    """One `chat.completion.chunk` on its way to a client.

    `raw` is the JSON that it came as, where a client of OpenAI's format may get these very bytes; `text` is its piece
    of the first choice's text, where it holds nothing else that would have to be looked at. A chunk that is known by
    its `text` to be like the one before it is decoded only where somebody asks for its `data`.
    """

    __slots__ = ("_data", "raw", "text")

    def __init__(self, data: JsonObject | None, raw: bytes | None = None, text: str | None = None) -> None:
        self._data, self.raw = data, raw
        self.text = _plain_text(data) if data is not None else text

    @property
    def data(self) -> JsonObject:
        """The object."""
        if self._data is None:
            self._data = parse_object(self.raw or b"")
        return self._data

    @property
    def decoded(self) -> bool:
        """Whether more than its text was looked at."""
        return self._data is not None

    @property
    def json(self) -> bytes:
        """The object as JSON."""
        return self.raw or dump(self.data)


class Likeness:
    """What stands around the text in a chunk's JSON. In most streams chunks differ in nothing but their text.

    Between the same bytes, a string without quotes, escapes and control characters is the text of a chunk as well, and
    nothing of that needs decoding.
    """

    __slots__ = ("_after", "_before", "_event_after", "_event_before")

    def __init__(self, raw: bytes, text: str) -> None:
        found, known = _CONTENT.search(raw), text.encode("utf-8", "surrogatepass")
        start = found.end() if found is not None and raw.count(b'"content"') == 1 else len(raw)
        end = start + len(known)
        self._before, self._after = raw[:start], raw[end:]
        if raw[start:end] != known or not self._after.startswith(b'"'):
            self._before = b"\n"  # like nothing: the text was written with escapes
        self._event_before, self._event_after = b"data: " + self._before, self._after + b"\n\n"

    def surrounds(self, raw: bytes) -> bool:
        """Whether the chunk differs at most in its text."""
        return raw.startswith(self._before) and raw.endswith(self._after)

    def text_in(self, raw: bytes) -> str | None:
        """The text in the JSON of a chunk that is alike; None where it may not be."""
        return _text_between(raw, self._before, self._after)

    def text_in_event(self, event: bytes) -> str | None:
        """The same for the bytes of exactly one event."""
        return _text_between(event, self._event_before, self._event_after)


def _text_between(data: bytes, before: bytes, after: bytes) -> str | None:
    if not data.startswith(before) or not data.endswith(after):
        return None
    piece = data[len(before) : -len(after)]
    if b'"' in piece or b"\\" in piece:
        return None
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _plain_text(chunk: JsonObject) -> str | None:
    """Most chunks are this: one choice, the first, with text in its delta. Asked for every chunk, so it is quick."""
    choices = chunk.get("choices")
    if type(choices) is not list or len(choices) != 1 or chunk.get("usage") is not None or "error" in chunk:
        return None
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") is not None or choice.get("logprobs") is not None:
        return None
    index, delta = choice.get("index"), choice.get("delta")
    if type(index) is not int or index or type(delta) is not dict or not choice.keys() <= _PLAIN_CHOICE:
        return None
    text = delta.get("content")
    plain = len(delta) == 1 or (len(delta) == 2 and delta.get("role") == "assistant")
    return text if plain and type(text) is str and text else None


def chunk_of(base: JsonObject, choices: list[JsonObject], **fields: Any) -> JsonObject:
    """A chunk with the identity in `base` (id, created, model)."""
    return {**base, "object": "chat.completion.chunk", "choices": choices, **fields}


def choice_of(delta: JsonObject, *, index: int = 0, finish_reason: str | None = None) -> JsonObject:
    """One choice of a chunk."""
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


def as_chunks(completion: JsonObject, *, include_usage: bool = True) -> list[JsonObject]:
    """The completion as a stream would have brought it: per choice its message and its end, then the usage.

    `ChunkAssembler` puts the same completion together again.
    """
    base = {key: completion[key] for key in _ON_EVERY_CHUNK if key in completion}
    known = {*base, "object", "choices", "usage"}
    rest = {key: value for key, value in completion.items() if key not in known}
    choices = as_objects(completion.get("choices"))
    chunks = [chunk_of(base, [_message_choice(choice)]) for choice in choices]
    chunks += [chunk_of(base, [_finish_choice(choice)]) for choice in choices]
    if rest or not chunks:
        chunks.insert(0, chunk_of(base, [], **rest))
    if include_usage and "usage" in completion:
        chunks.append(chunk_of(base, [], usage=completion["usage"]))
    return chunks


def _message_choice(choice: JsonObject) -> JsonObject:
    delta = dict(as_object(choice.get("message")))
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [{**call, "index": index} for index, call in enumerate(as_objects(calls))]
    message = choice_of(delta, index=choice.get("index") or 0)
    return {**message, "logprobs": choice["logprobs"]} if "logprobs" in choice else message


def _finish_choice(choice: JsonObject) -> JsonObject:
    rest = {key: value for key, value in choice.items() if key not in ("message", "logprobs")}
    return {"index": 0, "finish_reason": None, **rest, "delta": {}}
