"""Every way a provider call can fail, classified by status and error body into a `ProviderError`.

The error bodies of OpenAI, Anthropic, Gemini and their many relatives are read into one shape.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import quote

import orjson

from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects


@dataclass(frozen=True, slots=True)
class _ErrorEnvelope:
    """What an error body says. `names` are its machine-readable words (code, type, status, reason), lower case."""

    message: str | None = None
    names: frozenset[str] = frozenset()
    status: int | None = None  # the HTTP status named inside the body
    retry_after_s: float | None = None
    flagged: bool = False  # the input was flagged by moderation


def _read_envelope(body: Any) -> _ErrorEnvelope | None:
    """The error in parsed JSON, or None where the JSON is no error."""
    if isinstance(body, list) and body:
        body = body[0]  # Gemini without SSE wraps everything in an array
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return _from_object(error)
    if isinstance(error, str) and error:
        return _ErrorEnvelope(message=error, names=frozenset(_words(body)), status=_status(body))
    if body.get("object") == "error" or body.get("type") == "error":
        return _from_object(body)
    return None


def _read_error_body(body: bytes) -> _ErrorEnvelope:
    """The error in the body of an error response, which may be any text at all."""
    try:
        parsed = orjson.loads(body)
    except ValueError:
        return _ErrorEnvelope(message=_plain_text(body))
    if (envelope := _read_envelope(parsed)) is not None:
        return envelope
    fields = as_object(parsed)
    message = next((fields[key] for key in ("message", "detail") if isinstance(fields.get(key), str)), None)
    return _ErrorEnvelope(message=message, names=frozenset(_words(fields)))


def _from_object(error: JsonObject) -> _ErrorEnvelope:
    details = as_objects(error.get("details"))
    message = error.get("message")
    return _ErrorEnvelope(
        message=message if isinstance(message, str) else None,
        names=frozenset(_words(error, as_object(error.get("innererror")), *details)),
        status=_status(error),
        retry_after_s=next((delay for detail in details if (delay := _delay(detail)) is not None), None),
        # OpenRouter reports moderation as 403 and says what was flagged in the metadata.
        flagged="flagged_input" in as_object(error.get("metadata")),
    )


def _words(*objects: JsonObject) -> Iterator[str]:
    for item in objects:
        for key in ("code", "type", "status", "reason"):
            if isinstance(word := item.get(key), str):
                yield word.lower()


def _status(error: JsonObject) -> int | None:
    for key in ("code", "status", "http_status"):
        value = str(error.get(key, ""))
        if re.fullmatch(r"[45][0-9]{2}", value):
            return int(value)
    return None


def _delay(detail: JsonObject) -> float | None:
    # google.rpc.RetryInfo: a duration such as "34s" or "34.07s".
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s", str(detail.get("retryDelay", "")))
    return float(match[1]) if match else None


def _plain_text(body: bytes) -> str | None:
    text = body.decode("utf-8", "replace").strip()
    # A proxy's HTML page or broken JSON says nothing to the reader of an error message.
    return None if not text or text[0] in "<{[" else text


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
    "bad_request": Remedy.GIVE_UP,
    "answer_too_large": Remedy.GIVE_UP,
}

# Names that say more than the status beside them (most are hidden behind a plain 400).
_REFINING_NAMES = {
    "context_length_exceeded": "context_length",
    "request_too_large": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "responsibleaipolicyviolation": "content_filter",
    "invalid_api_key": "authentication",
    "api_key_invalid": "authentication",
    "authentication_error": "authentication",
    "failed_precondition": "permission",
    "model_not_found": "not_found",
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
    "billing_error": "permission",
    "unauthenticated": "authentication",
    "not_found_error": "not_found",
    "not_found": "not_found",
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
    r"prompt is too long|maximum context length|context (?:length|window|size)"
    r"|input token count .* exceeds|exceeds the maximum number of tokens",
    re.IGNORECASE,
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
    return _classify(_read_error_body(body), status, retry_after_of(headers, now_s))


def classify_embedded(body: Any, http_status: int | None = 200) -> ProviderError | None:
    """The error inside the parsed JSON of a 200 answer or of a stream's event; None where it holds none."""
    envelope = _read_envelope(body)
    return None if envelope is None else _classify(envelope, http_status or 200, None)


def classify_error_event(data: bytes) -> ProviderError:
    """The failure that a stream's `error` event stands for, whatever its data look like."""
    return _classify(_read_error_body(data), 200, None)


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
    """The request cannot be sent as it is."""
    return _failure("bad_request", reason)


def scrub(error: ProviderError, secret: str | None) -> None:
    """Make the message of `error` short, printable and free of the provider's key, even if it was echoed.

    In place, so that no exception with the raw message stays behind as a context.
    """
    message = "".join(char if char.isprintable() else " " for char in redact(error.message, secret)).strip()
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + " …"
    error.message = message
    error.args = (message,)


def redact(text: str, secret: str | None) -> str:
    """`text` without `secret`, in clear or percent-encoded. Secrets under four characters are none."""
    if secret is None or len(secret) < 4:
        return text
    for form in (secret, quote(secret, safe=""), quote(secret)):
        text = text.replace(form, "[redacted]")
    return text


def _failure(error_type: str, message: str) -> ProviderError:
    return ProviderError(error_type, message, _REMEDIES[error_type])


def _classify(envelope: _ErrorEnvelope, http_status: int, retry_after_s: float | None) -> ProviderError:
    status = http_status if http_status >= 400 else envelope.status
    error_type = _error_type(envelope, status)
    if retry_after_s is None and envelope.retry_after_s is not None:
        retry_after_s = min(envelope.retry_after_s, MAX_RETRY_AFTER_S)
    return ProviderError(
        error_type,
        envelope.message or f"the provider answered {status or http_status} without a reason",
        _remedy(error_type, status, retry_after_s, envelope),
        http_status=http_status,
        retry_after_s=retry_after_s,
        unhealthy_key=error_type == "authentication" or (error_type == "permission" and status == 403),
    )


def _error_type(envelope: _ErrorEnvelope, status: int | None) -> str:
    if envelope.flagged:
        return "content_filter"
    if (refined := _named(envelope, _REFINING_NAMES)) is not None:
        return refined
    error_type = _by_status(status) if status is not None else _named(envelope, _NAMES) or "server_error"
    return _by_text(envelope.message or "") if error_type == "bad_request" else error_type


def _by_text(message: str) -> str:
    if _CONTEXT_LENGTH_TEXT.search(message):
        return "context_length"
    return "content_filter" if _CONTENT_FILTER_TEXT.search(message) else "bad_request"


def _by_status(status: int) -> str:
    return _STATUSES.get(status, "bad_request" if status < 500 else "server_error")


def _named(envelope: _ErrorEnvelope, table: Mapping[str, str]) -> str | None:
    return next((error_type for name, error_type in table.items() if name in envelope.names), None)


def _remedy(error_type: str, status: int | None, retry_after_s: float | None, envelope: _ErrorEnvelope) -> Remedy:
    remedy = _REMEDIES[error_type]
    if remedy is not Remedy.RETRY_SAME:
        return remedy
    long_wait = retry_after_s is not None and retry_after_s > SHORT_RETRY_AFTER_S
    # A used-up quota is a 429 that no wait mends.
    hopeless = status in _SILENT_MODEL_STATUSES or "insufficient_quota" in envelope.names
    return Remedy.FALL_BACK if long_wait or hopeless else remedy
