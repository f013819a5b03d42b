"""What every request passes, outermost first: request id, error mapping, CORS, authentication and scope.

The headers that every answer carries are set when it is prepared, so that streams and errors have them as well.
"""

import re
import secrets
from collections.abc import Mapping

from aiohttp import hdrs, web

from api.http.bodies import EXPECTS_CONTINUE
from api.http.errors import error_response, is_unexpected, log_unexpected, openai_envelope
from api.http.registry import ROUTES, Handler, RouteSpec
from api.services import SERVICES
from modelpilot.errors import PermissionDenied, RequestCanceled
from modelpilot.requests.records import Principal

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
_STARTED: web.RequestKey[web.StreamResponse] = web.RequestKey("started", web.StreamResponse)

GOOGLE_KEY = "x-goog-api-key"
_X_REQUEST_ID = "x-request-id"
_EXPOSED_HEADERS = (
    "x-request-id, x-modelpilot-model, x-modelpilot-overhead-ms, x-modelpilot-attempts, x-modelpilot-degraded, "
    "server-timing, retry-after, x-should-retry"
)
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]+(\s*,\s*[A-Za-z0-9_-]+)*")
_PREFLIGHT_MAX_AGE_S = 600
# A body that is answered before it was read is read and thrown away, since a client that is still sending would miss
# the answer; with more than this to come its connection ends then.
_UNREAD_BYTES = 64 * 1024


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id. A route whose id is derived otherwise overwrites `request[REQUEST_ID]`."""
    request[REQUEST_ID] = f"req_{secrets.token_hex(16)}"
    return await handler(request)


@web.middleware
async def map_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into the error shape of its route."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return error if error.status < 400 else _answer_error(request, error)
    except Exception as error:  # noqa: BLE001 - the one place where every defect becomes a 500
        return _answer_error(request, error)


@web.middleware
async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a CORS preflight of a configured origin; any other OPTIONS learns which methods the path has."""
    if request.method != hdrs.METH_OPTIONS:
        return await handler(request)
    is_preflight = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    if not is_preflight or request.headers.get(hdrs.ORIGIN) not in request.app[SERVICES].cors_origins:
        return await _answer_options(request, handler)
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, PUT, DELETE",
        hdrs.ACCESS_CONTROL_MAX_AGE: str(_PREFLIGHT_MAX_AGE_S),
    }
    asked_for = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    if _HEADER_NAMES.fullmatch(asked_for):
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked_for
    return web.Response(status=204, headers=headers)


async def _answer_options(request: web.Request, handler: Handler) -> web.StreamResponse:
    refusal = request.match_info.http_exception
    if not isinstance(refusal, web.HTTPMethodNotAllowed):
        return await handler(request)
    methods = sorted({*refusal.allowed_methods, hdrs.METH_OPTIONS})
    return web.Response(status=204, headers={hdrs.ALLOW: ", ".join(methods)})


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request in only where its route is declared and its key has the declared scope."""
    match = request.match_info
    if match.http_exception is not None:  # aiohttp's own 404 or 405
        return await handler(request)
    spec = request.app[ROUTES].find(match.route)
    if spec is None:
        raise PermissionDenied("This route was registered without a scope, so nobody may use it.")
    if spec.scope != "public":
        request[PRINCIPAL] = await _admit(request, spec)
    return await handler(request)


async def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: the headers of every answer."""
    request[_STARTED] = response
    if _leaves_much_unread(request):
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"
    response.headers.setdefault(_X_REQUEST_ID, request.get(REQUEST_ID, ""))
    origins = request.app[SERVICES].cors_origins
    if origins:
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin in origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS


def _leaves_much_unread(request: web.Request) -> bool:
    content, length = request.content, request.content_length
    if content.is_eof():
        return False
    # Nobody knows whether a client that was not told to continue sends its body all the same.
    return EXPECTS_CONTINUE in request or length is None or length - content.total_bytes > _UNREAD_BYTES


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The API key that the client presents: a bearer token, or a header as Anthropic's and Google's SDKs send it."""
    scheme, _, token = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", headers.get(GOOGLE_KEY))


async def _admit(request: web.Request, spec: RouteSpec) -> Principal:
    presented = presented_key(request.headers)
    if presented is None and spec.key_in_query:
        presented = request.query.get("key")
    principal = await request.app[SERVICES].authenticator.authenticate(presented)
    if not principal.scopes & {spec.scope, *spec.also}:
        raise PermissionDenied(f"This API key lacks the scope '{spec.scope}'.")
    return principal


def _answer_error(request: web.Request, error: Exception) -> web.StreamResponse:
    if is_unexpected(error):
        if request.transport is None:  # writing to a client that left; nobody is there to be answered
            error = RequestCanceled("The client closed the connection.")
        else:
            log_unexpected(error, request.method, _route_name(request), request[REQUEST_ID])
    started = request.get(_STARTED)
    if started is not None:
        return _cut(request, started)
    spec = request.app[ROUTES].find(request.match_info.route)
    if spec is None:
        return error_response(error, openai_envelope, request[REQUEST_ID])
    return error_response(error, spec.envelope, request[REQUEST_ID], spec.invalid_status)


def _cut(request: web.Request, started: web.StreamResponse) -> web.StreamResponse:
    """An answer that fails half-way must not end like a complete one, and no second answer may follow it."""
    if request.transport is not None:
        request.transport.abort()
    return started


def _route_name(request: web.Request) -> str:
    """The route's pattern: a path itself may hold what a client put there."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(no route)"
