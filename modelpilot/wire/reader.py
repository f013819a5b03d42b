"""From the bytes of an answer to checked chunks, whatever the provider made of the request for a stream.

The content decides and not the Content-Type, which compatible servers often get wrong.
"""

from typing import Any, Protocol

from modelpilot.requests.outcome import ProviderError
from modelpilot.wire.assembler import has_output
from modelpilot.wire.chunks import Chunk, Likeness
from modelpilot.wire.events import EventTooLarge, ServerSentEvent, SseParser, event_object
from modelpilot.wire.failures import classify_embedded, filtered, malformed, stream_cut, too_large
from modelpilot.wire.jsonb import JsonObject, load

MAX_ANSWER_BYTES = 32 * 1024 * 1024
# What the object of a piece of text takes beside its characters, while the answer is added up.
_PIECE_BYTES = 64
_MOST_UNLIKE = 16
_BLANKS = b" \t\r\n\xef\xbb\xbf"


class StreamDecoder(Protocol):
    """Translates the events of one answer into OpenAI chunks; one object per answer."""

    native: bool
    """Whether the events are OpenAI's chunks already, so that a client may get their bytes."""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole: the end of the stream is then no truncation."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing more needs to be read."""
        ...

    def take(self, value: JsonObject) -> list[JsonObject]:
        """The chunks in one event's object. Raises ProviderError."""
        ...

    def done(self) -> None:
        """`[DONE]` was seen."""
        ...

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of an answer that came as one JSON body. Raises ProviderError."""
        ...


class AnswerReader:
    """Reads one answer: server-sent events, or one JSON body, whichever of the two was asked for.

    An answer of more than `max_bytes`, which somebody has to keep until it is whole, is a failure.
    """

    def __init__(self, decoder: StreamDecoder, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._decoder = decoder
        self._events = SseParser()
        self._whole: list[bytes] = []
        self._bytes, self._max_bytes = 0, max_bytes
        self._alike: Likeness | None = None
        self._unlike = 0
        self._mode = "unknown"  # → "events" or "whole", by the first byte that is not blank
        self._filtered = False
        self.started = False
        """Whether output of the model was seen."""
        self.progressed = False
        """Whether the last piece held more than comments and pings."""
        self.complete = False
        """Whether the answer is whole, although trailing events may follow."""
        self.ended = False
        """Whether nothing more needs to be read."""

    @property
    def begun(self) -> bool:
        """Whether the answer has begun: its first output, or the first byte of a body that comes as a whole."""
        return self.started or self._mode == "whole"

    def feed(self, piece: bytes) -> list[Chunk]:
        """The chunks that `piece` completes. Raises ProviderError."""
        if self._alike is not None and self._events.between and (text := self._alike.text_in_event(piece)):
            self._count(len(text) + _PIECE_BYTES)
            self.progressed = self.started = True
            return [Chunk(None, piece[6:-2], text)]
        if self._mode == "unknown":
            self._choose_mode(piece)
        if self._mode == "whole":
            self._whole.append(piece)
            self._count(len(piece))
            self.progressed = True
            return []
        try:
            events = self._events.feed(piece)
        except EventTooLarge as error:
            raise malformed(f"the provider sent {error}") from None
        return self._decode(events)

    def finish(self) -> list[Chunk]:
        """The chunks that the end of the body completes. Raises ProviderError where the answer is not whole."""
        chunks = self._finish_whole() if self._mode == "whole" else self._finish_events()
        if not self.complete:
            raise self.truncation()
        return chunks

    def truncation(self) -> ProviderError:
        """What an end at this point means."""
        if self.started or self.progressed:
            return stream_cut()
        return malformed("the provider's answer holds nothing")

    def _choose_mode(self, piece: bytes) -> None:
        first = piece.lstrip(_BLANKS)[:1]
        if first == b"<":
            raise malformed("the provider answered with a web page")
        if first:
            self._mode = "whole" if first in b"{[" else "events"

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise too_large(self._max_bytes)

    def _decode(self, events: list[ServerSentEvent]) -> list[Chunk]:
        chunks: list[Chunk] = []
        others: list[Chunk] = []  # all but pieces of text
        self.progressed = False
        for event in events:
            name, data = event
            if self._alike is not None and not name and (text := self._alike.text_in(data)):
                self._count(len(text) + _PIECE_BYTES)
                self.progressed = True
                chunks.append(Chunk(None, data, text))
            elif name != "ping" and not self.ended:
                self.progressed = True
                try:
                    decoded = self._decode_one(event)
                except ProviderError:
                    if not self.complete:
                        raise
                    continue  # rubbish behind an answer that is whole
                finally:
                    self._note()
                chunks += decoded
                others += decoded
        self.started = self.started or len(chunks) > len(others)
        self._check(others)
        return chunks

    def _note(self) -> None:
        self.complete, self.ended = self._decoder.complete, self._decoder.ended

    def _decode_one(self, event: ServerSentEvent) -> list[Chunk]:
        alike, self._alike = self._alike, None
        data = event.data
        if data.strip() == b"[DONE]":
            self._decoder.done()
            return []
        value = event_object(event)
        chunk = Chunk(value, data if self._decoder.native and b"\n" not in data else None)
        if chunk.raw is not None and chunk.text is not None:
            self._count(len(chunk.text) + _PIECE_BYTES)
            self._alike = self._likeness(alike, chunk.raw, chunk.text)
            return [chunk]
        if (error := classify_embedded(value)) is not None:
            raise error
        self._count(len(data))
        return [chunk if taken is value else Chunk(taken) for taken in self._decoder.take(value)]

    def _likeness(self, known: Likeness | None, raw: bytes, text: str) -> Likeness | None:
        """What the next chunks are compared with. Some servers write something new into each; then it is given up."""
        if known is not None and known.surrounds(raw):
            return known
        self._unlike += 1
        return Likeness(raw, text) if self._unlike <= _MOST_UNLIKE else None

    def _finish_events(self) -> list[Chunk]:
        last = self._events.finish()
        if last is None or self.ended:
            return []
        try:
            return self._decode([last])
        except ProviderError as error:
            # An event cut off in its middle is no malformed one.
            cut = error.error_type == "malformed_response" and self.started
            raise stream_cut() if cut else error from None

    def _finish_whole(self) -> list[Chunk]:
        try:
            body = load(b"".join(self._whole).strip(_BLANKS))
        except (ValueError, RecursionError):
            raise malformed("the provider's answer is no JSON") from None
        chunks = [Chunk(chunk) for chunk in self._decoder.decode_whole(body)]
        self._note()
        self._check(chunks)
        return chunks

    def _check(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            for choice in chunk.data["choices"]:
                self.started = self.started or has_output(choice.get("delta"))
                self._filtered = self._filtered or choice.get("finish_reason") == "content_filter"
        if self._filtered and self.complete and not self.started:
            raise filtered("the provider's content filter stopped the answer before its first token")
