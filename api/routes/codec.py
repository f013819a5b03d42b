"""`POST /codec/decode`: Temporal's remote codec protocol, by which the Web UI shows payloads in clear.

The embedded Web UI cannot present an API key, so on a development machine a request from the loopback address that
carries exactly the UI's origin is let in; anybody else needs the scope `admin`. Every use is logged.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from aiohttp import hdrs, web
from google.protobuf import json_format
from temporalio.api.common.v1 import Payloads
from temporalio.converter import PayloadCodec

from api.http.bodies import read_bytes
from api.http.middleware import presented_key
from api.http.registry import RouteSpec
from api.services import SERVICES
from modelpilot.errors import InvalidRequest, MalformedBody, PermissionDenied

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CodecAccess:
    """Who may decode without a key: pages of exactly these origins on this machine, and nobody if there are none."""

    codec: PayloadCodec
    local_origins: Sequence[str] = ()


CODEC: web.AppKey[CodecAccess] = web.AppKey("codec", CodecAccess)


def routes() -> list[RouteSpec]:
    """The route of this module. Its application has `CODEC`."""
    summary = "Decode Temporal payloads (remote codec protocol)"
    return [RouteSpec("POST", "/codec/decode", _decode, "public", summary, "codec")]


async def _decode(request: web.Request) -> web.StreamResponse:
    access = request.app[CODEC]
    who = await _admitted(request, access)
    try:
        payloads = json_format.Parse((await read_bytes(request)).decode(), Payloads())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise MalformedBody("The body is not a list of Temporal payloads.") from error
    try:
        decoded = await access.codec.decode(payloads.payloads)
    except Exception as error:
        raise InvalidRequest("A payload cannot be decrypted with the configured keys.", param="payloads") from error
    log.info("payloads_decoded", by=who, count=len(decoded))
    return web.json_response(text=json_format.MessageToJson(Payloads(payloads=decoded)))


async def _admitted(request: web.Request, access: CodecAccess) -> str:
    if request.headers.get(hdrs.ORIGIN) in access.local_origins and _is_loopback(request.remote):
        return "local web ui"
    principal = await request.app[SERVICES].authenticator.authenticate(presented_key(request.headers))
    if not principal.operator or "admin" not in principal.scopes:
        raise PermissionDenied("Decoding payloads needs the operator's admin key.")
    return principal.api_key_id


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
