"""How a streamed answer reaches its client: nothing leaves before there is content, and a repeated call may only
continue what the client has.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from activities.requests.flight import ChunkSink
from modelpilot.errors import StreamDiverged
from modelpilot.requests.outcome import Outcome, ProviderError, Remedy
from modelpilot.requests.route_request import CallPlan
from modelpilot.wire.chunks import as_chunks
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.resume import Diverged, Resume, is_comparable

_MESSAGE = "the answer broke off, and the repeated call answered differently"


class Delivery:
    """Passes the chunks of one provider call on to the client."""

    def __init__(self, sink: ChunkSink | None, plan: CallPlan, seq: int, model: str) -> None:
        self._sink, self._plan, self._model = sink, plan, model
        self._held: list[JsonObject] = []
        self._resume: Resume | None = None
        if sink is not None:
            self._resume = Resume(sink.transcript.completion()) if sink.transcript.started else None
            sink.transcript.begin(seq, model)

    async def take(self, chunk: JsonObject, *, content_started: bool) -> None:
        """Pass a chunk on. Raises ProviderError `stream_diverged` where it does not continue what the client has."""
        if self._sink is None or self._sink.closed:
            return
        if self._resume is not None:
            await self._verified(self._sink, self._resume, chunk)
            return
        self._held.append(chunk)
        if content_started:
            await self._flush(self._sink)

    async def end(self) -> None:
        """The answer is complete: give out what is held back. Raises like `take`."""
        if self._sink is None or self._sink.closed:
            return
        if self._resume is not None and (diverged := self._resume.finish()) is not None:
            await self._diverged(self._sink, diverged)
        await self._flush(self._sink)
        self._sink.transcript.whole = True

    async def _verified(self, sink: ChunkSink, resume: Resume, chunk: JsonObject) -> None:
        rest = resume.feed(chunk)
        if not resume.caught_up:
            self._held.append(chunk)  # a restart would begin with it
        if isinstance(rest, Diverged):
            await self._diverged(sink, rest)
            return
        if resume.caught_up:
            self._held.clear()
        for left in rest:
            await sink.put(left)

    async def _diverged(self, sink: ChunkSink, diverged: Diverged) -> None:
        if not _restarts(sink, self._plan):
            raise ProviderError(StreamDiverged.code, f"{_MESSAGE} ({diverged.where})", Remedy.GIVE_UP)
        self._resume = None
        await sink.restart(restart_mark(self._model))
        await self._flush(sink)

    async def _flush(self, sink: ChunkSink) -> None:
        held, self._held = self._held, []
        for chunk in held:
            await sink.put(chunk)


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


def rest_of(sink: ChunkSink, plan: CallPlan, outcome: Outcome) -> tuple[list[JsonObject], Outcome]:
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
        return chunks, outcome
    rest = _compared(transcript.completion(), chunks)
    if isinstance(rest, Diverged):
        if not _restarts(sink, plan):
            return [], _lost(outcome)
        rest = [restart_mark(outcome.model), *chunks]
    return rest, _with_segment(sink, outcome, rest)


def _compared(sent: JsonObject, chunks: Sequence[JsonObject]) -> list[JsonObject] | Diverged:
    resume, rest = Resume(sent), []
    for chunk in chunks:
        left = resume.feed(chunk)
        if isinstance(left, Diverged):
            return left
        rest += left
    return resume.finish() or rest


def _with_segment(sink: ChunkSink, outcome: Outcome, rest: Sequence[dict[str, Any]]) -> Outcome:
    transcript = sink.transcript
    transcript.begin(next((a.seq for a in reversed(outcome.attempts) if a.status == "ok"), 0), outcome.model)
    if rest and "modelpilot" in rest[0]:
        transcript.restart()
    for chunk in rest:
        transcript.add(chunk)
    return replace(outcome, segments=transcript.segments())


def _lost(outcome: Outcome) -> Outcome:
    return replace(outcome, status="failed", error_code=StreamDiverged.code, error_message=_MESSAGE)


def _restarts(sink: ChunkSink, plan: CallPlan) -> bool:
    return plan.on_stream_cut == "restart" and sink.can_restart
