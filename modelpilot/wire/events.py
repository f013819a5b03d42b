"""An incremental, bounded parser of server-sent events (WHATWG HTML, section 9.2.6).

Bytes go in as they arrive, whole events come out. The work is per line, never per byte. `event_object` reads the JSON
in an event, for every wire format.
"""

from typing import NamedTuple

from modelpilot.wire.failures import classify_error_event, malformed
from modelpilot.wire.jsonb import JsonObject, load

# As much as a whole answer may have: a picture comes in one event.
MAX_EVENT_BYTES = 32 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """One event is larger than the parser may buffer."""


class ServerSentEvent(NamedTuple):
    """One event: its name (empty: `message`) and its data lines joined by newlines."""

    name: str
    data: bytes


class SseParser:
    """Turns bytes, split anywhere, into events. Comments and the fields `id` and `retry` are skipped."""

    __slots__ = (
        "_at_start",
        "_data",
        "_event_bytes",
        "_max_event_bytes",
        "_name",
        "_skip_newline",
        "_tail",
        "between",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._tail: list[bytes] = []  # pieces of a line whose end has not arrived
        self._data: list[bytes] = []
        self._name = ""
        self._event_bytes = 0
        self._at_start = True
        self._skip_newline = False
        self.between = False  # nothing of an event is pending, so that whole ones need no line by line reading

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that `piece` completes. Raises EventTooLarge."""
        if b"\r" in piece:
            return self._feed_lines(piece)
        events: list[ServerSentEvent] = []
        if not self.between:
            head, blank, piece = piece.partition(b"\n\n")
            events += self._feed_lines(head + blank)
        blocks = piece.split(b"\n\n")
        unfinished = blocks.pop()
        for block in blocks:
            # Nearly every event is one line of data.
            if block.startswith(b"data: ") and b"\n" not in block and len(block) <= self._max_event_bytes:
                events.append(ServerSentEvent("", block[6:]))
            else:
                events += self._feed_lines(block + b"\n\n")
        return events + self._feed_lines(unfinished) if unfinished else events

    def _feed_lines(self, piece: bytes) -> list[ServerSentEvent]:
        if self._skip_newline and piece:
            self._skip_newline = False
            piece = piece[1:] if piece.startswith(b"\n") else piece
        lines = piece.splitlines(keepends=True)
        if not lines:
            return []
        unfinished = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        # A CR that ends a piece ends its line at once; the LF that may follow belongs to it.
        self._skip_newline = piece.endswith(b"\r")
        events = self._take_lines(lines)
        if unfinished:
            self._count(len(unfinished))
            self._tail.append(unfinished)
        self.between = not (self._tail or self._event_bytes or self._name or self._skip_newline or self._at_start)
        return events

    def finish(self) -> ServerSentEvent | None:
        """The event that the end of the stream cut off before its blank line, if there is one.

        The standard drops it, but some servers send no blank line behind their last event.
        """
        if self._tail:
            self._take_lines([b""])
        return self._dispatch()

    def _take_lines(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        if lines and self._tail:
            self._event_bytes -= sum(map(len, self._tail))  # counted again with its whole line
            lines[0] = b"".join((*self._tail, lines[0]))
            self._tail.clear()
        for raw in lines:
            line = raw.rstrip(b"\r\n")
            if self._at_start:
                self._at_start = False
                line = line.removeprefix(_BOM)
            if line:
                self._take_field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _take_field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._count(len(line))
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")

    def _count(self, byte_count: int) -> None:
        self._event_bytes += byte_count
        if self._event_bytes > self._max_event_bytes:
            raise EventTooLarge(f"an event is larger than {self._max_event_bytes} bytes")

    def _dispatch(self) -> ServerSentEvent | None:
        event = ServerSentEvent(self._name, b"\n".join(self._data)) if self._data else None
        self._data.clear()
        self._name = ""
        self._event_bytes = 0
        return event


def event_object(event: ServerSentEvent) -> JsonObject:
    """The object in an event's data. Raises ProviderError: that of an `error` event, or malformed_response."""
    if event.name == "error":
        raise classify_error_event(event.data)
    try:
        value = load(event.data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise malformed("the provider sent a chunk that is no JSON object")
    return value
