"""From the bytes of an answer to checked chunks, whatever the provider made of the request for a stream.

The content decides and not the Content-Type, which compatible servers often get wrong. An answer ends at `[DONE]`, at
the end that its wire format has, or with the connection. A finish reason on the way is remembered, not believed: some
servers send it early, or with every chunk.
"""

from contextlib import suppress
from typing import Any, Protocol

from modelpilot.requests.outcome import ProviderError
from modelpilot.wire.assembler import has_answer, has_output
from modelpilot.wire.chunks import Chunk, Likeness
from modelpilot.wire.events import EventTooLarge, ServerSentEvent, SseParser, event_object
from modelpilot.wire.failures import classify_embedded, empty, filtered, malformed, stream_cut, too_large
from modelpilot.wire.jsonb import JsonObject, load
from modelpilot.wire.tail import Tail

MAX_ANSWER_BYTES = 32 * 1024 * 1024
# What the object of a piece of text takes beside its characters, while the answer is added up.
_PIECE_BYTES = 64
_MOST_UNLIKE = 16
# Finish reasons of an answer that used up its tokens, and of one that its server gave up (names of DeepSeek, Mistral,
# OpenRouter and vLLM): what came of it is a part.
_LIMITS = frozenset({"length", "model_length", "max_tokens"})
_GIVEN_UP = frozenset({"error", "abort", "insufficient_system_resource"})
_BLANKS = b" \t\r\n\xef\xbb\xbf"


