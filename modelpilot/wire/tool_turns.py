"""Tool calls and their results in the order that every provider demands: each call with one result right behind it."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from modelpilot.wire.jsonb import JsonObject, as_objects

# Agents are interrupted, and clients delete old turns.
_NO_RESULT = "There is no result of this call."
_NO_CALL = "Result of a tool"


@dataclass(frozen=True, slots=True)
class CallIds:
    """What ids of calls look like at a provider, and how one that does not, or is taken, is replaced."""

    pattern: re.Pattern[str]
    prefix: str = "call_"
    digits: int = 24

    def of(self, given: str, earlier: int) -> str:
        """The id for `given`, which so many `earlier` calls of the conversation had. The same at every turn, so that
        the provider's cache knows the conversation again."""
        if not earlier and self.pattern.fullmatch(given):
            return given
        name = f"{given}#{earlier}".encode("utf-8", "surrogatepass")
        return self.prefix + hashlib.sha256(name).hexdigest()[: self.digits]


@dataclass(slots=True)
class _Slot:
    """A call, by its new id, and the result that was found for it."""

    call_id: str
    result: JsonObject | None = None


@dataclass(slots=True)
class _Turn:
    message: JsonObject
    slots: list[_Slot] = field(default_factory=list)


def in_pairs(messages: list[JsonObject], ids: CallIds, *, media_in_results: bool) -> list[JsonObject]:
    """The messages with every call followed by its result.

    A call that has none gets one that says so, and a result that no call waits for becomes text of the user. Unless
    `media_in_results`, images in results follow them in a message of the user.
    """
    turns: list[_Turn] = []
    waiting: dict[str, list[_Slot]] = {}
    used: Counter[str] = Counter()
    for message in messages:
        if calls := message.get("tool_calls"):
            turns.append(_called(message, as_objects(calls), ids, used, waiting))
        elif message.get("role") != "tool":
            turns.append(_Turn(message))
        elif slots := waiting.get(str(message.get("tool_call_id") or "")):
            slots.pop(0).result = message
        else:
            turns.append(_Turn({"role": "user", "content": _as_text(message)}))
    return list(_written(turns, media_in_results))


def joined(first: JsonObject, second: JsonObject) -> JsonObject:
    """Two messages of the user as one."""
    one, other = first.get("content"), second.get("content")
    if isinstance(one, str) and isinstance(other, str):
        return {**first, **second, "content": f"{one}\n\n{other}"}
    return {**first, **second, "content": [*_parts(one), *_parts(other)]}


def _called(
    message: JsonObject, calls: list[JsonObject], ids: CallIds, used: Counter[str], waiting: dict[str, list[_Slot]]
) -> _Turn:
    slots: list[_Slot] = []
    named: list[JsonObject] = []
    own: dict[str, list[_Slot]] = {}
    for call in calls:
        given = str(call.get("id") or "")
        slot = _Slot(ids.of(given, used[given]))
        used[given] += 1
        slots.append(slot)
        own.setdefault(given, []).append(slot)
        named.append({**call, "id": slot.call_id})
    # Who waits under an id is its newest call: results of an earlier one that never came are not expected any more.
    waiting |= own
    return _Turn({**message, "tool_calls": named}, slots)


def _written(turns: list[_Turn], media_in_results: bool) -> Iterator[JsonObject]:
    media: list[JsonObject] = []
    for turn in turns:
        if media and turn.message.get("role") == "user":
            yield joined({"role": "user", "content": media}, turn.message)
        elif media:
            yield {"role": "user", "content": media}
            yield turn.message
        else:
            yield turn.message
        media = []
        for slot in turn.slots:
            result = slot.result or {"role": "tool", "content": _NO_RESULT}
            content = result.get("content")
            if not media_in_results:
                content, more = _text_and_media(content)
                media += more
            yield {**result, "tool_call_id": slot.call_id, "content": "" if content is None else content}
    if media:
        yield {"role": "user", "content": media}


def _text_and_media(content: Any) -> tuple[Any, list[JsonObject]]:
    if not isinstance(content, list):
        return content, []
    parts = as_objects(content)
    texts = [part for part in parts if part.get("type") == "text"]
    media = [part for part in parts if part.get("type") != "text"]
    if all(part.keys() == {"type", "text"} for part in texts):
        return "\n".join(str(part["text"]) for part in texts), media
    return texts, media


def _parts(content: Any) -> list[JsonObject]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else as_objects(content)


def _as_text(message: JsonObject) -> Any:
    name = message.get("name") or message.get("tool_call_id")
    title = f"{_NO_CALL} ({name}):" if name else f"{_NO_CALL}:"
    content = message.get("content")
    return [{"type": "text", "text": title}, *_parts(content)] if isinstance(content, list) else f"{title}\n{content}"
