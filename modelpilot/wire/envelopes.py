"""What an error body says, whoever wrote it: every common envelope is read into one shape.

OpenAI and Azure (`error`, `innererror`), Anthropic, Gemini (also as a list, with `details`), FastAPI and its relatives
(`detail`), Mistral and vLLM (`object: error`), Cohere (`message`), OpenRouter (`metadata.raw`, the upstream's own
body), Ollama and Hugging Face (`error` as text, `error_type`), Cloudflare (`errors`), AWS (`__type`), problem details
(RFC 9457), and plain text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects

# How deep a reason may be wrapped; nobody wraps it deeper.
_DEEPEST = 5
_WRAPPERS = ("error", "errors", "detail", "message")
# Where the text is, what says most before what may be a mere word.
_TEXTS = (
    "message", "msg", "Message", "error_description", "error_message", "error_msg", "detail", "error", "errors",
    "title",
)  # fmt: skip
_WORDS = ("code", "type", "status", "reason", "error_type", "error_code", "__type")
_CODES = ("code", "error_code")
_STATUSES = ("code", "status", "http_status", "http_status_code", "statusCode", "status_code")
_HTTP_STATUS = re.compile(r"[45][0-9]{2}")
_MOST_PROBLEMS = 3  # of a list, in one message


@dataclass(frozen=True, slots=True)
class ErrorEnvelope:
    """What an error body says. `names` are its machine-readable words (code, type, status, reason), lower case; `code`
    and `param` are as the provider wrote them."""

    message: str | None = None
    names: frozenset[str] = frozenset()
    status: int | None = None  # the HTTP status named inside the body
    retry_after_s: float | None = None
    flagged: bool = False  # the input was flagged by moderation
    code: str | None = None
    param: str | None = None
    relayed: bool = False  # it is the error of somebody behind the provider


def read_envelope(body: Any) -> ErrorEnvelope | None:
    """The error in parsed JSON, or None where the JSON is no error."""
    if isinstance(body, list) and body:
        body = body[0]  # Gemini without SSE wraps everything in an array
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    told = isinstance(error, dict) or (isinstance(error, str) and error)
    return _read(body) if told or body.get("object") == "error" or body.get("type") == "error" else None


def read_error_body(body: bytes) -> ErrorEnvelope:
    """The error in the body of an error response, which may be any text at all."""
    try:
        parsed = orjson.loads(_data_of_event(body))
    except ValueError:
        return ErrorEnvelope(message=_plain_text(body))
    if isinstance(parsed, str):
        return ErrorEnvelope(message=parsed or None)
    return _read(_object(parsed) or {})


def _data_of_event(body: bytes) -> bytes:
    """The data where an error answer is written as a server-sent event, else the body."""
    if not body.startswith((b"data:", b"event:", b"id:", b":")):
        return body
    lines = (line for line in body.splitlines() if line.startswith(b"data:"))
    return next(lines, body).removeprefix(b"data:")


def _plain_text(body: bytes) -> str | None:
    text = body.decode("utf-8", "replace").strip()
    # A proxy's HTML page or broken JSON says nothing to the reader of an error message.
    return None if not text or text[0] in "<{[" else text


def _read(body: JsonObject) -> ErrorEnvelope:
    layers = _layers(body)
    details = [detail for layer in layers for detail in as_objects(layer.get("details"))]
    metadata = [as_object(layer.get("metadata")) for layer in layers]
    problems = _problems(layers)
    envelope = ErrorEnvelope(
        message=_message(layers, problems),
        names=frozenset(_words(*layers, *details, *problems, *(as_object(each.get("innererror")) for each in layers))),
        status=next((status for layer in layers if (status := _status(layer)) is not None), None),
        retry_after_s=next((delay for detail in details if (delay := _delay(detail)) is not None), None),
        # OpenRouter reports moderation as 403 and says what was flagged in the metadata.
        flagged=any("flagged_input" in each for each in metadata),
        code=next((code for layer in layers for key in _CODES if (code := _code(layer.get(key))) is not None), None),
        param=_param(layers, details),
    )
    raw = next((each["raw"] for each in metadata if each.get("raw")), None)
    return envelope if raw is None else _with_upstream(envelope, raw)


def _layers(body: JsonObject) -> list[JsonObject]:
    """The body and the objects that its reason is wrapped in, the innermost first."""
    layers = [body]
    while len(layers) < _DEEPEST:
        inner = next((found for key in _WRAPPERS if (found := _object(layers[0].get(key))) is not None), None)
        if inner is None:
            break
        layers.insert(0, inner)
    return layers


def _object(value: Any) -> JsonObject | None:
    """`value` as an object, or the first one of a list."""
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict)), None)
    return value if isinstance(value, dict) else None


def _problems(layers: list[JsonObject]) -> list[JsonObject]:
    """What FastAPI and its relatives list: an object for each field that is wrong."""
    lists = (layer.get(key) for layer in layers for key in _WRAPPERS)
    return next((found for value in lists if len(found := as_objects(value)) > 1), [])


def _message(layers: list[JsonObject], problems: list[JsonObject]) -> str | None:
    if problems:
        told = [text for problem in problems[:_MOST_PROBLEMS] if (text := _message([problem], [])) is not None]
        return "; ".join(told) or None
    for layer in layers:
        text = next((text for key in _TEXTS if (text := _text(layer.get(key))) is not None), None)
        if text is not None:
            path = _path(layer.get("loc"))
            return f"{path}: {text}" if path else text
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return "; ".join(item for item in value[:_MOST_PROBLEMS] if isinstance(item, str)) or None
    return value if isinstance(value, str) and value else None


def _words(*objects: JsonObject) -> Iterator[str]:
    for item in objects:
        for key in _WORDS:
            if isinstance(word := item.get(key), str):
                yield word.rpartition("#")[2].lower()  # AWS: com.amazon.coral.validate#ValidationException


def _status(error: JsonObject) -> int | None:
    for key in _STATUSES:
        value = str(error.get(key, ""))
        if _HTTP_STATUS.fullmatch(value):
            return int(value)
    return None


def _code(value: Any) -> str | None:
    """A code that says more than the HTTP status, which some repeat there."""
    return value if isinstance(value, str) and value and not _HTTP_STATUS.fullmatch(value) else None


def _param(layers: list[JsonObject], details: list[JsonObject]) -> str | None:
    named = (param for layer in layers for param in (layer.get("param"), _path(layer.get("loc"))))
    # google.rpc.BadRequest
    violations = (each.get("field") for detail in details for each in as_objects(detail.get("fieldViolations")))
    return next((param for source in (named, violations) for param in source if isinstance(param, str) and param), None)


def _path(location: Any) -> str | None:
    """FastAPI's `["body", "messages", 0, "content"]` as `messages[0].content`."""
    if not isinstance(location, list):
        return None
    steps = location[1:] if location[:1] in (["body"], ["query"], ["path"]) else location
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".") or None


def _delay(detail: JsonObject) -> float | None:
    # google.rpc.RetryInfo: a duration such as "34s" or "34.07s".
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s", str(detail.get("retryDelay", "")))
    return float(match[1]) if match else None


def _with_upstream(envelope: ErrorEnvelope, raw: Any) -> ErrorEnvelope:
    """The relay's envelope with what its upstream said, which is the reason: the relay's own text is a general one."""
    inner = _read(raw) if isinstance(raw, dict) else read_error_body(str(raw).encode("utf-8", "replace"))
    return replace(
        envelope,
        message=inner.message or envelope.message,
        names=envelope.names | inner.names,
        code=inner.code or envelope.code,
        param=inner.param or envelope.param,
        relayed=True,
    )
