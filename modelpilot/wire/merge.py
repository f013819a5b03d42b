"""How a delta is merged into what came before it, and which tool call of the answer it continues."""

from typing import Any

from modelpilot.wire.jsonb import JsonObject, parse_object

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
    return _own(new)


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


class CallNumbers:
    """Numbers the tool calls of one streamed choice as the SDKs of clients need it: each call has an index of its own,
    ascending from 0, and its id and name once. They add up by the index alone, and append what is repeated. A call that
    comes without an id gets one, made of `names`, since its result could not name it otherwise."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_names")

    def __init__(self, names: str) -> None:
        self._names = names
        self._calls: list[_Call] = []
        self._by_index: dict[int, int] = {}  # the provider's index → position of its newest call
        self._by_id: dict[tuple[int, str], int] = {}

    def numbered(self, deltas: list[JsonObject]) -> list[JsonObject]:
        """The deltas of one chunk; the very same list where nothing is to be changed."""
        numbered, same = [], True
        for ordinal, delta in enumerate(deltas):
            new = self._numbered(delta, ordinal)
            same = same and new is delta
            numbered.append(new)
        return deltas if same else [delta for delta in numbered if delta is not None]

    def _numbered(self, delta: JsonObject, ordinal: int) -> JsonObject | None:
        """The delta of one call; None for one that repeats a whole call."""
        given: Any = delta.get("index")
        function = delta.get("function") or {}
        goes_on = given is not None and not delta.get("id") and not function.get("name")
        if goes_on and self._by_index.get(given) == given:  # most pieces are of this sort
            self._calls[given].take("", "", function.get("arguments") or "")
            return delta
        call_id = delta["id"] if isinstance(delta.get("id"), str) else ""
        name, arguments = function.get("name") or "", function.get("arguments") or ""
        position = self._position(ordinal if given is None else given, call_id, name, arguments)
        call = self._calls[position]
        if call.pieces and (call_id or name) and call.is_whole(arguments):
            return None
        changes: JsonObject = {} if given == position else {"index": position}
        if not call.begun and not call_id:
            changes |= {"id": f"{self._names}_{position}", "type": "function"}
        elif call.begun and call_id:
            changes["id"] = None
        if name and name == call.name:
            changes["function"] = {key: value for key, value in function.items() if key != "name"}
        call.take(call_id, name, arguments)
        if not changes:
            return delta
        return {key: value for key, value in {**delta, **changes}.items() if key != "id" or value}

    def _position(self, index: int, call_id: str, name: str, arguments: str) -> int:
        position = (
            self._by_id.get((index, call_id), self._by_index.get(index)) if call_id else self._by_index.get(index)
        )
        if position is None or self._calls[position].is_another(call_id, name, arguments):
            self._calls.append(_Call())
            position = len(self._calls) - 1
        self._by_index[index] = position
        if call_id:
            self._by_id[index, call_id] = position
        return position


class _Call:
    """One call: what has come of it."""

    __slots__ = ("begun", "id", "name", "pieces")

    def __init__(self) -> None:
        self.begun = False
        self.id = self.name = ""
        self.pieces: list[str] = []

    def take(self, call_id: str, name: str, arguments: str) -> None:
        self.begun = True
        self.id, self.name = call_id or self.id, name or self.name
        if arguments:
            self.pieces.append(arguments)

    def is_another(self, call_id: str, name: str, arguments: str) -> bool:
        """Whether a delta under the same index begins another call: by its id, or, without one, by its name behind
        arguments that are whole."""
        if call_id and self.id:
            return call_id != self.id
        if not name or call_id or not self.pieces or not (arguments or name != self.name):
            return False
        known = "".join(self.pieces)
        return is_object(known) and (name, arguments) != (self.name, known)

    def is_whole(self, arguments: str) -> bool:
        """Whether `arguments` are all that came, and an object: the call is sent once more."""
        return bool(arguments) and arguments == "".join(self.pieces) and is_object(arguments)


def is_object(text: str) -> bool:
    """Whether `text` is a whole JSON object."""
    if not text.startswith("{") or not text.rstrip().endswith("}"):
        return False
    try:
        parse_object(text)
    except ValueError:
        return False
    return True
