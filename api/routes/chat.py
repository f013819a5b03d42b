"""The main job: `POST /router/{routerId}`, `POST /v1/chat/completions`, and the decision alone."""

import time
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.gateway.admission import admitted
from api.gateway.answer import SUBMISSIONS, ChatStream, Format, answer
from api.gateway.receive import ReceivedRequest, receive
from api.http.bodies import parse_object, read_with, validate
from api.http.registry import RouteSpec
from api.http.responses import json_response
from modelpilot.chat.body import ChatBody


class ChatCompletion(BaseModel):
    """An OpenAI `chat.completion` with our `modelpilot` object beside its own fields."""

    id: str
    object: str
    choices: list[dict[str, Any]]
    modelpilot: dict[str, Any]


class DecisionView(BaseModel):
    """The decision: candidates with raw and normalized components, weights, totals, neighbours, exclusions."""

    decision: dict[str, Any]


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `SUBMISSIONS`."""
    paths = {
        "/router/{router_id}": _route,
        "/router/{router_id}/chat/completions": _route,
        "/v1/chat/completions": _complete,
    }
    summary = "Route a chat request (or call one model, by `model`)"
    explain, deciding = "/router/{router_id}/explain", "The decision for a body, without calling a provider"
    chat = partial(RouteSpec, "POST", scope="route", tag="routing", request=ChatBody, invalid_status=400)
    return [
        *(chat(path, admitted(handler), summary=summary, response=ChatCompletion) for path, handler in paths.items()),
        chat(explain, admitted(_explain), summary=deciding, response=DecisionView),
    ]


async def _route(request: web.Request) -> web.StreamResponse:
    return await _serve(request, await _received(request, router_id=request.match_info["router_id"]))


async def _complete(request: web.Request) -> web.StreamResponse:
    return await _serve(request, await _received(request, router_id=None))


async def _explain(request: web.Request) -> web.StreamResponse:
    received = await _received(request, router_id=request.match_info["router_id"])
    decided = await request.app[SUBMISSIONS].decide(received, explore=False)
    return json_response({"decision": decided.decision.to_wire()})


async def _serve(request: web.Request, received: ReceivedRequest) -> web.StreamResponse:
    include_usage = bool((received.checked.stream_options or {}).get("include_usage"))
    form = Format(whole=lambda completion: completion, stream=partial(ChatStream, include_usage=include_usage))
    return await answer(request, received, form)


async def _received(request: web.Request, router_id: str | None) -> ReceivedRequest:
    received_at = time.monotonic()
    raw, body, checked = await read_with(request, _checked)
    return await receive(request, router_id, raw, body, checked, received_at)


def _checked(raw: bytes) -> tuple[bytes, dict[str, Any], ChatBody]:
    body = parse_object(raw)
    return raw, body, validate(body, ChatBody)
