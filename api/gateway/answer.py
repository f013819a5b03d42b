"""Submitting a request and answering it, whole or as a stream, in the client's wire format."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from aiohttp import web

from activities.requests.delivery import rest_of
from activities.requests.failures import outcome_error
from api.gateway.admission import TICKET
from api.gateway.described import Headers, answer_headers, modelpilot_object, with_cost
from api.gateway.receive import ReceivedRequest, Submission
from api.gateway.submit import Submissions
from api.http.errors import ErrorView, describe, openai_envelope
from api.http.middleware import REQUEST_ID
from api.http.responses import json_response
from modelpilot.errors import ModelPilotError, NotFound
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import RequestKey, RequestRecord
from modelpilot.wire.chunks import Chunk, as_chunks
from modelpilot.wire.identity import CHAT, Renamed, names
from modelpilot.wire.jsonb import dump

SUBMISSIONS: web.AppKey[Submissions] = web.AppKey("submissions", Submissions)
# Proxies cut idle connections, commonly after 60 s.
KEEP_ALIVE_S = 10.0
# A client that takes nothing for so long does not come back, but holds memory, a connection and a request.
CLIENT_STALLS_S = 60.0

_EXPLAIN_HEADER = "x-modelpilot-explain"
_COMMENT = b": keep-alive\n\n"  # comments are invisible to SSE clients
_DATA, _END, _DONE = b"data: ", b"\n\n", b"data: [DONE]\n\n"


def event(data: Any, name: str | None = None) -> bytes:
    """One server-sent event, with a name where the format has names."""
    named = b"" if name is None else b"event: " + name.encode() + b"\n"
    return named + _DATA + dump(data) + _END


@dataclass(slots=True)
class AnswerStream(ABC):
    """One streamed answer: chunks as they come, our object at the end, an error event where it fails on the way.

    A subclass knows the format. A failure before the first byte is an ordinary error answer.
    """

    http_request: web.Request
    submissions: Submissions
    submission: Submission
    explain: bool = field(default=False, kw_only=True)
    can_restart: ClassVar[bool] = False  # whether the format can say that an answer begins anew
    content_type: ClassVar[str] = "text/event-stream"
    keep_alive_s: float = field(default=KEEP_ALIVE_S, kw_only=True)
    client_stalls_s: float = field(default=CLIENT_STALLS_S, kw_only=True)
    headers: Headers = field(default_factory=dict, kw_only=True)
    _answered_by: str | None = field(default=None, init=False)
    _response: web.StreamResponse | None = field(default=None, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time, init=False)
    _moved_s: float = field(default=0.0, init=False)  # when something was written last
    _writing: int = field(default=0, init=False)
    _stalled: bool = field(default=False, init=False)

    @abstractmethod
    def encode(self, chunks: list[Chunk]) -> bytes:
        """What can leave now that these OpenAI chunks came."""

    @abstractmethod
    def ending(self, record: RequestRecord, described: dict[str, Any]) -> bytes:
        """The end of a complete answer, with our object."""

    @abstractmethod
    def failing(self, view: ErrorView, described: dict[str, Any]) -> bytes:
        """The end of an answer that failed after its first byte."""

    def keep_alive(self) -> bytes:
        """What keeps a silent connection open."""
        return _COMMENT

    @property
    def model(self) -> str:
        """Who answers, as far as that is known."""
        flight = self.submission.flight
        writer = flight.sink.transcript.model if flight is not None and flight.sink is not None else None
        return self._answered_by or writer or (flight.request.plan.model if flight is not None else "")

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.submission.key.request_id

    async def run(self) -> web.StreamResponse:
        """Write the whole stream. Raises the outcome's error where nothing was written yet."""
        self._moved_s = self._clock()
        self._look()
        try:
            return await self._written()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _written(self) -> web.StreamResponse:
        try:
            record = await self._ended()
        except ModelPilotError as error:  # this process ends before the request does
            if self._response is None:
                raise
            key = self.submission.key
            described = {"requestId": key.request_id, "workflowId": key.workflow_id}
            return await self._close(self.failing(describe(error), described))
        missing, outcome = self._missing(record.outcome)
        self._answered_by = outcome.model
        described = modelpilot_object(record, outcome, explain=self.explain)
        if outcome.status != "completed":
            return await self._fail(outcome, record, described)
        if missing:
            await self._write_all(missing)
        return await self._close(self.ending(record, described))

    async def _ended(self) -> RequestRecord:
        """The end of the request, behind all that streams until then."""
        if self.submission.owned:
            await self._pump()
        ending = asyncio.ensure_future(self.submissions.ended(self.submission))
        try:
            await self._awaited(ending)
            return ending.result()
        finally:
            ending.cancel()

    async def _pump(self) -> None:
        flight = self.submission.flight
        if flight is None or flight.sink is None:
            return
        # Nothing leaves before the request is accepted.
        flight.sink.can_restart = self.can_restart
        await asyncio.shield(flight.accepted)
        while (chunks := await flight.sink.get()) or not flight.sink.finished:
            await (self._write_all(chunks) if chunks else self._write(self.keep_alive()))
            flight.sink.pass_to(self._write_all)  # the head is written, so that nobody has to wait for another any more

    def _missing(self, outcome: Outcome) -> tuple[list[Chunk], Outcome]:
        """The chunks of an answer given elsewhere, or before; behind a part of it, only what continues that part."""
        flight = self.submission.flight
        if self.submission.owned and flight is not None and flight.sink is not None:
            return rest_of(flight.sink, flight.request.plan, outcome)
        return ([] if outcome.answer is None else [*map(Chunk, as_chunks(outcome.answer))]), outcome

    async def _awaited(self, ending: "asyncio.Future[RequestRecord]") -> None:
        """Wait for the end, with signs of life on the line while that takes long."""
        while not ending.done():
            done, _ = await asyncio.wait({ending}, timeout=self.keep_alive_s)
            if not done:
                await self._write(self.keep_alive())

    def _look(self) -> None:
        """One timer for the whole stream: let a client go that reads nothing, and break a long silence."""
        flight = self.submission.flight
        limit_s = self.client_stalls_s if self._writing else self.keep_alive_s
        left_s = limit_s - (self._clock() - self._moved_s)
        if left_s <= 0.0 and self._writing and self.http_request.transport is not None:
            self._stalled = True
            self.http_request.transport.abort()  # `close` would wait until what is written was read
        elif left_s <= 0.0 and flight is not None and flight.sink is not None:
            flight.sink.nudge()
        often_s = min(self.client_stalls_s, self.keep_alive_s)
        self._timer = asyncio.get_running_loop().call_later(
            min(left_s, often_s) if left_s > 0.0 else often_s, self._look
        )

    async def _write_all(self, chunks: list[Chunk]) -> None:
        if ready := self.encode(chunks):
            await self._write(ready)
        elif self._response is None:
            await self._prepared()

    async def _write(self, data: bytes) -> None:
        """Raises ConnectionResetError where the client has left, or reads nothing for too long."""
        response = self._response or await self._prepared()
        self._moved_s = self._clock()
        self._writing += 1
        try:
            await response.write(data)
        finally:
            self._writing -= 1
        if self._stalled:
            raise ConnectionResetError("the client does not read its stream")

    async def _prepared(self) -> web.StreamResponse:
        if self._response is None:
            headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **self.headers}
            self._response = web.StreamResponse(headers=headers)
            self._response.content_type = self.content_type
            await self._response.prepare(self.http_request)
        return self._response

    async def _fail(self, outcome: Outcome, record: RequestRecord, described: dict[str, Any]) -> web.StreamResponse:
        error = outcome_error(outcome, record.key.request_id)
        if self._response is None:
            raise error
        return await self._close(self.failing(describe(error), described))

    async def _close(self, last: bytes) -> web.StreamResponse:
        await self._write(last)
        response = await self._prepared()
        await response.write_eof()
        return response


