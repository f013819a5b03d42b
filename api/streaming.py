"""Server-sent events to a client: chunks as they come, our object on the last one, an error event instead of a lie."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from activities.failures import outcome_error
from api.answers import Headers, modelpilot_object
from api.errors import describe, openai_envelope
from api.responses import json_bytes
from api.submissions import Submission, Submissions
from modelpilot.outcome import Outcome
from modelpilot.records import RequestRecord
from modelpilot.wire.chunks import as_chunks

# Proxies cut idle connections, commonly after 60 s; comments are invisible to SSE clients.
KEEP_ALIVE_S = 10.0
_COMMENT = b": keep-alive\n\n"
_DONE = b"data: [DONE]\n\n"


def event(data: Any) -> bytes:
    """One event."""
    return b"data: " + json_bytes(data) + b"\n\n"


@dataclass(slots=True)
class ChatStream:
    """One streamed answer. A failure before the first byte is an ordinary error answer."""

    http_request: web.Request
    submissions: Submissions
    submission: Submission
    include_usage: bool
    explain: bool
    headers: Headers = field(default_factory=dict)
    _response: web.StreamResponse | None = None
    _held: dict[str, Any] | None = None  # the last chunk: our object goes onto it when nothing follows

    async def run(self) -> web.StreamResponse:
        """Write the whole stream. Raises the outcome's error where nothing was written yet."""
        live = self.submission.owned
        if live:
            await self._pump()
        outcome, record = await self._awaited(self.submissions.outcome(self.submission))
        if outcome.status != "completed":
            return await self._fail(outcome, record)
        if self._held is None and outcome.answer is not None:  # answered elsewhere, or before
            await self._write_all(as_chunks(outcome.answer, include_usage=self.include_usage))
        return await self._finish(outcome, record)

    async def _pump(self) -> None:
        flight = self.submission.flight
        if flight is None or flight.sink is None:
            return
        # Nothing leaves before the start is acknowledged; without it the outcome says why there is no answer.
        if not await asyncio.shield(flight.acknowledged):
            return
        while chunks := await self._awaited(flight.sink.get()):
            await self._write_all(chunks)

    async def _awaited(self, work: Any) -> Any:
        """Wait for `work`, with comments on the line while it takes long."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                done, _ = await asyncio.wait({task}, timeout=KEEP_ALIVE_S)
                if not done:
                    await (await self._prepared()).write(_COMMENT)
        except BaseException:
            task.cancel()
            raise
        return task.result()

    async def _write_all(self, chunks: list[dict[str, Any]]) -> None:
        ready: list[bytes] = []
        for chunk in chunks:
            if _is_usage_only(chunk) and not self.include_usage:
                continue
            if self._held is not None:
                ready.append(event(self._held))
            self._held = chunk
        response = await self._prepared()
        if ready:
            await response.write(b"".join(ready))

    async def _prepared(self) -> web.StreamResponse:
        if self._response is None:
            headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **self.headers}
            self._response = web.StreamResponse(headers=headers)
            self._response.content_type = "text/event-stream"
            await self._response.prepare(self.http_request)
        return self._response

    async def _finish(self, outcome: Outcome, record: RequestRecord) -> web.StreamResponse:
        described = modelpilot_object(record, outcome, explain=self.explain)
        last = {**(self._held or _empty_chunk(record)), "modelpilot": described}
        response = await self._prepared()
        await response.write(event(last) + _DONE)
        await response.write_eof()
        return response

    async def _fail(self, outcome: Outcome, record: RequestRecord) -> web.StreamResponse:
        error = outcome_error(outcome, record.key.request_id)
        if self._response is None:
            raise error
        body = openai_envelope(describe(error))
        body["modelpilot"] = modelpilot_object(record, outcome, explain=self.explain)
        held = event(self._held) if self._held is not None else b""
        await self._response.write(held + event(body))
        await self._response.write_eof()
        return self._response


def _is_usage_only(chunk: dict[str, Any]) -> bool:
    return not chunk.get("choices") and chunk.get("usage") is not None


def _empty_chunk(record: RequestRecord) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{record.key.request_id}",
        "object": "chat.completion.chunk",
        "created": int(record.created_at),
        "model": record.outcome.model,
        "choices": [],
    }
