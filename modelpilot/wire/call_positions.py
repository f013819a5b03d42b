"""Which tool call of an answer a delta continues."""

from modelpilot.wire.jsonb import JsonObject


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
