"""`GET /v1/requests/{requestId}`: what became of a request, by its id, its response's, or the client's name."""

from typing import Any

from aiohttp import web

from activities.requests.flight import FlightRegistry
from api.gateway.described import request_view
from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec
from api.http.responses import json_response
from modelpilot.errors import NotFound
from modelpilot.requests.ports import Ledger
from modelpilot.requests.records import RequestKey
from modelpilot.wire.identity import request_id_of
from modelpilot.wire.json_model import WireModel

LEDGER: web.AppKey[Ledger] = web.AppKey("ledger", Ledger)
REGISTRY: web.AppKey[FlightRegistry] = web.AppKey("flights", FlightRegistry)


class RequestView(WireModel):
    """A request: always its status and workflow; once ended also attempts, decision, cost and answer."""

    request_id: str
    status: str
    workflow_id: str
    attempts: list[dict[str, Any]]
    decision: dict[str, Any] | None
    cost_usd: float | None
    answer: dict[str, Any] | None


def routes() -> list[RouteSpec]:
    """The route of this module. Its application has `LEDGER` and `REGISTRY`."""
    summary = "Status, attempts, decision, cost, workflow, and the answer while retained"
    return [RouteSpec("GET", "/v1/requests/{request_id}", _show, "route", summary, "routing", None, RequestView)]


async def _show(request: web.Request) -> web.StreamResponse:
    user_id, name = request[PRINCIPAL].user_id, request.match_info["request_id"]
    view = await _view(request.app, RequestKey(user_id, name))
    if view is None:
        request_id = await request.app[LEDGER].resolve(user_id, name) or request_id_of(name)
        view = await _view(request.app, RequestKey(user_id, request_id)) if request_id else None
    if view is None:
        raise NotFound("There is no such request.")
    return json_response(view)


async def _view(app: web.Application, key: RequestKey) -> dict[str, Any] | None:
    stored = await app[LEDGER].find(key)
    if stored is not None:
        return request_view(stored.record)
    flight = app[REGISTRY].find(key)
    if flight is not None:
        return _running(key, flight.request.decision)
    return _running(key, None) if await app[LEDGER].is_open(key) else None


def _running(key: RequestKey, decision: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "requestId": key.request_id,
        "status": "running",
        "workflowId": key.workflow_id,
        "attempts": [],
        "decision": decision,
        "costUsd": None,
        "answer": None,
    }
