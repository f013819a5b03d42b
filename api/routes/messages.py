"""`POST /v1/messages`: Anthropic's Messages format over the same submissions, hence the same workflow and row."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.answering import Format, answer
from api.bodies import parse_object, read_bytes, validate
from api.errors import ErrorView
from api.incoming import incoming_of
from api.middleware import REQUEST_ID
from api.registry import RouteSpec, add_routes
from api.responses import json_bytes
from api.streaming import AnswerStream, event
from modelpilot.chat import ChatBody
from modelpilot.errors import ModelPilotError
from modelpilot.records import RequestRecord
from modelpilot.wire.anthropic_body import MessagesBody
from modelpilot.wire.anthropic_front import chat_request_of, wants_thinking
from modelpilot.wire.anthropic_front_answer import message_of
from modelpilot.wire.anthropic_front_stream import PING, MessageEncoder

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


def register(app: web.Application) -> None:
    """Add the route; `SUBMISSIONS` has to be set by then."""
    summary = "Route a request in Anthropic's Messages format (or call one model, by `model`)"
    spec = RouteSpec(
        "POST", "/v1/messages", _create, "route", summary, "routing", MessagesBody, Message, envelope=anthropic_envelope
    )
    add_routes(app, [spec])


def anthropic_envelope(view: ErrorView) -> dict[str, Any]:
    """Anthropic's error object; our details stand beside its own fields and never replace them."""
    kind = _ERROR_TYPES.get(view.status, "invalid_request_error" if view.status < 500 else "api_error")
    details = {**view.details}
    request_id = details.pop("requestId", None)
    error = {**details, "type": kind, "message": view.message, "param": view.param, "code": view.code}
    return {"type": "error", "error": error, "request_id": request_id}


async def _create(request: web.Request) -> web.StreamResponse:
    received_at = time.monotonic()
    try:
        body = parse_object(await read_bytes(request))
        validate(body, MessagesBody)
        chat = chat_request_of(body)
        # The workflow keeps the translated body: whoever recovers the request needs to know no format but OpenAI's.
        incoming = incoming_of(request, None, json_bytes(chat), chat, validate(chat, ChatBody), received_at)
        return await answer(request, incoming, _format(wants_thinking(body)))
    except ModelPilotError as error:
        error.details.setdefault("requestId", request[REQUEST_ID])  # Anthropic's envelope has a place for it
        raise


def _format(with_thinking: bool) -> Format:
    return Format(
        whole=partial(message_of, with_thinking=with_thinking),
        stream=partial(MessagesStream, encoder=MessageEncoder(with_thinking=with_thinking)),
        headers=lambda request_id: {"request-id": request_id},  # the name by which Anthropic's SDKs read it
    )


@dataclass(slots=True)
class MessagesStream(AnswerStream):
    """Anthropic's stream of named events."""

    encoder: MessageEncoder = field(kw_only=True)

    def encode(self, chunks: list[dict[str, Any]]) -> bytes:
        """Every event of the chunks."""
        return b"".join(_named(self.encoder.take(chunk)) for chunk in chunks)

    def ending(self, record: RequestRecord, described: dict[str, Any]) -> bytes:
        """`message_delta` with our object, and `message_stop`."""
        message_id, model = f"msg_{record.key.request_id}", record.outcome.model
        return _named(self.encoder.end(message_id, model, modelpilot=described))

    def failing(self, view: ErrorView, described: dict[str, Any]) -> bytes:
        """An `error` event and no `message_stop`."""
        return _named([{**anthropic_envelope(view), "modelpilot": described}])

    def keep_alive(self) -> bytes:
        """Anthropic's own sign of life."""
        return _named([PING])


def _named(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(event(item, item["type"]) for item in events)
