"""Every fault the simulator can play (one table), and the grammar that asks for them. Pure.

    faults := fault ("+" fault)*          in a model name: `small+503x1+retryafter2`
    fault  := name ["="] [value] ["x" times]

`times` limits a fault to the first so many calls; without it, it lasts for ever. A bare or `fail`-prefixed number from
400 to 599 is `status`. As JSON: `{"status": 503, "retryafter": "2", "times": 1}`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


class SimError(Exception):
    """Ends a simulated call with an error answer: an HTTP status, OpenAI's `code` and `param`, and the text a person
    reads."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


# Status → (OpenAI type, OpenAI code, Anthropic type, Gemini status). Source: the three providers' error pages.
_NAMES = {
    400: ("invalid_request_error", None, "invalid_request_error", "INVALID_ARGUMENT"),
    401: ("invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
    403: ("invalid_request_error", "permission_denied", "permission_error", "PERMISSION_DENIED"),
    404: ("invalid_request_error", "model_not_found", "not_found_error", "NOT_FOUND"),
    408: ("timeout_error", None, "timeout_error", "DEADLINE_EXCEEDED"),
    413: ("invalid_request_error", None, "request_too_large", "INVALID_ARGUMENT"),
    429: ("requests", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    503: ("server_error", "service_unavailable", "api_error", "UNAVAILABLE"),
    504: ("server_error", "timeout", "timeout_error", "DEADLINE_EXCEEDED"),
    529: ("server_error", "overloaded", "overloaded_error", "UNAVAILABLE"),
}
_SERVER = ("server_error", None, "api_error", "INTERNAL")


def names(status: int) -> tuple[str, str | None, str, str]:
    """Return what OpenAI (type and code), Anthropic (type) and Gemini (status) call an error with this HTTP status."""
    return _NAMES.get(status, _SERVER if status >= 500 else _NAMES[400])


_TEXTS = {
    403: "You do not have access to this model",
    404: "The requested model does not exist",
    429: "Rate limit reached for requests",
    500: "The server had an error while processing your request",
    503: "The engine is currently overloaded, please try again later",
    529: "Overloaded",
}


def status_error(status: int, api_key: str) -> SimError:
    """Return a provider's error for `status`; a 401 repeats the key, so that tests can see that nobody passes it on."""
    if status == 401:
        return SimError(401, f"Incorrect API key provided: {api_key}")
    return SimError(status, _TEXTS.get(status, f"Simulated error {status}"))


def context_error(dialect: str, tokens: int, window: int) -> SimError:
    """Return what a provider says to a prompt of `tokens` tokens when its model takes `window`."""
    tokens = max(tokens, window + 1)
    if dialect == "anthropic":
        return SimError(400, f"prompt is too long: {tokens} tokens > {window} maximum")
    if dialect == "gemini":
        message = f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({window})."
        return SimError(400, message)
    message = f"This model's maximum context length is {window} tokens. Your messages resulted in {tokens} tokens."
    return SimError(400, message, "context_length_exceeded", "messages")


def prefill_error() -> SimError:
    """Return what a provider says to a conversation that ends with its own words, where it has no prefill."""
    text = "This model does not support assistant message prefill. The conversation must end with a user message."
    return SimError(400, text, "invalid_prefill", "messages")


def filter_error(dialect: str) -> SimError:
    """Return what a provider says when its content filter refuses the prompt."""
    if dialect == "anthropic":
        return SimError(400, "Output blocked by content filtering policy")
    return SimError(400, "The prompt was rejected by the content filter", "content_filter", "prompt")


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One row of the table: the fault's name, what value it takes, the value if none is given, and what happens."""

    name: str
    takes: Literal["nothing", "number", "text"]
    default: float | None
    does: str


_TABLE = (
    FaultSpec("status", "number", 500, "answers this HTTP status (400…599) with the provider's error body"),
    FaultSpec("retryafter", "text", None, "adds `Retry-After` with this exact text to an error answer"),
    FaultSpec("retrydate", "number", 2, "adds `Retry-After` as an HTTP date this many seconds ahead (may be negative)"),
    FaultSpec("refusekey", "text", None, "answers 401 to calls with exactly this API key"),
    FaultSpec("context", "nothing", None, "answers 400 `context_length_exceeded`"),
    FaultSpec("filter", "nothing", None, "answers 400 `content_filter` (Gemini: 200 with `promptFeedback`)"),
    FaultSpec("filtered", "nothing", None, "answers 200, stops early, finish reason `content_filter`"),
    FaultSpec("reset", "nothing", None, "resets the connection before any header"),
    FaultSpec("hang", "nothing", None, "accepts the request and never answers"),
    FaultSpec("firsttoken", "number", 2000, "sends headers at once, the first token after this many milliseconds"),
    FaultSpec("latency", "number", 1000, "the whole answer comes at once, after this many milliseconds"),
    FaultSpec("tokens", "number", 60, "makes the answer exactly this many tokens long"),
    FaultSpec("cut", "number", 5, "resets the connection after this many tokens (no stream: in mid-body)"),
    FaultSpec("stall", "number", 5, "goes silent after this many tokens (no stream: in mid-body)"),
    FaultSpec("malformed", "number", 1, "puts a broken JSON chunk after this many tokens (no stream: a broken body)"),
    FaultSpec("streamerror", "number", 5, "ends the stream with an error event after this many tokens"),
    FaultSpec("nodone", "nothing", None, "leaves out `[DONE]` or `message_stop`; the connection closes in order"),
    FaultSpec("linger", "nothing", None, "sends the whole stream, `[DONE]` included, and keeps the connection open"),
    FaultSpec("errorbody", "nothing", None, "answers 200 with the body of a 500 error"),
    FaultSpec("html", "nothing", None, "answers 200 with an HTML page"),
    FaultSpec("truncated", "nothing", None, "answers 200 with half of the JSON (stream: ends within a chunk)"),
    FaultSpec("comments", "nothing", None, "answers 200 with SSE comments and nothing else"),
    FaultSpec("noprefill", "nothing", None, "answers 400 if the last message is the assistant's (no prefill)"),
    FaultSpec("flap", "number", 60, "the faults beside it hold for this many seconds, then pause as long, and so on"),
    FaultSpec("wrong", "nothing", None, "answers wrongly, whatever the model's quality"),
    FaultSpec("refuse", "nothing", None, "answers with a refusal"),
    FaultSpec("empty", "nothing", None, "answers with empty content"),
    FaultSpec("thinks", "nothing", None, "shows its thoughts, signed, before each call and before text"),
    FaultSpec("strict", "text", None, "answers 400 to earlier turns that the real provider refuses"),
)
FAULTS = {spec.name: spec for spec in _TABLE}

_TIMES = re.compile(r"(.*?)(?:x(\d{1,9}))?", re.DOTALL)
_STATUS = re.compile(r"(?:fail)?(\d+)|fail")
_BY_LENGTH = sorted(FAULTS, key=len, reverse=True)  # `filtered` before `filter`.


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that was asked for. `times` is on how many calls it plays; None means for ever."""

    name: str
    value: float | str | None
    times: int | None = None


class Active:
    """The faults that play on one call, by name."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._values = {fault.name: fault.value for fault in faults}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def names(self) -> list[str]:
        """The names of the faults, in the order in which they were given."""
        return list(self._values)

    def number(self, name: str) -> float | None:
        """Return the fault's number, or None if the fault does not play."""
        value = self._values.get(name)
        return value if isinstance(value, float) else None

    def text(self, name: str) -> str | None:
        """Return the fault's text, or None if the fault does not play."""
        value = self._values.get(name)
        return value if isinstance(value, str) else None


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Read faults joined by `+`; raises `SimError` (400) on anything that is not in the table."""
    return tuple(_parse_item(item) for item in text.split("+") if item)


def split_model(model: str) -> tuple[str, tuple[Fault, ...]]:
    """Split `small+503x1` into the model's name and its faults."""
    name, _, suffix = model.partition("+")
    return name, parse_faults(suffix)


def from_json(value: Any) -> tuple[Fault, ...]:
    """Read faults from a string in the grammar or an object `{name: value}`, whose `times` holds for all of them."""
    if isinstance(value, str):
        return parse_faults(value)
    if not isinstance(value, Mapping):
        raise SimError(400, "faults must be a string or an object", param="faults")
    times = value.get("times")
    if times is not None and (not isinstance(times, int) or times < 0):
        raise SimError(400, "times must be a whole number of calls", param="times")
    wanted = {name: given for name, given in value.items() if name != "times" and given is not False}
    return tuple(
        _fault(name, None if given is True or given is None else str(given), times) for name, given in wanted.items()
    )


def _parse_item(item: str) -> Fault:
    match = _TIMES.fullmatch(item)
    body, times = match.groups() if match else (item, None)
    count = None if times is None else int(times)
    if status := _STATUS.fullmatch(body):
        return _fault("status", status[1] or None, count)
    name = next((name for name in _BY_LENGTH if body.startswith(name)), None)
    if name is None:
        raise _unknown(item)
    return _fault(name, body[len(name) :].removeprefix("=") or None, count)


def _unknown(name: str) -> SimError:
    return SimError(400, f"unknown fault {name!r}; known: {', '.join(FAULTS)}", param="faults")


def _fault(name: str, given: str | None, times: int | None) -> Fault:
    spec = FAULTS.get(name)
    if spec is None:
        raise _unknown(name)
    if spec.takes == "text":
        return Fault(name, given or "", times)
    if spec.takes == "nothing":
        if given:
            raise SimError(400, f"fault {name!r} takes no value", param="faults")
        return Fault(name, None, times)
    return Fault(name, _number(spec, given), times)


def _number(spec: FaultSpec, given: str | None) -> float:
    try:
        value = float(spec.default or 0) if given is None else float(given)
    except ValueError:
        raise SimError(400, f"fault {spec.name!r} needs a number, not {given!r}", param="faults") from None
    # Written so that NaN fails as well; a year is longer than any test waits.
    if not abs(value) <= 31_536_000 or (value < 0 and spec.name != "retrydate"):
        raise SimError(400, f"fault {spec.name!r} cannot be {given}", param="faults")
    if spec.name == "status" and not 400 <= value <= 599:
        raise SimError(400, "fault 'status' needs a number from 400 to 599", param="faults")
    return value
