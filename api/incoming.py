"""From an HTTP request that carries a chat body to an `Incoming`: target, rights, names. Shared by all formats."""

import re
from typing import Any

from aiohttp import web

from api.accepted import Incoming
from api.middleware import PRINCIPAL
from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest, PermissionDenied
from modelpilot.requests.records import Principal

ROUTER_PREFIX = "router/"
_MAX_KEY_CHARACTERS = 255
# It becomes part of a workflow id and of URLs.
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def incoming_of(
    request: web.Request, router_id: str | None, raw: bytes, body: dict[str, Any], checked: ChatBody, received_at: float
) -> Incoming:
    """The request to submit; `raw` is what the workflow keeps and `body` what it says. Without a `router_id` the body's
    `model` names the target. Raises InvalidRequest, PermissionDenied.
    """
    model_id = None
    if router_id is None:
        router_id, model_id = _target(checked)
    principal = request[PRINCIPAL]
    check_allowed(principal, router_id)
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


def check_allowed(principal: Principal, router_id: str | None) -> None:
    """Raise PermissionDenied where the key is for other routers only; None stands for a model called directly."""
    if principal.allowed_routers is not None and router_id not in principal.allowed_routers:
        raise PermissionDenied(
            "This API key may not use this router." if router_id else "This key is for routers only."
        )


def _target(checked: ChatBody) -> tuple[str | None, str | None]:
    """`router/{id}` routes; anything else is a model of the catalogue."""
    if not checked.model:
        raise InvalidRequest("model: router/{routerId} or a model of the catalogue was expected", param="model")
    if checked.model.startswith(ROUTER_PREFIX):
        return checked.model.removeprefix(ROUTER_PREFIX), None
    return None, checked.model


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
