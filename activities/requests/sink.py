"""The way of a streamed answer's chunks from the provider step to the HTTP response."""

import asyncio
from collections.abc import Awaitable, Callable

from modelpilot.wire.chunks import Chunk
from modelpilot.wire.resume import Transcript

# A streaming client that reads slower than its provider writes stalls the provider here, not the gateway's memory.
SINK_CHUNKS = 64


class ChunkSink:
    """Bounded, with one writer and one reader. Chunks travel in batches: what one read brought is one batch."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._readable, self._writable = asyncio.Event(), asyncio.Event()
        self._direct: Callable[[list[Chunk]], Awaitable[None]] | None = None
        self._broken: Exception | None = None
        self.finished = False  # nothing more is put in
        self.closed = False  # the reader is gone
        self.can_restart = False  # the reader's format has a mark for an answer that begins anew
        self.transcript = Transcript()

    async def put(self, chunks: list[Chunk]) -> None:
        """Hand over chunks, then wait while the reader is behind; they are dropped where the reader is gone."""
        if self.closed or self.finished or not chunks:
            return
        if self._direct is not None and not self._chunks:
            try:
                await self._direct(chunks)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the reader's and not the call's
                self._broken = error
                self.close()
                self._readable.set()
            return
        self._chunks += chunks
        self._readable.set()
        while len(self._chunks) >= SINK_CHUNKS and not self.closed:
            self._writable.clear()
            await self._writable.wait()

    def pass_to(self, direct: Callable[[list[Chunk]], Awaitable[None]]) -> None:
        """From now on the writer calls `direct` with its chunks, which saves waking the reader for each batch. What
        breaks in there is raised by `get`."""
        self._direct = direct

    async def get(self) -> list[Chunk]:
        """All chunks that are there; none at the end, and after a `nudge`."""
        if not (self._chunks or self.finished or self._broken):
            self._readable.clear()
            await self._readable.wait()
        if self._broken is not None:
            raise self._broken
        chunks, self._chunks = self._chunks, []
        self._writable.set()
        return chunks

    def nudge(self) -> None:
        """Wake the reader, who has something else to do."""
        self._readable.set()

    def finish(self) -> None:
        """The writer has put its last chunk."""
        self.finished = True
        self._readable.set()

    def close(self) -> None:
        """The reader is gone; the writer is not to wait for it."""
        self.closed = True
        self._chunks = []
        self._writable.set()