@dataclass(slots=True)
class ChatStream(AnswerStream):
    """OpenAI's stream."""

    can_restart = True
    include_usage: bool = field(default=False, kw_only=True)
    id_prefix: ClassVar[str] = CHAT
    _held: Chunk | None = field(default=None, init=False)  # our object goes onto it when nothing follows
    _renamed: Renamed | None = field(default=None, init=False)

    def encode(self, chunks: list[Chunk]) -> bytes:
        """All chunks, each as the bytes that it came in but for id and model; one that may be the last is held back."""
        ready: list[bytes] = []
        renamed = self._names()
        for chunk in chunks:
            last = chunk.text is None and _may_be_last(chunk.data)
            if last and _is_usage_only(chunk.data) and not self.include_usage:
                continue
            if self._held is not None:
                ready += (_DATA, renamed.json_of(self._held), _END)
                self._held = None
            if last:
                self._held = chunk
            else:
                ready += (_DATA, renamed.json_of(chunk), _END)
        return b"".join(ready)

    def _names(self) -> Renamed:
        if self._renamed is None or self._renamed.names["model"] != self.model:
            self._renamed = Renamed(f"{self.id_prefix}{self.request_id}", self.model)
        return self._renamed

    def ending(self, record: RequestRecord, described: dict[str, Any]) -> bytes:
        """The last chunk with our object, and `[DONE]`."""
        last = self._held or Chunk(_empty_chunk(record))
        priced = {"usage": with_cost(last.data, described)["usage"]} if last.data.get("usage") else {}
        return _DATA + self._names().json_with(last, **priced, modelpilot=described) + _END + _DONE

    def failing(self, view: ErrorView, described: dict[str, Any]) -> bytes:
        """The chunk held back, then the error; no `[DONE]`."""
        held = _DATA + self._names().json_of(self._held) + _END if self._held is not None else b""
        return held + event({**openai_envelope(view), "modelpilot": described})