class StreamDecoder(Protocol):
    """Translates the events of one answer into OpenAI chunks; one object per answer."""

    native: bool
    """Whether the events are OpenAI's chunks already, so that a client may get their bytes."""
    may_be_empty: bool
    """Whether the request is one that a model may rightly answer with nothing."""

    @property
    def complete(self) -> bool:
        """Whether every choice has a finish reason: the end of the stream is then no truncation."""
        ...

    @property
    def counted(self) -> bool:
        """Whether token counts were seen."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the wire format's own end was seen, or `[DONE]`."""
        ...

    def take(self, value: JsonObject) -> list[JsonObject]:
        """The chunks in one event's object. Raises ProviderError."""
        ...

    def done(self) -> None:
        """`[DONE]` was seen."""
        ...

    def closing(self) -> list[JsonObject]:
        """The chunks that only the end of a complete answer brings, such as finish reasons and final counts."""
        ...

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of an answer that came as one JSON body. Raises ProviderError."""
        ...


class AnswerReader:
    """Reads one answer: server-sent events, or one JSON body, whichever of the two was asked for.

    An answer of more than `max_bytes`, which somebody has to keep until it is whole, is a failure. `feed`, `finish` and
    `break_off` raise a failure, or leave it in `failure` where chunks came before it, which are paid for.
    """

    def __init__(self, decoder: StreamDecoder, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._decoder = decoder
        self._events = SseParser()
        self._whole: list[bytes] = []
        self._bytes, self._max_bytes = 0, max_bytes
        self._alike: Likeness | None = None
        self._unlike = 0
        self._mode = "unknown"  # → "events" or "whole", by the first byte that is not blank
        self._tail = Tail()
        self._answered = False  # text, a call, a picture ... was seen; reasoning alone is no answer
        self._doubted = False  # output came behind the finish reasons, so that they say nothing of the end
        self._reasons: set[str] = set()
        self._spoke = False  # any event but pings
        self.started = False
        """Whether output of the model was seen."""
        self.progressed = False
        """Whether the last piece brought the answer on: by output, finish reasons, or an event of a provider's own
        tools. Comments, pings, roles and empty deltas say that a server runs, and not that its model works."""
        self.ended = False
        """Whether the answer is whole."""
        self.failure: ProviderError | None = None
        """Why the answer is none, where that is known."""

    @property
    def begun(self) -> bool:
        """Whether the answer has begun: its first output, or the first byte of a body that comes as a whole."""
        return self.started or self._mode == "whole"

    @property
    def complete(self) -> bool:
        """Whether every choice has a finish reason, although more may follow."""
        return self._decoder.complete

    @property
    def settled(self) -> bool:
        """Whether an answer of which nothing more comes may be taken for whole, although its end was not seen."""
        return (
            self._decoder.complete and not self._doubted and (self._answered or not self._reasons.isdisjoint(_LIMITS))
        )

    @property
    def counted(self) -> bool:
        """Whether token counts were seen, behind which nothing but the end is to be expected."""
        return self._decoder.counted

    def feed(self, piece: bytes) -> list[Chunk]:
        """The chunks that `piece` completes. Raises ProviderError."""
        if self._alike is not None and self._events.between and (text := self._alike.text_in_event(piece)):
            self._count(len(text) + _PIECE_BYTES)
            self.progressed = self.started = True
            return [Chunk(None, piece[6:-2], text)]
        if self.failure is not None:
            raise self.failure
        if self.ended:
            return []
        if self._mode == "unknown":
            self._choose_mode(piece)
        if self._mode == "whole":
            self._whole.append(piece)
            self._count(len(piece))
            self.progressed = True
            return []
        try:
            events = self._events.feed(piece)
        except EventTooLarge:
            raise too_large(self._max_bytes) from None
        return self._decode(events)

    def finish(self) -> list[Chunk]:
        """The chunks that the end of the body completes. Raises ProviderError where the answer is not whole."""
        if self.failure is not None:
            raise self.failure
        if self.ended:
            return []
        return self._end(self._whole_chunks() if self._mode == "whole" else self._last_chunks())

    def break_off(self, error: ProviderError) -> list[Chunk]:
        """Nothing more comes, because of silence or a reset. Raises `error` unless the answer is `settled`."""
        return self._end([]) if self.settled else self._failed(error, [])

    def _end(self, chunks: list[Chunk]) -> list[Chunk]:
        """The answer is over: the chunks, and all that was kept back."""
        if self.ended:
            return chunks
        if (error := self.failure or self._why_not()) is not None:
            return self._failed(error, chunks)
        self.ended = True
        return chunks + self._tail.end()

    def _failed(self, error: ProviderError, chunks: list[Chunk]) -> list[Chunk]:
        chunks = chunks + self._tail.overtaken()
        self.failure = error
        if not chunks:
            raise error
        return chunks

    def _why_not(self) -> ProviderError | None:
        """Why an answer that ends here is none."""
        if not self._decoder.complete:
            nothing = not self._spoke and self._mode != "whole"
            return malformed("the provider's answer holds nothing") if nothing else stream_cut()
        for data in self._decoder.closing():
            chunk = Chunk(data)
            self._see(chunk)
            self._tail.keep(chunk)
        if given_up := self._reasons & _GIVEN_UP:
            return stream_cut(f"the provider gave the answer up: {min(given_up)}")
        if self._answered:
            return None
        if "content_filter" in self._reasons and not self.started:
            return filtered("the provider's content filter stopped the answer before its first token")
        # Reasoning may use up all the tokens that the client allows; then the reason says all there is to say.
        truthful = self._decoder.may_be_empty or not self._reasons.isdisjoint(_LIMITS | {"content_filter"})
        return None if truthful else empty()

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
        self.progressed = False
        try:
            for event in events:
                name, data = event
                if self._alike is not None and not name and (text := self._alike.text_in(data)):
                    self._count(len(text) + _PIECE_BYTES)
                    self.progressed = True
                    chunks.append(Chunk(None, data, text))
                elif name != "ping":
                    self._spoke = True
                    chunks += self._decode_one(event)
                    if self._decoder.ended:
                        return self._end(chunks)
        except ProviderError as error:
            return self._failed(error, chunks)
        return chunks

    def _decode_one(self, event: ServerSentEvent) -> list[Chunk]:
        complete = self._decoder.complete
        try:
            chunks = self._decoded(event)
        except ProviderError as error:
            if error.error_type == "malformed_response" and self.settled:
                return []  # rubbish behind an answer that is whole
            raise
        ready: list[Chunk] = []
        for chunk in chunks:
            output = self._see(chunk)
            self.progressed = self.progressed or output
            self._doubted = self._doubted or (complete and output)
            ready += self._tail.take(chunk, output=output) if self._decoder.complete else (chunk,)
        self.progressed = self.progressed or self._decoder.complete is not complete
        return ready

    def _see(self, chunk: Chunk) -> bool:
        """Note what the chunk holds; whether that is output."""
        if chunk.text is not None:
            self.started = self._answered = True
            return True
        output = False
        for choice in chunk.data["choices"]:
            if has_output(delta := choice.get("delta")):
                output = self.started = True
                self._answered = self._answered or has_answer(delta)
            if reason := choice.get("finish_reason"):
                self._reasons.add(reason)
        return output

    def _decoded(self, event: ServerSentEvent) -> list[Chunk]:
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
        self.progressed = self.progressed or not (self._decoder.native or _is_sign_of_life(value))
        return [chunk if taken is value else Chunk(taken) for taken in self._decoder.take(value)]

    def _likeness(self, known: Likeness | None, raw: bytes, text: str) -> Likeness | None:
        """What the next chunks are compared with. Some servers write something new into each; then it is given up."""
        if known is not None and known.surrounds(raw):
            return known
        self._unlike += 1
        return Likeness(raw, text) if self._unlike <= _MOST_UNLIKE else None

    def _last_chunks(self) -> list[Chunk]:
        """What stands behind the last blank line, which some servers leave out."""
        last, chunks = self._events.finish(), []
        with suppress(ProviderError):  # noted in `failure`
            chunks = [] if last is None else self._decode([last])
        if self.failure is not None and self.failure.error_type == "malformed_response" and self.started:
            self.failure = stream_cut()  # an event cut off in its middle is no malformed one
        return chunks

    def _whole_chunks(self) -> list[Chunk]:
        try:
            body = load(b"".join(self._whole).strip(_BLANKS))
        except (ValueError, RecursionError):
            raise malformed("the provider's answer is no JSON") from None
        chunks = [Chunk(chunk) for chunk in self._decoder.decode_whole(body)]
        for chunk in chunks:
            self._see(chunk)
        return chunks


def _is_sign_of_life(event: JsonObject) -> bool:
    """Whether an event of a format other than OpenAI's is a ping or an empty delta. Any other one tells of work, also
    where no chunk says so: searches and code that the provider runs."""
    if event.get("type") == "ping":
        return True
    delta = event.get("delta")
    return isinstance(delta, dict) and not any(value for key, value in delta.items() if key != "type")
