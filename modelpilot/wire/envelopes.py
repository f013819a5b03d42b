"""The error bodies of OpenAI, Anthropic, Gemini and their many relatives, read into one shape."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects


@dataclass(frozen=True, slots=True)
class ErrorEnvelope:
    """What an error body says. `names` are its machine-readable words (code, type, status, reason), lower case."""

    message: str | None = None
    names: frozenset[str] = frozenset()
    status: int | None = None  # the HTTP status named inside the body
    retry_after_s: float | None = None
    flagged: bool = False  # the input was flagged by moderation


def read_envelope(body: Any) -> ErrorEnvelope | None:
    """The error in parsed JSON, or None where the JSON is no error."""
    if isinstance(body, list) and body:
        body = body[0]  # Gemini without SSE wraps everything in an array
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return _from_object(error)
    if isinstance(error, str) and error:
        return ErrorEnvelope(message=error, names=frozenset(_words(body)), status=_status(body))
    if body.get("object") == "error" or body.get("type") == "error":
        return _from_object(body)
    return None


def read_error_body(body: bytes) -> ErrorEnvelope:
    """The error in the body of an error response, which may be any text at all."""
    try:
        parsed = orjson.loads(body)
    except ValueError:
        return ErrorEnvelope(message=_plain_text(body))
    if (envelope := read_envelope(parsed)) is not None:
        return envelope
    fields = as_object(parsed)
    message = next((fields[key] for key in ("message", "detail") if isinstance(fields.get(key), str)), None)
    return ErrorEnvelope(message=message, names=frozenset(_words(fields)))


def _from_object(error: JsonObject) -> ErrorEnvelope:
    details = as_objects(error.get("details"))
    message = error.get("message")
    return ErrorEnvelope(
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
