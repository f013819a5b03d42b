"""`POST /v1/messages`: Anthropic's Messages format over the same submissions, hence the same workflow and row; and
`POST /v1/messages/count_tokens`.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.gateway.admission import admitted
from api.gateway.answer import SUBMISSIONS, AnswerStream, Format, answer, event
from api.gateway.described import with_cost
from api.gateway.receive import Translated
from api.http.bodies import parse_object, read_with, validate
from api.http.errors import ErrorView
from api.http.registry import RouteSpec
from api.http.responses import json_response
from modelpilot.errors import ContextLengthExceeded
from modelpilot.requests.records import RequestRecord
from modelpilot.wire.anthropic_front import CountTokensBody, MessagesBody, chat_request_of, wants_thinking
from modelpilot.wire.anthropic_front_answer import PING, MessageEncoder, message_of
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.identity import MESSAGE, names

# Anthropic's own words, by status; the SDKs choose their exception by the status alone.
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_TOO_LONG = "prompt is too long"


class Message(BaseModel):
    """An Anthropic Message with our `modelpilot` object beside its own fields."""

    id: str
    type: str
    role: str
    model: str
    content: list[dict[str, Any]]
    stop_reason: str | None
    usage: dict[str, Any]
    modelpilot: dict[str, Any]


class TokenCount(BaseModel):
    """An estimate that does not depend on the model."""

    input_tokens: int


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `SUBMISSIONS`."""
    anthropic = partial(
        RouteSpec, "POST", scope="route", tag="routing", envelope=anthropic_envelope, invalid_status=400
    )
    routing = "Route a request in Anthropic's Messages format (or call one model, by `model`)"
    counting = "Estimate the input tokens of a Messages request"
    return [
        anthropic("/v1/messages", admitted(_create), summary=routing, request=MessagesBody, response=Message),
        anthropic(
            "/v1/messages/count_tokens",
            admitted(_count),
            summary=counting,
            request=CountTokensBody,
            response=TokenCount,
        ),
    ]


def anthropic_envelope(view: ErrorView) -> dict[str, Any]:
    """Anthropic's error object; our details stand beside its own fields and never replace them."""
    kind = _ERROR_TYPES.get(view.status, "invalid_request_error" if view.status < 500 else "api_error")
    details = {**view.details}
    request_id = details.pop("requestId", view.request_id)
    message = view.message
    # The words by which Anthropic's clients know that they must shorten the conversation.
    if view.code == ContextLengthExceeded.code and not message.lower().startswith(_TOO_LONG):
        message = f"{_TOO_LONG}: {message}"
    error = {**details, "type": kind, "message": message, "param": view.param, "code": view.code}
    return {"type": "error", "error": error, "request_id": request_id}


async def _create(request: web.Request) -> web.StreamResponse:
    received_at = time.monotonic()
    betas = ",".join(request.headers.getall("anthropic-beta", ()))
    body, translated = await read_with(request, partial(_translated, model=MessagesBody, defaults={}, betas=betas))
    return await answer(request, await translated.received(request, received_at), _format(body))


async def _count(request: web.Request) -> web.StreamResponse:
    received_at = time.monotonic()
    _, translated = await read_with(request, partial(_translated, model=CountTokensBody, defaults={"max_tokens": 1}))
    received = await translated.received(request, received_at)
    return json_response({"input_tokens": await request.app[SUBMISSIONS].prompt_tokens(received)})


def _translated(
    raw: bytes, model: type[CountTokensBody], defaults: dict[str, Any], betas: str = ""
) -> tuple[dict[str, Any], Translated]:
    body = parse_object(raw)
    validate(body, model)
    return body, Translated.of(chat_request_of({**defaults, **body}, betas))


def _format(body: dict[str, Any]) -> Format:
    shown: dict[str, Any] = {
        "with_thinking": wants_thinking(body),
        "stop_sequences": frozenset(body.get("stop_sequences") or ()),
    }
    return Format(
        whole=partial(message_of, **shown),
        stream=partial(MessagesStream, encoder=MessageEncoder(**shown)),
        names=partial(names, MESSAGE),
        headers=lambda request_id: {"request-id": request_id},  # the name by which Anthropic's SDKs read it
    )


@dataclass(slots=True)
class MessagesStream(AnswerStream):
    """Anthropic's stream of named events."""

    encoder: MessageEncoder = field(kw_only=True)

    def __post_init__(self) -> None:
        # Clients read there how full their context is.
        if self.submission.flight is not None:
            self.encoder.prompt_tokens = self.submission.flight.prompt_tokens

    def encode(self, chunks: list[Chunk]) -> bytes:
        """Every event of the chunks."""
        return b"".join(_named(map(self._renamed, self.encoder.take(chunk.data))) for chunk in chunks)

    def _renamed(self, event: dict[str, Any]) -> dict[str, Any]:
        if event["type"] != "message_start":
            return event
        return {**event, "message": {**event["message"], **names(MESSAGE, self.request_id, self.model)}}

    def ending(self, record: RequestRecord, described: dict[str, Any]) -> bytes:
        """`message_delta` with our object, and `message_stop`."""
        events = self.encoder.end(self.request_id, self.model, modelpilot=described)
        return _named(self._renamed(with_cost(each, described)) for each in events)

    def failing(self, view: ErrorView, described: dict[str, Any]) -> bytes:
        """An `error` event and no `message_stop`."""
        return _named([{**anthropic_envelope(view), "modelpilot": described}])

    def keep_alive(self) -> bytes:
        """Anthropic's own sign of life."""
        return _named([PING])


def _named(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(event(item, item["type"]) for item in events)
