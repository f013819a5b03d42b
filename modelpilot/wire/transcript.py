"""What a client has of a streamed answer, and which provider calls wrote it."""

from modelpilot.outcome import Segment
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.resume import characters


class Transcript:
    """Adds up the chunks that were given to the client."""

    __slots__ = ("_counted", "_segments", "_sent", "_writer", "started", "whole")

    def __init__(self) -> None:
        self._sent = ChunkAssembler()
        self._segments: list[Segment] = []
        self._writer: tuple[int, str] | None = None
        self._counted = 0
        self.started = False
        """Whether the client has, or will get, a part of the answer."""
        self.whole = False
        """Whether the client has, or will get, a complete answer."""

    def begin(self, seq: int, model: str) -> None:
        """From now on, call `seq` of `model` writes."""
        self._segments = list(self._closed())
        self._writer = (seq, model)
        self._counted = self._length()

    def add(self, chunk: JsonObject) -> None:
        """The client gets this chunk."""
        self.started = True
        self._sent.add(chunk)

    def restart(self) -> None:
        """The client was told to forget what it has."""
        self._sent, self._counted = ChunkAssembler(), 0

    def completion(self) -> JsonObject:
        """What the client has, as one `chat.completion`."""
        return self._sent.result()

    def segments(self) -> tuple[Segment, ...]:
        """The calls that wrote a part of it, in order; none where a single one wrote all."""
        segments = self._closed()
        return segments if len(segments) > 1 else ()

    def _closed(self) -> tuple[Segment, ...]:
        length = self._length() - self._counted
        if self._writer is None or length <= 0:
            return tuple(self._segments)
        return (*self._segments, Segment(*self._writer, length))

    def _length(self) -> int:
        return characters(self._sent.result()) if self.started else 0
