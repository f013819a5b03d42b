"""The one table from error class to HTTP status, and the shape in which errors leave this process."""

import logging
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from api.http.responses import json_response
from modelpilot import errors

_log = logging.getLogger(__name__)

# These always say when to come back: without a better figure, soon, since restarts take seconds.
_DEFAULT_RETRY_AFTER_S = 1.0
_COME_BACK_STATUSES = frozenset({429, 503})
_RESERVED = frozenset({"message", "type", "param", "code"})


class UnsupportedEncoding(errors.ModelPilotError):
    """The request body is compressed. We take plain bodies only, so that a small body cannot inflate to a huge one."""

    code = "unsupported_content_encoding"


class BodyTooSlow(errors.ModelPilotError):
    """The request body did not come, or too slowly."""

    code = "request_timeout"


@dataclass(frozen=True, slots=True)
class _Row:
    """`retriable`: whether a client that repeats the very same request may succeed."""

    status: int
    type: str
    retriable: bool = False


# A class that is not listed takes the row of its nearest listed base.
_TABLE: Mapping[type[errors.ModelPilotError], _Row] = {
    errors.MalformedBody: _Row(400, "invalid_request_error"),
    errors.InvalidRequest: _Row(422, "invalid_request_error"),
    errors.AuthenticationFailed: _Row(401, "authentication_error"),
    errors.PermissionDenied: _Row(403, "permission_error"),
    errors.NotFound: _Row(404, "not_found_error"),
    errors.Conflict: _Row(409, "conflict_error"),
    errors.PayloadTooLarge: _Row(413, "invalid_request_error"),
    BodyTooSlow: _Row(408, "invalid_request_error", retriable=True),
    UnsupportedEncoding: _Row(415, "invalid_request_error"),
    errors.IdempotencyMismatch: _Row(422, "invalid_request_error"),
    errors.NoCandidate: _Row(422, "invalid_request_error"),
    errors.ContextLengthExceeded: _Row(400, "invalid_request_error"),
    errors.RequestRefused: _Row(400, "invalid_request_error"),
    errors.ModelRefused: _Row(404, "not_found_error"),
    errors.ProviderRejected: _Row(502, "provider_error"),
    errors.ProviderTimedOut: _Row(504, "provider_error", retriable=True),
    errors.ProviderFailed: _Row(502, "provider_error", retriable=True),
    errors.RateLimited: _Row(429, "rate_limit_error", retriable=True),
    errors.RequestCanceled: _Row(499, "request_canceled"),
    errors.DependencyUnavailable: _Row(503, "service_unavailable_error", retriable=True),
    errors.Overloaded: _Row(503, "overloaded_error", retriable=True),
    errors.ModelPilotError: _Row(500, "server_error", retriable=True),
}

# Type and code of what aiohttp itself answers.
_HTTP_KINDS = {
    404: ("not_found_error", "unknown_route"),
    405: ("invalid_request_error", "method_not_allowed"),
    413: ("invalid_request_error", errors.PayloadTooLarge.code),
    500: ("server_error", errors.ModelPilotError.code),
}


@dataclass(frozen=True, slots=True)
class ErrorView:
    """An error as the client will see it, before it is put into an envelope."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = None  # for envelopes that have a place for it


Envelope = Callable[[ErrorView], dict[str, Any]]


def openai_envelope(view: ErrorView) -> dict[str, Any]:
    """OpenAI's error object; our details stand beside its own four fields and never replace them."""
    body: dict[str, Any] = {"message": view.message, "type": view.type, "param": view.param, "code": view.code}
    body.update((key, value) for key, value in view.details.items() if key not in _RESERVED)
    return {"error": body}


def describe(error: BaseException) -> ErrorView:
    """What to tell the client about `error`. Of an unknown exception it learns nothing but that there was one."""
    if isinstance(error, errors.ModelPilotError):
        return _describe_own(error)
    if isinstance(error, web.HTTPException):
        return _describe_http(error)
    return ErrorView(500, "server_error", errors.ModelPilotError.code, "An internal error happened; it was logged.")


def error_response(
    error: BaseException,
    envelope: Envelope = openai_envelope,
    request_id: str | None = None,
    invalid_status: int | None = None,
) -> web.Response:
    """The answer for `error`; `invalid_status` is what this route calls a bad body. The caller logs; see
    `log_unexpected`."""
    view = replace(describe(error), request_id=request_id)
    if invalid_status is not None and isinstance(error, errors.InvalidRequest):
        view = replace(view, status=invalid_status)
    return json_response(envelope(view), view.status, view.headers)


def is_unexpected(error: BaseException) -> bool:
    """Whether `error` is a defect of ours: neither one of our coded errors nor one of aiohttp's own answers."""
    return not isinstance(error, errors.ModelPilotError | web.HTTPException)


def log_unexpected(error: BaseException, method: str, route: str, request_id: str) -> None:
    """Log where an unknown exception came from, without its message: that may hold prompt text or a secret."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("unexpected %s in %s %s, request %s\n%s", type(error).__name__, method, route, request_id, frames)


def _describe_own(error: errors.ModelPilotError) -> ErrorView:
    row = next(_TABLE[cls] for cls in type(error).__mro__ if cls in _TABLE)
    headers = _retry_headers(error, row.status, row.retriable)
    if row.status == 401:
        headers["www-authenticate"] = "Bearer"
    return ErrorView(row.status, row.type, error.code, error.message, error.param, error.details, headers)


def _retry_headers(error: errors.ModelPilotError, status: int, retriable: bool) -> dict[str, str]:
    wait_s = error.retry_after_s
    if wait_s is None and status in _COME_BACK_STATUSES:
        wait_s = _DEFAULT_RETRY_AFTER_S
    headers = {} if wait_s is None else {"retry-after": str(max(1, math.ceil(wait_s)))}
    # The SDKs repeat 409, 429 and every 5xx by themselves; this header is how they are told not to.
    if not retriable and wait_s is None:
        headers["x-should-retry"] = "false"
    return headers


def _describe_http(error: web.HTTPException) -> ErrorView:
    headers = {"x-should-retry": "false"} if error.status < 500 else {}
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["allow"] = ", ".join(sorted(error.allowed_methods))
    kind, code = _HTTP_KINDS.get(error.status, ("invalid_request_error", f"http_{error.status}"))
    return ErrorView(error.status, kind, code, _http_message(error), None, {}, headers)


def _http_message(error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{error.method} is not allowed here; use {', '.join(sorted(error.allowed_methods))}."
    if isinstance(error, web.HTTPNotFound):
        return "There is no such route; /openapi.json lists them all."
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return "The request body is larger than MODELPILOT_MAX_BODY_MB allows."
    return error.reason
