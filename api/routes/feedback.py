"""`POST /v1/feedback`: what people think of an answer. `/v1/requests/{requestId}/text`: what was stored of it."""

from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import Field, model_validator

from api.gateway.receive import check_allowed
from api.http.bodies import read_json, validate
from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec
from api.http.responses import json_response
from api.routes.requests import LEDGER
from api.routes.resource import deleted, shown, view_of
from modelpilot.errors import NotFound
from modelpilot.learning.feedback import (
    MAX_COMMENT_CHARACTERS,
    MAX_END_USER_CHARACTERS,
    Feedback,
    FeedbackStore,
    TextStore,
    Thumbs,
    score_of,
)
from modelpilot.requests.records import RequestKey
from modelpilot.routing.router import UnitInterval
from modelpilot.wire.identity import request_id_of
from modelpilot.wire.json_model import WireModel

FEEDBACK: web.AppKey[FeedbackStore] = web.AppKey("feedback", FeedbackStore)
TEXTS: web.AppKey[TextStore] = web.AppKey("texts", TextStore)


class FeedbackBody(WireModel):
    """`score` or `thumbs`, one of both. `user` is your name for who says so; give it where many people share a key."""

    request_id: Annotated[str, Field(min_length=1, max_length=200)]
    score: UnitInterval | None = None
    thumbs: Thumbs | None = None
    comment: Annotated[str, Field(max_length=MAX_COMMENT_CHARACTERS)] | None = None
    user: Annotated[str, Field(min_length=1, max_length=MAX_END_USER_CHARACTERS)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.score is None) == (self.thumbs is None):
            raise ValueError("score or thumbs is required, and not both")
        return self

    @property
    def value(self) -> float:
        """The score, in [0, 1]."""
        return score_of(self.thumbs) if self.thumbs is not None else float(self.score or 0.0)


class FeedbackView(WireModel):
    """The request's quality by all that is known of it now."""

    request_id: str
    score: float
    quality: float
    quality_source: str


class TextView(WireModel):
    """The stored prompt (the request's body) and the answer."""

    request_id: str
    body: dict[str, Any]
    answer: dict[str, Any] | None


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `FEEDBACK`, `TEXTS` and the ledger."""
    text, tag = "/v1/requests/{request_id}/text", "learning"
    return [
        RouteSpec("POST", "/v1/feedback", _put, "route", "Rate an answer", tag, FeedbackBody, FeedbackView),
        RouteSpec("GET", text, _show, "admin", "Stored prompt and answer of a request", tag, None, TextView),
        RouteSpec("DELETE", text, _delete, "route", "Delete what is stored of a request's text", tag, status=204),
    ]


async def _put(request: web.Request) -> web.StreamResponse:
    # Strings from here are stored encrypted or hashed, so any text will do.
    body = validate(await read_json(request), FeedbackBody)
    key = await _resolved(request, body.request_id)
    said = Feedback(key, request[PRINCIPAL].api_key_id, body.value, body.user, body.comment)
    rated = await request.app[FEEDBACK].put(said)
    return shown(view_of(FeedbackView, rated))


async def _show(request: web.Request) -> web.StreamResponse:
    key = await _resolved(request, request.match_info["request_id"])
    text = (await request.app[TEXTS].read(key.user_id, [key.request_id])).get(key.request_id)
    if text is None:
        raise NotFound("No text is stored of this request.")
    return json_response({"requestId": key.request_id, "body": text.body, "answer": text.answer})


async def _delete(request: web.Request) -> web.StreamResponse:
    key = await _resolved(request, request.match_info["request_id"])
    if not await request.app[TEXTS].delete(key):
        raise NotFound("No text is stored of this request.")
    return deleted()


async def _resolved(request: web.Request, name: str) -> RequestKey:
    """The ended request behind its id or the client's own name for it. Raises NotFound, PermissionDenied."""
    key = RequestKey(request[PRINCIPAL].user_id, name)
    router_id = await request.app[FEEDBACK].router_of(key)
    if router_id is None:
        own = await request.app[LEDGER].resolve(key.user_id, name) or request_id_of(name)
        key = RequestKey(key.user_id, own or "")
        router_id = await request.app[FEEDBACK].router_of(key) if own else None
    if router_id is None:
        raise NotFound("There is no such request, or it has not ended yet.")
    check_allowed(request[PRINCIPAL], router_id or None)
    return key