def _may_be_last(chunk: dict[str, Any]) -> bool:
    choices = chunk.get("choices")
    return not choices or any(choice.get("finish_reason") for choice in choices)


def _is_usage_only(chunk: dict[str, Any]) -> bool:
    return not chunk.get("choices") and chunk.get("usage") is not None


def _empty_chunk(record: RequestRecord) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "created": int(record.created_at),
        "choices": [],
    }


class StreamMaker(Protocol):
    """Makes the stream of one answer, in its format."""

    def __call__(
        self,
        http_request: web.Request,
        submissions: Submissions,
        submission: Submission,
        *,
        explain: bool,
        headers: Headers,
    ) -> AnswerStream:
        """The stream, not begun."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """How answers look: `whole` makes the body of a completion, without our object; `names` are the fields with the
    answer's id (of the request's) and the model's; `headers` are further ones.

    `begun` hears of the request before anything is answered; `described` has the last word on our object.
    """

    whole: Callable[[dict[str, Any]], dict[str, Any]]
    stream: StreamMaker
    names: Callable[[str, str], dict[str, Any]] = lambda request_id, model: names(CHAT, request_id, model)
    headers: Callable[[str], Headers] = lambda request_id: {}
    begun: Callable[[RequestKey], Awaitable[None]] | None = None
    described: Callable[[dict[str, Any]], dict[str, Any]] = lambda described: described


async def answer(request: web.Request, received: ReceivedRequest, form: Format) -> web.StreamResponse:
    """Submit `received` and write its answer. Raises what stands in its way, and the outcome's error."""
    submissions = request.app[SUBMISSIONS]
    submission = await submissions.submit(received)
    request[TICKET].called()
    request[REQUEST_ID] = submission.key.request_id
    try:
        if form.begun is not None:
            await form.begun(submission.key)
        if received.checked.stream:
            return await _stream(request, submission, form)
        return await _whole(request, submission, form)
    except BaseException:
        # Cancellation (the client left) above all; whatever else ends the handler ends the spending too.
        await submissions.abandon(submission)
        raise


async def completed(submissions: Submissions, submission: Submission) -> tuple[RequestRecord, dict[str, Any]]:
    """The row of a request that was completed, and its answer. Raises the outcome's error, and NotFound."""
    record = await submissions.ended(submission)
    if record.outcome.status != "completed":
        raise outcome_error(record.outcome, record.key.request_id)
    if record.outcome.answer is None:
        raise NotFound("The answer is no longer retained (MODELPILOT_RESULT_RETENTION_HOURS)")
    return record, record.outcome.answer


async def _whole(request: web.Request, submission: Submission, form: Format) -> web.StreamResponse:
    record, completion = await completed(request.app[SUBMISSIONS], submission)
    outcome = record.outcome
    described = form.described(modelpilot_object(record, outcome, explain=_wants_explanation(request)))
    headers = {**answer_headers(record, outcome), **form.headers(record.key.request_id)}
    own = form.names(record.key.request_id, outcome.model)
    body = {**with_cost(form.whole(completion), described), **own, "modelpilot": described}
    return json_response(body, headers=headers)


async def _stream(request: web.Request, submission: Submission, form: Format) -> web.StreamResponse:
    flight = submission.flight
    model = flight.request.plan.model if flight else submission.record.outcome.model if submission.record else ""
    stream = form.stream(
        request,
        request.app[SUBMISSIONS],
        submission,
        explain=_wants_explanation(request),
        headers={"x-modelpilot-model": model, **form.headers(submission.key.request_id)},
    )
    return await stream.run()


def _wants_explanation(request: web.Request) -> bool:
    return request.headers.get(_EXPLAIN_HEADER, "").lower() == "true"
