"""Every way a provider call can fail, classified by status and error body into a `ProviderError`.

A refusal is sorted by what it is about: the key, its credit, the model, what this model takes, or the request's body.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import quote

from modelpilot.requests.outcome import ProviderError, Refused, Remedy
from modelpilot.wire.envelopes import ErrorEnvelope, read_envelope, read_error_body

MAX_RETRY_AFTER_S = 3_600.0
# Whole seconds are the standard; fractions are common. No sign, no exponent, ASCII digits only.
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """What a Retry-After header says, in every form that providers send, legal or not (RFC 9110, section 10.2.3).

    Seconds from `now_s` (Unix seconds), in [0, MAX_RETRY_AFTER_S]; None for a value that says nothing usable.
    A date in the past means now; a negative or otherwise illegal value counts as absent.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    date = _http_date(text)
    return None if date is None else min(max(date.timestamp() - now_s, 0.0), MAX_RETRY_AFTER_S)


def retry_after_of(headers: Mapping[str, str], now_s: float) -> float | None:
    """The wait that a response's headers ask for, seconds; `retry-after-ms` (OpenAI, Azure) is the finer one.

    `headers` must compare names without regard to case, or have lower-case names.
    """
    milliseconds = (headers.get("retry-after-ms") or "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return min(float(milliseconds) / 1_000.0, MAX_RETRY_AFTER_S)
    return parse_retry_after(headers.get("retry-after"), now_s)


def _http_date(text: str) -> datetime | None:
    # Without a month's name it cannot be a date: keeps "-1" and other junk away from the lenient parser.
    if not re.search(r"[A-Za-z]{3}", text) or len(text) > 64:
        return None
    try:
        date = parsedate_to_datetime(text)
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


# A wait that a request may as well spend on the same model; beyond it another model is quicker.
SHORT_RETRY_AFTER_S = 5.0
_MESSAGE_LIMIT = 500
_NAME_LIMIT = 100  # of a provider's code or parameter

_REMEDIES = {
    "connection_error": Remedy.RETRY_SAME,
    "timeout_connect": Remedy.FALL_BACK,
    "timeout_first_token": Remedy.FALL_BACK,
    "timeout_idle": Remedy.FALL_BACK,
    "stream_cut": Remedy.RETRY_SAME,
    "malformed_response": Remedy.RETRY_SAME,
    "rate_limited": Remedy.RETRY_SAME,
    "server_error": Remedy.RETRY_SAME,
    "overloaded": Remedy.RETRY_SAME,
    "authentication": Remedy.FALL_BACK,
    "permission": Remedy.FALL_BACK,
    "not_found": Remedy.FALL_BACK,
    "context_length": Remedy.FALL_BACK,
    "content_filter": Remedy.FALL_BACK,
    "empty_answer": Remedy.FALL_BACK,
    "bad_request": Remedy.FALL_BACK,  # unless it is about the body
    "answer_too_large": Remedy.GIVE_UP,
}

# The key, or all that may be called with it. Any other 403 is believed of the model alone.
_KEY_NAMES = frozenset(
    {"invalid_api_key", "api_key_invalid", "authentication_error", "account_deactivated", "consumer_suspended"}
    | {"api_key_service_blocked", "api_key_ip_address_blocked", "api_key_http_referrer_blocked", "service_disabled"}
    | {"unsupported_country_region_territory"}
)
# The provider has no such model for this key.
_MODEL_NAMES = frozenset(
    {"model_not_found", "invalid_model", "unsupported_model", "model_not_supported", "model_decommissioned"}
    | {"deploymentnotfound", "deployment_not_found"}
)
# The account behind the key has no money left.
_CREDIT_NAMES = frozenset(
    {"insufficient_quota", "billing_error", "billing_not_active", "billing_hard_limit_reached", "insufficient_balance"}
    | {"exceeded_current_quota_error", "arrearage", "billing_disabled"}
)
# Names that say more than the status beside them (most are hidden behind a plain 400).
_REFINING_NAMES = {
    "context_length_exceeded": "context_length",
    "context_window_exceeded": "context_length",
    "contextwindowexceedederror": "context_length",  # LiteLLM
    "exceed_context_size_error": "context_length",  # llama.cpp
    "model_max_prompt_tokens_exceeded": "context_length",
    "request_too_large": "context_length",
    "tokens_limit_reached": "context_length",  # GitHub Models
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "data_inspection_failed": "content_filter",  # Alibaba
    "image_content_policy_violation": "content_filter",
    "invalid_prompt": "content_filter",  # OpenAI: flagged under its usage policy
    "moderation_blocked": "content_filter",
    "responsibleaipolicyviolation": "content_filter",
    **dict.fromkeys(_KEY_NAMES, "authentication"),
    "failed_precondition": "permission",
    **dict.fromkeys(_CREDIT_NAMES - {"insufficient_quota"}, "permission"),
    **dict.fromkeys(_MODEL_NAMES, "not_found"),
    "overloaded_error": "overloaded",
    "overloaded": "overloaded",
    "unavailable": "overloaded",
}
# Names that decide only where there is no status: an error inside a 200 or inside a stream.
_NAMES = {
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "resource_exhausted": "rate_limited",
    "insufficient_quota": "rate_limited",
    "permission_error": "permission",
    "permission_denied": "permission",
    "unauthenticated": "authentication",
    "not_found_error": "not_found",
    "not_found": "not_found",
    "notfounderror": "not_found",
    "invalid_request_error": "bad_request",
    "invalid_argument": "bad_request",
}
_STATUSES = {
    400: "bad_request",
    401: "authentication",
    402: "permission",
    403: "permission",
    404: "not_found",
    405: "not_found",
    408: "server_error",
    409: "server_error",
    410: "not_found",
    413: "context_length",
    422: "bad_request",
    425: "overloaded",
    429: "rate_limited",
    529: "overloaded",
}
# Statuses of a server that did wait for its model, in vain: that model is not asked again.
_SILENT_MODEL_STATUSES = frozenset({504, 522, 524})
# Anthropic, Gemini, vLLM and Ollama give this case no code of its own, so that only the text tells it apart.
_CONTEXT_LENGTH_TEXT = re.compile(
    r"(?:prompt|input) is too long|maximum context length|context (?:length|window|size)"
    r"|input token count .* exceeds|exceeds the maximum number of tokens|too many tokens"
    r"|reduce the length of the|maximum (?:prompt|input|sequence) length",
    re.IGNORECASE,
)
# A parameter that the model does not have, whatever its value.
_NO_PARAMETER_NAMES = frozenset({"unsupported_parameter", "unknown_parameter", "extra_forbidden"})
# What one model does not take and another may: its limits, its modalities, how it wants to be continued.
_OF_MODEL = re.compile(r"unsupported|not_supported|unknown_|extra_|_above_max|_too_|prefill")
# What no model takes.
_MALFORMED_NAMES = frozenset(
    {"invalid_json", "json_invalid", "malformed_json", "invalid_image", "image_parse_error", "empty_image_file"}
    | {"invalid_base64", "invalid_base64_image"}
)
# Anthropic's filter is a plain invalid_request_error as well.
_CONTENT_FILTER_TEXT = re.compile(r"content filtering policy", re.IGNORECASE)


def classify_response(status: int, body: bytes, headers: Mapping[str, str], now_s: float) -> ProviderError:
    """The failure that an HTTP response with an error status (or a redirect) stands for.

    `headers` must compare names without regard to case, or have lower-case names; `now_s` is Unix seconds.
    """
    if status < 400:
        message = f"the provider answered {status} instead of an answer; redirects are not followed"
        return ProviderError("malformed_response", message, Remedy.FALL_BACK, http_status=status)
    return _classify(read_error_body(body), status, retry_after_of(headers, now_s))


def classify_embedded(body: Any, http_status: int | None = 200) -> ProviderError | None:
    """The error inside the parsed JSON of a 200 answer or of a stream's event; None where it holds none."""
    envelope = read_envelope(body)
    return None if envelope is None else _classify(envelope, http_status or 200, None)


def classify_error_event(data: bytes) -> ProviderError:
    """The failure that a stream's `error` event stands for, whatever its data look like."""
    return _classify(read_error_body(data), 200, None)


def connection_error(reason: str) -> ProviderError:
    """No connection, or one that broke before the answer began."""
    return _failure("connection_error", reason)


def timed_out(phase: Literal["connect", "first_token", "idle"], limit_ms: int) -> ProviderError:
    """The provider was silent for too long: no connection, no first token, or nothing between two events."""
    what = {"connect": "took no connection", "first_token": "sent no token", "idle": "went silent"}[phase]
    return _failure(f"timeout_{phase}", f"the provider {what} for {limit_ms} ms")


def stream_cut(reason: str = "the provider's stream ended before the answer was complete") -> ProviderError:
    """The answer broke off."""
    return _failure("stream_cut", reason)


def malformed(reason: str) -> ProviderError:
    """The provider sent something that is no answer of its wire format."""
    return _failure("malformed_response", reason)


def too_large(limit_bytes: int) -> ProviderError:
    """The answer is larger than we keep: who repeated the call would pay for the same again."""
    return _failure("answer_too_large", f"the provider's answer is larger than {limit_bytes} bytes")


def filtered(reason: str) -> ProviderError:
    """The provider's content filter left nothing of the answer."""
    return _failure("content_filter", reason)


def empty() -> ProviderError:
    """The model has said nothing, and nothing says why: the same model would most likely say the same again."""
    return _failure("empty_answer", "the provider's answer is empty: it ended without text, tool call or refusal")


def rejected(reason: str) -> ProviderError:
    """The request cannot be sent as it is, to nobody."""
    return ProviderError("bad_request", reason, Remedy.GIVE_UP)


def scrub(error: ProviderError, secret: str | None) -> None:
    """Make what `error` says short, printable and free of the provider's key, even if it was echoed.

    In place, so that no exception with the raw message stays behind as a context.
    """
    message = _clean(error.message, secret)
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + " …"
    error.message = message
    error.args = (message,)
    error.code = error.code and _clean(error.code, secret)[:_NAME_LIMIT]
    error.param = error.param and _clean(error.param, secret)[:_NAME_LIMIT]


def _clean(text: str, secret: str | None) -> str:
    return "".join(char if char.isprintable() else " " for char in redact(text, secret)).strip()


def redact(text: str, secret: str | None) -> str:
    """`text` without `secret`, in clear or percent-encoded. Secrets under four characters are none."""
    if secret is None or len(secret) < 4:
        return text
    for form in (secret, quote(secret, safe=""), quote(secret)):
        text = text.replace(form, "[redacted]")
    return text


def _failure(error_type: str, message: str) -> ProviderError:
    return ProviderError(error_type, message, _REMEDIES[error_type])


def _classify(envelope: ErrorEnvelope, http_status: int, retry_after_s: float | None) -> ProviderError:
    status = http_status if http_status >= 400 else envelope.status
    error_type = _error_type(envelope, status)
    refused = _refused(envelope, error_type, status)
    if retry_after_s is None and envelope.retry_after_s is not None:
        retry_after_s = min(envelope.retry_after_s, MAX_RETRY_AFTER_S)
    return ProviderError(
        error_type,
        envelope.message or f"the provider answered {status or http_status} without a reason",
        _remedy(error_type, status, retry_after_s, refused),
        http_status=http_status,
        retry_after_s=retry_after_s,
        refused=refused,
        code=envelope.code,
        param=envelope.param,
    )


def _error_type(envelope: ErrorEnvelope, status: int | None) -> str:
    if envelope.flagged:
        return "content_filter"
    if (refined := _named(envelope, _REFINING_NAMES)) is not None:
        # The key that somebody behind a relay refuses is not the one that the relay was called with.
        return "permission" if envelope.relayed and refined == "authentication" else refined
    error_type = _by_status(status) if status is not None else _named(envelope, _NAMES) or "server_error"
    return _by_text(envelope.message or "") if error_type == "bad_request" else error_type


def _refused(envelope: ErrorEnvelope, error_type: str, status: int | None) -> Refused | None:
    """What the provider refused; None where it refused nothing, or the body of the request itself."""
    if error_type == "authentication":
        return "key"
    if error_type in ("permission", "rate_limited") and (status == 402 or envelope.names & _CREDIT_NAMES):
        return "credit"
    if error_type == "permission":
        return "model"
    if error_type == "not_found":
        # OpenRouter's 404 may mean that nobody serves the model with these parameters.
        is_named = envelope.names & _MODEL_NAMES or _named(envelope, _NAMES) == "not_found"
        return "model" if is_named else "request"
    if error_type == "bad_request":
        return _refused_request(envelope)
    return "request" if error_type == "context_length" else None


def _refused_request(envelope: ErrorEnvelope) -> Refused | None:
    """A refusal is believed to be about the model unless it is clearly about the body: to ask another model in vain
    costs nothing, and not to ask one that would have answered costs the answer."""
    if envelope.names & _NO_PARAMETER_NAMES:
        return "parameter"
    if envelope.names & _MALFORMED_NAMES:
        return None
    of_messages = re.match(r"messages\b", envelope.param or "")
    # The type of a content part is a modality, which another model may have.
    if not of_messages or (envelope.param or "").endswith(".type") or any(map(_OF_MODEL.search, envelope.names)):
        return "request"
    return None


def _by_text(message: str) -> str:
    if _CONTEXT_LENGTH_TEXT.search(message):
        return "context_length"
    return "content_filter" if _CONTENT_FILTER_TEXT.search(message) else "bad_request"


def _by_status(status: int) -> str:
    return _STATUSES.get(status, "bad_request" if status < 500 else "server_error")


def _named(envelope: ErrorEnvelope, table: Mapping[str, str]) -> str | None:
    return next((error_type for name, error_type in table.items() if name in envelope.names), None)


def _remedy(error_type: str, status: int | None, retry_after_s: float | None, refused: Refused | None) -> Remedy:
    remedy = _REMEDIES[error_type]
    if error_type == "bad_request" and refused is None:
        return Remedy.GIVE_UP
    if remedy is not Remedy.RETRY_SAME:
        return remedy
    long_wait = retry_after_s is not None and retry_after_s > SHORT_RETRY_AFTER_S
    # A used-up quota is a 429 that no wait mends.
    hopeless = status in _SILENT_MODEL_STATUSES or refused is not None
    return Remedy.FALL_BACK if long_wait or hopeless else remedy
