"""How a delta is merged into what came before it, and which tool call of the answer it continues."""

from typing import Any

from modelpilot.wire.jsonb import JsonObject

# Values under these names identify something. A server that repeats them in every delta does not mean to append.
_IDENTITIES = frozenset({"id", "type", "role", "index", "format", "status", "created", "object", "model"})


def merge_value(old: Any, new: Any, *, append_text: bool = True) -> Any:
    """`old` continued by `new`: texts and lists append, objects merge, anything else is replaced."""
    if new is None:
        return old
    if isinstance(old, str) and isinstance(new, str) and append_text:
        return old + new
    if isinstance(old, dict) and isinstance(new, dict):
        return merge_object(old, new)
    if isinstance(old, list) and isinstance(new, list):
        return _merge_list(old, new)
    return new


def merge_object(old: JsonObject, new: JsonObject) -> JsonObject:
    """`old`, changed in place, with every field of `new` merged into it."""
    for key, value in new.items():
        if key not in old:
            old[key] = _own(value)
        else:
            old[key] = merge_value(old[key], value, append_text=key not in _IDENTITIES)
    return old


def merge_name(old: str, new: str) -> str:
    """A function's name: sent once, in pieces, or (by some servers) whole in every delta."""
    return old if new == old else old + new


def _merge_list(old: list[Any], new: list[Any]) -> list[Any]:
    # Objects with an `index` continue the entry of that index; two in one delta are two entries.
    # Looked up only where needed: a scan per delta would make long logprobs quadratic.
    known = {item["index"]: item for item in old if _is_indexed(item)} if any(map(_is_indexed, new)) else {}
    for item in new:
        entry = known.get(item["index"]) if _is_indexed(item) else None
        if entry is None:
            old.append(_own(item))
        else:
            merge_object(entry, item)
    return old


def _is_indexed(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("index"), int)


def _own(value: Any) -> Any:
    # Merging changes objects and lists in place, and a chunk belongs to whoever else reads it.
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list) else value


class CallPositions:
    """The positions of one choice's tool calls, in order of appearance; continued by the provider's `index`."""

    __slots__ = ("_by_index", "_ids")

    def __init__(self) -> None:
        self._by_index: dict[int, int] = {}  # the provider's index → position of its newest call
        self._ids: list[str] = []

    def of(self, delta: JsonObject, ordinal: int) -> int:
        """The position of the call that `delta`, number `ordinal` of its chunk, begins or continues."""
        given = delta.get("index")
        index: int = ordinal if given is None else given
        position = self._by_index.get(index)
        new_id = delta.get("id") or ""
        # A new id under a known index is a new call: some servers give every parallel call the index 0.
        if position is None or (new_id and self._ids[position] not in ("", new_id)):
            self._ids.append(new_id)
            position = self._by_index[index] = len(self._ids) - 1
        elif new_id:
            self._ids[position] = new_id
        return position
