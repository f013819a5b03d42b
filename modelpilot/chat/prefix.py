"""The beginnings of a prompt, which the caches of providers are about: a conversation's next request begins as this one
does, and then its provider need not read that again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from modelpilot.chat.size import PromptSize
from modelpilot.wire.cache_marks import bare, mark_of, tool_mark
from modelpilot.wire.jsonb import as_object, as_objects, dump

# Caches begin at 1,024 tokens, of which a model may count three to one of ours. Shorter prompts cost nothing here.
LEAST_TOKENS = 256
# A next request goes on where an earlier one ended, which is not many messages ago.
_LOOKED_BACK = 64
_MOST_MESSAGES = 10_000  # what nobody's conversation has must not hold up others
# Of a picture that fills megabytes its length and its ends say enough.
_LONGEST_HASHED, _END = 4_096, 512


@dataclass(frozen=True, slots=True)
class Beginning:
    """All of a prompt up to the end of one message. `tokens` is estimated as those of the whole prompt are. `kept_s`:
    the longest time in seconds for which the client marked something in its last message to be cached; None: nothing.
    `shared`: tools and instructions only, which other conversations may have as well."""

    digest: bytes
    tokens: int
    kept_s: float | None = None
    shared: bool = False


def beginnings(body: dict[str, Any], size: PromptSize | None = None) -> tuple[Beginning, ...]:
    """Where a later prompt that begins like this one may leave it, the shortest first: behind tools and instructions,
    and behind each of the last messages, with the tokens of `size` (None: counted here). Empty for more messages than
    anybody has. Marks make no difference to the digests: they move on from turn to turn."""
    messages, tools = body["messages"], as_objects(body.get("tools"))
    if len(messages) > _MOST_MESSAGES:
        return ()
    size = size or PromptSize.of(body)
    plain_tools = dump([bare(tool) for tool in tools]) if tools else b""
    hasher, until = blake2b(plain_tools, digest_size=16), size.tokens_until()
    kept_s = max((_kept_s(tool_mark(tool)) or 0.0 for tool in tools), default=0.0) or None
    instructions, last = _instructions(messages), len(messages) - 1
    found = []
    if tools and not instructions:
        found.append(Beginning(hasher.digest(), size.head, kept_s, shared=True))
    for index, message in enumerate(messages):
        for piece in _pieces(message):
            hasher.update(piece)
        kept_s = _kept_in(message) or (kept_s if index < instructions else None)
        if index == instructions - 1 or index > last - _LOOKED_BACK:
            marked_s = kept_s if index < last else _kept_s(mark_of(body)) or kept_s
            found.append(Beginning(hasher.digest(), until[index], marked_s, index < instructions))
    return tuple(found)


def _instructions(messages: Sequence[dict[str, Any]]) -> int:
    """How many messages from the beginning on are instructions."""
    turns = (index for index, message in enumerate(messages) if message.get("role") not in ("system", "developer"))
    return next(turns, len(messages))


def _pieces(message: dict[str, Any]) -> Iterator[bytes]:
    """What a message says, the same for a text and for one part with this text."""
    yield f"\0{message.get('role')}\0{message.get('tool_call_id')}".encode("utf-8", "surrogatepass")
    content = message.get("content")
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else as_objects(content):
        text = part.get("text")
        if isinstance(text, str):
            yield b"\0t" + text.encode("utf-8", "surrogatepass")
        else:
            yield b"\0p" + _ends(dump(bare(part)))
    for call in as_objects(message.get("tool_calls")):
        yield b"\0c" + dump([call.get("id"), as_object(call.get("function"))])


def _ends(data: bytes) -> bytes:
    return data if len(data) <= _LONGEST_HASHED else b"%d" % len(data) + data[:_END] + data[-_END:]


def _kept_in(message: dict[str, Any]) -> float | None:
    content = message.get("content")
    marks = [mark_of(message)]
    marks += [mark_of(part) for part in as_objects(content)]
    marks += [tool_mark(call) for call in as_objects(message.get("tool_calls"))]
    return max((_kept_s(mark) or 0.0 for mark in marks), default=0.0) or None


def _kept_s(mark: dict[str, Any] | None) -> float | None:
    return None if mark is None else 3_600.0 if mark.get("ttl") == "1h" else 300.0
