"""Answers under our own names: an id by which their request is found again, whichever provider answered, and the
model's id in the catalogue.
"""

import re
from typing import Any

from modelpilot.wire.chunks import Chunk
from modelpilot.wire.jsonb import JsonObject, dump, parse_object

CHAT, TEXT, MESSAGE, RESPONSE = "chatcmpl-", "cmpl-", "msg_", "resp_"  # what ids begin with
_CHOICES = b'"choices"'
_NAMES = {name: re.compile(rb'"%s"\s*:\s*(?:null|"(?:[^"\\]|\\.)*")' % name.encode()) for name in ("id", "model")}


def request_id_of(answer_id: str) -> str | None:
    """The request behind an answer's id; None where it is not of ours."""
    prefix = next((each for each in (CHAT, TEXT, MESSAGE, RESPONSE) if answer_id.startswith(each)), None)
    return None if prefix is None else answer_id.removeprefix(prefix)


def names(prefix: str, request_id: str, model: str) -> JsonObject:
    """The fields by which an answer is known, in the formats whose ids begin with a prefix."""
    return {"id": prefix + request_id, "model": model}


class Renamed:
    """The chunks of one stream in OpenAI's format under our own id and model.

    What stands before the choices is nearly always the same in all chunks of a stream: then its bytes are exchanged,
    and nothing is decoded or written anew.
    """

    __slots__ = ("_after", "_before", "names")

    def __init__(self, answer_id: str, model: str) -> None:
        self.names = {"id": answer_id, "model": model}
        self._before, self._after = b"\n", b""  # like no chunk

    def json_of(self, chunk: Chunk) -> bytes:
        """The chunk as JSON; but for the two names, all that came is left as it came."""
        raw = chunk.raw
        if raw is None or not (raw.startswith(self._before) or self._learn(raw, chunk)):
            return dump({**chunk.data, **self.names})
        return self._after + raw[len(self._before) :]

    def json_with(self, chunk: Chunk, **fields: Any) -> bytes:
        """The same with further fields."""
        if chunk.raw is None or not fields.keys().isdisjoint(chunk.data):
            return dump({**chunk.data, **self.names, **fields})
        return self.json_of(chunk).rstrip()[:-1] + b"," + dump(fields)[1:]

    def _learn(self, raw: bytes, chunk: Chunk) -> bool:
        """Take over what stands before the choices of this chunk; false where that is not so simple."""
        place = raw.find(_CHOICES)
        before = after = raw[: max(place, 0)]
        for name, value in self.names.items():
            after = _named(after, name, value, known=name in chunk.data)
        if place < 0 or _object(after) != {**_object(before), **self.names}:
            return False
        self._before, self._after = before, after
        return True


def _named(head: bytes, name: str, value: str, *, known: bool) -> bytes:
    ours = dump({name: value})[1:-1]
    if known:
        return _NAMES[name].sub(lambda _: ours, head, count=1)
    return b"{" + ours + b"," + head.lstrip()[1:]


def _object(head: bytes) -> JsonObject:
    """The fields in the beginning of an object; none where it ends within one of them."""
    try:
        return parse_object(head.rstrip().removesuffix(b",") + b"}")
    except ValueError:
        return {}
