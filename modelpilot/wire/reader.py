"""From the bytes of an answer to checked chunks, whatever the provider made of the request for a stream.

The content decides and not the Content-Type, which compatible servers often get wrong.
"""

from typing import Any, Protocol

import orjson

from modelpilot.requests.outcome import ProviderError
from modelpilot.wire.assembler import has_output
from modelpilot.wire.events import EventTooLarge, ServerSentEvent, SseParser
from modelpilot.wire.failures import filtered, malformed, stream_cut
from modelpilot.wire.jsonb import JsonObject

MAX_WHOLE_ANSWER_BYTES = 32 * 1024 * 1024
_BLANKS = b" \t\r\n\xef\xbb\xbf"


class StreamDecoder(Protocol):
    """Translates the events of one answer into OpenAI chunks; one object per answer."""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole: the end of the stream is then no truncation."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing more needs to be read."""
        ...

    def decode(self, event: ServerSentEvent) -> list[JsonObject]:
        """The chunks in one event. Raises ProviderError."""
        ...

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of an answer that came as one JSON body. Raises ProviderError."""
        ...


class AnswerReader:
    """Reads one answer: server-sent events, or one JSON body where the provider ignored the wish for a stream."""

    def __init__(self, decoder: StreamDecoder) -> None:
        self._decoder = decoder
        self._events = SseParser()
        self._whole: list[bytes] = []
        self._whole_bytes = 0
        self._mode = "unknown"  # → "events" or "whole", by the first byte that is not blank
        self._filtered = False
        self.started = False
        """Whether output of the model was seen."""
        self.progressed = False
        """Whether the last piece held more than comments and pings."""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole, although trailing events may follow."""
        return self._decoder.complete

    @property
    def ended(self) -> bool:
        """Whether nothing more needs to be read."""
        return self._decoder.ended

    @property
    def begun(self) -> bool:
        """Whether the answer has begun: its first output, or the first byte of a body that comes as a whole."""
        return self.started or self._mode == "whole"

    def feed(self, piece: bytes) -> list[JsonObject]:
        """The chunks that `piece` completes. Raises ProviderError."""
        if self._mode == "unknown":
            self._choose_mode(piece)
        if self._mode == "whole":
            return self._keep(piece)
        try:
            events = self._events.feed(piece)
        except EventTooLarge as error:
            raise malformed(f"the provider sent {error}") from None
        return self._decode(events)

    def finish(self) -> list[JsonObject]:
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

    def _keep(self, piece: bytes) -> list[JsonObject]:
        self._whole.append(piece)
        self._whole_bytes += len(piece)
        self.progressed = True
        if self._whole_bytes > MAX_WHOLE_ANSWER_BYTES:
            raise malformed(f"the provider's answer is larger than {MAX_WHOLE_ANSWER_BYTES} bytes")
        return []

    def _decode(self, events: list[ServerSentEvent]) -> list[JsonObject]:
        chunks: list[JsonObject] = []
        self.progressed = False
        for event in events:
            if event.name != "ping" and not self.ended:
                self.progressed = True
                chunks += self._decode_one(event)
        return self._checked(chunks)

    def _decode_one(self, event: ServerSentEvent) -> list[JsonObject]:
        try:
            return self._decoder.decode(event)
        except ProviderError:
            if not self.complete:
                raise
            return []  # rubbish behind an answer that is whole

    def _finish_events(self) -> list[JsonObject]:
        last = self._events.finish()
        if last is None or self.ended:
            return []
        try:
            return self._decode([last])
        except ProviderError as error:
            # An event cut off in its middle is no malformed one.
            cut = error.error_type == "malformed_response" and self.started
            raise stream_cut() if cut else error from None

    def _finish_whole(self) -> list[JsonObject]:
        try:
            body = orjson.loads(b"".join(self._whole).strip(_BLANKS))
        except ValueError:
            raise malformed("the provider's answer is no JSON") from None
        return self._checked(self._decoder.decode_whole(body))

    def _checked(self, chunks: list[JsonObject]) -> list[JsonObject]:
        for chunk in chunks:
            for choice in chunk["choices"]:
                self.started = self.started or has_output(choice.get("delta"))
                self._filtered = self._filtered or choice.get("finish_reason") == "content_filter"
        if self._filtered and self.complete and not self.started:
            raise filtered("the provider's content filter stopped the answer before its first token")
        return chunks
