"""How a streamed answer reaches its client: nothing leaves before there is content, and a repeated call may only
continue what the client has.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from activities.requests.sink import ChunkSink
from modelpilot.errors import StreamDiverged
from modelpilot.requests.outcome import Outcome, ProviderError, Remedy
from modelpilot.requests.route_request import CallPlan
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import Chunk, as_chunks
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.resume import Diverged, Resume, is_comparable

_MESSAGE = "the answer broke off, and the repeated call answered differently"


class Delivery:
    """Passes the chunks of one provider call on to the client. `assembler` has added up each before it comes here."""

    def __init__(self, sink: ChunkSink, plan: CallPlan, seq: int, model: str, assembler: ChunkAssembler) -> None:
        self._sink, self._plan, self._model = sink, plan, model
        self._assembler = assembler
        self._held: list[Chunk] = []
        self._flows = False  # the client has, or will get, all that the call has said
        self._resume = Resume(sink.transcript.completion()) if sink.transcript.started else None
        sink.transcript.begin(seq, model)

    async def take(self, chunks: list[Chunk]) -> None:
        """Pass chunks on. Raises ProviderError `stream_diverged` where they do not continue what the client has."""
        if self._sink.closed:
            return
        if self._resume is not None:
            await self._verified(self._resume, chunks)
        elif self._flows:
            await self._sink.put(chunks)
        else:
            self._held += chunks
            if self._assembler.content_started:
                await self._flush()

    async def end(self) -> None:
        """The answer is complete: give out what is held back. Raises like `take`."""
        if self._sink.closed:
            return
        if self._resume is not None and (diverged := self._resume.finish()) is not None:
            await self._diverged(diverged)
        if not self._flows:
            await self._flush()
        self._sink.transcript.whole = True

    async def _verified(self, resume: Resume, chunks: list[Chunk]) -> None:
        rest: list[Chunk] = []
        for chunk in chunks:
            left = resume.feed(chunk.data)
            if isinstance(left, Diverged):
                self._held += chunks  # a restart begins with all that this call has said
                await self._diverged(left)
                return
            rest += map(Chunk, left)
        if not resume.caught_up:
            self._held += chunks
            return
        if not self._flows:
            self._follow()
        await self._sink.put(rest)

    async def _diverged(self, diverged: Diverged) -> None:
        if not _restarts(self._sink, self._plan):
            raise ProviderError(StreamDiverged.code, f"{_MESSAGE} ({diverged.where})", Remedy.GIVE_UP)
        self._resume, self._flows = None, True
        self._sink.transcript.restart(self._assembler.result)
        held, self._held = self._held, []
        await self._sink.put([Chunk(restart_mark(self._model)), *held])

    async def _flush(self) -> None:
        held = self._held
        self._follow()
        await self._sink.put(held)

    def _follow(self) -> None:
        self._flows, self._held = True, []
        self._sink.transcript.follow(self._assembler.result)


def can_go_on(sink: ChunkSink | None, plan: CallPlan) -> bool:
    """Whether another call may still answer: the client has nothing yet, or a part that can be compared."""
    if sink is None or sink.closed or not sink.transcript.started:
        return True
    return _restarts(sink, plan) or is_comparable(sink.transcript.completion())


def restart_mark(model: str) -> JsonObject:
    """The chunk that tells a client to forget what it has: another answer, of `model`, begins behind it."""
    return {
        "id": "chatcmpl-restart",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [],
        "modelpilot": {"restart": True, "model": model},
    }


def rest_of(sink: ChunkSink, plan: CallPlan, outcome: Outcome) -> tuple[list[Chunk], Outcome]:
    """What the client still lacks of an answer that did not stream through `sink`, another process having called.

    The outcome names the segments then; it is a failed one where the answer does not continue what the client has.
    """
    transcript = sink.transcript
    if outcome.status != "completed" or transcript.whole:
        return [], outcome
    if outcome.answer is None:
        return [], _lost(outcome) if transcript.started else outcome
    chunks = as_chunks(outcome.answer)
    if not transcript.started:
        return [*map(Chunk, chunks)], outcome
    rest = _compared(transcript.completion(), chunks)
    restarted = isinstance(rest, Diverged)
    if isinstance(rest, Diverged):
        if not _restarts(sink, plan):
            return [], _lost(outcome)
        rest = [restart_mark(outcome.model), *chunks]
    return [*map(Chunk, rest)], _with_segment(sink, outcome, outcome.answer, restarted=restarted)


def _compared(sent: JsonObject, chunks: Sequence[JsonObject]) -> list[JsonObject] | Diverged:
    resume, rest = Resume(sent), []
    for chunk in chunks:
        left = resume.feed(chunk)
        if isinstance(left, Diverged):
            return left
        rest += left
    return resume.finish() or rest


def _with_segment(sink: ChunkSink, outcome: Outcome, answer: JsonObject, *, restarted: bool) -> Outcome:
    transcript = sink.transcript
    transcript.begin(next((a.seq for a in reversed(outcome.attempts) if a.status == "ok"), 0), outcome.model)
    (transcript.restart if restarted else transcript.follow)(lambda: answer)
    return replace(outcome, segments=transcript.segments())


def _lost(outcome: Outcome) -> Outcome:
    return replace(outcome, status="failed", error_code=StreamDiverged.code, error_message=_MESSAGE)


def _restarts(sink: ChunkSink, plan: CallPlan) -> bool:
    return plan.on_stream_cut == "restart" and sink.can_restart
