"""The main job: `POST /router/{routerId}`, `POST /v1/chat/completions`, and the decision alone."""

import re
import time
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from activities.failures import outcome_error
from api.answers import answer_headers, modelpilot_object
from api.bodies import parse_object, read_bytes, validate
from api.middleware import PRINCIPAL, REQUEST_ID
from api.registry import RouteSpec, add_routes
from api.responses import json_response
from api.streaming import ChatStream
from api.submissions import Incoming, Submission, Submissions
from modelpilot.chat import ChatBody
from modelpilot.errors import InvalidRequest, NotFound, PermissionDenied
from modelpilot.records import Principal

SUBMISSIONS: web.AppKey[Submissions] = web.AppKey("submissions", Submissions)

ROUTER_PREFIX = "router/"
_EXPLAIN_HEADER = "x-modelpilot-explain"
_MAX_KEY_CHARACTERS = 255
# It becomes part of a workflow id and of URLs.
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class ChatCompletion(BaseModel):
    """An OpenAI `chat.completion` with our `modelpilot` object beside its own fields."""

    id: str
    object: str
    choices: list[dict[str, Any]]
    modelpilot: dict[str, Any]


class DecisionView(BaseModel):
    """The decision: candidates with raw and normalized components, weights, totals, neighbours, exclusions."""

    decision: dict[str, Any]


def register(app: web.Application) -> None:
    """Add the routes; `SUBMISSIONS` has to be set by then."""
    paths = {
        "/router/{router_id}": _route,
        "/router/{router_id}/chat/completions": _route,
        "/v1/chat/completions": _complete,
    }
    summary = "Route a chat request (or call one model, by `model`)"
    specs = [
        RouteSpec("POST", path, handler, "route", summary, "routing", ChatBody, ChatCompletion)
        for path, handler in paths.items()
    ]
    specs.append(
        RouteSpec(
            "POST",
            "/router/{router_id}/explain",
            _explain,
            "route",
            "The decision for a body, without calling a provider",
            "routing",
            ChatBody,
            DecisionView,
        )
    )
    add_routes(app, specs)


async def _route(request: web.Request) -> web.StreamResponse:
    return await _serve(request, await _incoming(request, router_id=request.match_info["router_id"]))


async def _complete(request: web.Request) -> web.StreamResponse:
    return await _serve(request, await _incoming(request, router_id=None))


async def _explain(request: web.Request) -> web.StreamResponse:
    incoming = await _incoming(request, router_id=request.match_info["router_id"])
    decided = await request.app[SUBMISSIONS].decide(incoming, explore=False)
    return json_response({"decision": decided.decision.to_wire()})


async def _serve(request: web.Request, incoming: Incoming) -> web.StreamResponse:
    submissions = request.app[SUBMISSIONS]
    submission = await submissions.submit(incoming)
    request[REQUEST_ID] = submission.key.request_id
    try:
        if incoming.checked.stream:
            return await _stream(request, incoming, submission)
        return await _whole(request, submission)
    except BaseException:
        # Cancellation (the client left) above all; whatever else ends the handler ends the spending too.
        await submissions.abandon(submission)
        raise


async def _whole(request: web.Request, submission: Submission) -> web.StreamResponse:
    outcome, record = await request.app[SUBMISSIONS].outcome(submission)
    if outcome.status != "completed":
        raise outcome_error(outcome, record.key.request_id)
    if outcome.answer is None:
        raise NotFound("The answer is no longer retained (MODELPILOT_RESULT_RETENTION_HOURS)")
    described = modelpilot_object(record, outcome, explain=_wants_explanation(request))
    return json_response({**outcome.answer, "modelpilot": described}, headers=answer_headers(record, outcome))


async def _stream(request: web.Request, incoming: Incoming, submission: Submission) -> web.StreamResponse:
    flight = submission.flight
    model = flight.request.plan.model if flight else submission.record.outcome.model if submission.record else ""
    stream = ChatStream(
        http_request=request,
        submissions=request.app[SUBMISSIONS],
        submission=submission,
        include_usage=bool((incoming.checked.stream_options or {}).get("include_usage")),
        explain=_wants_explanation(request),
        headers={"x-modelpilot-model": model},
    )
    return await stream.run()


def _wants_explanation(request: web.Request) -> bool:
    return request.headers.get(_EXPLAIN_HEADER, "").lower() == "true"


async def _incoming(request: web.Request, router_id: str | None) -> Incoming:
    received_at = time.monotonic()
    raw = await read_bytes(request)
    body = parse_object(raw)
    checked = validate(body, ChatBody)
    model_id = None
    if router_id is None:
        router_id, model_id = _target(checked)
    principal = request[PRINCIPAL]
    _check_allowed(principal, router_id)
    return Incoming(
        principal=principal,
        router_id=router_id,
        model_id=model_id,
        raw=raw,
        body=body,
        checked=checked,
        received_at=received_at,
        idempotency_key=_idempotency_key(request),
        client_name=_client_name(request),
        is_repeat=request.headers.get("x-stainless-retry-count", "0") not in ("", "0"),
    )


def _target(checked: ChatBody) -> tuple[str | None, str | None]:
    """`router/{id}` routes; anything else is a model of the catalogue."""
    if not checked.model:
        raise InvalidRequest("model: router/{routerId} or a model of the catalogue was expected", param="model")
    if checked.model.startswith(ROUTER_PREFIX):
        return checked.model.removeprefix(ROUTER_PREFIX), None
    return None, checked.model


def _check_allowed(principal: Principal, router_id: str | None) -> None:
    if principal.allowed_routers is not None and router_id not in principal.allowed_routers:
        raise PermissionDenied(
            "This API key may not use this router." if router_id else "This key is for routers only."
        )


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= _MAX_KEY_CHARACTERS:
        raise InvalidRequest("Idempotency-Key: 1 to 255 characters were expected", param="Idempotency-Key")
    return key


def _client_name(request: web.Request) -> str | None:
    name = request.headers.get("x-request-id")
    if name is not None and not _CLIENT_NAME.fullmatch(name):
        raise InvalidRequest("x-request-id: 1 to 128 of A-Z a-z 0-9 . _ : - were expected", param="x-request-id")
    return name
