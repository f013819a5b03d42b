"""What happened to a request: every provider call (attempt), how one can fail, and the terminal outcome."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from modelpilot.wire.jsonb import dump

# What a provider refused: its key, the account's credit, the model to this key, a parameter that the model does not
# have, or this request to this model (parameters, length), which another model may take.
Refused = Literal["key", "credit", "model", "parameter", "request"]
OutcomeStatus = Literal["completed", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one provider call. Tokens read from the provider's prompt cache (`cached_tokens`) and written to
    it, for five minutes or an hour, are part of the input, as are those of sound and pictures there, and in the output.
    `web_searches` are those that the provider made."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    web_searches: int = 0

    @property
    def cache_write_tokens(self) -> int:
        """All that was written to the cache, for whatever time."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        """Input plus output; cached and reasoning tokens are parts of those."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class BillLine:
    """So many of one unit came to `usd`; None: its price is unknown. The unit `provider` is what the provider says
    that it charged for everything together."""

    unit: str
    quantity: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call. `seq` orders the calls of a request and, with its id, identifies this one.

    `deployment` is where it went, `provider/providerModel` and the number of the key where there are several ("#2").
    The lines of `bill` add up to `cost_usd`. `list_cost_usd` is what the catalogue's prices come to where the provider
    said itself what it charged. `estimated`: why the counts or the cost are an estimate; None: they are not.
    """

    seq: int
    model: str
    provider: str
    status: Literal["ok", "error", "canceled"]
    error_type: str | None = None
    http_status: int | None = None
    message: str | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    cost_usd: float | None = None
    usage: Usage = field(default_factory=Usage)
    started_at: float = 0.0  # Unix seconds
    deployment: str = ""
    bill: tuple[BillLine, ...] = ()
    list_cost_usd: float | None = None
    estimated: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a streamed answer that one provider call (`seq`) wrote, in characters of its output."""

    seq: int
    model: str
    characters: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A field of the request that did not reach the model that answered as it came: translated, clamped or dropped."""

    field: str
    model: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of the provider step of a request.

    `answer` is the assembled OpenAI-shaped completion (None on failure, or where it lives in the ledger because it
    is larger than a Temporal payload should be: then `answer_stored` is true). `can_fall_back` says whether another
    model may still be tried. `quality` is what the deterministic checks say, None when they say nothing.
    """

    status: OutcomeStatus
    model: str
    provider: str
    attempts: tuple[Attempt, ...] = ()
    answer: dict[str, Any] | None = None
    answer_stored: bool = False
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    ttft_ms: float | None = None
    quality: float | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_status: int | None = None
    provider_code: str | None = None  # the provider's own code, and the parameter that it names
    error_param: str | None = None
    refused: Refused | None = None
    retry_after_s: float | None = None
    can_fall_back: bool = False
    transient: bool = False  # the same model may answer in a moment
    segments: tuple[Segment, ...] = ()  # only where more than one call wrote what the client got
    remaining_ms: float = 0.0  # what is left of the request's total time, for the fallbacks
    adjusted: tuple[Adjustment, ...] = ()  # of the request as the last call sent it
    estimated: str | None = None  # why its counts or its cost are an estimate

    @property
    def latency_ms(self) -> float:
        """The providers' time over all attempts, milliseconds."""
        return sum(attempt.latency_ms for attempt in self.attempts)

    @property
    def success(self) -> bool:
        """A request succeeded when its answer ended by itself (`stop`) or in a tool call."""
        return self.status == "completed" and self.finish_reason in ("stop", "tool_calls")


# Temporal refuses messages over 4 MiB, and all markers of one task share them; above this, payloads go to Postgres.
INLINE_LIMIT_BYTES = 128 * 1024


def without_large_answer(outcome: Outcome) -> Outcome:
    """The outcome as it may enter Temporal: an answer over the limit (as JSON) stays in the ledger only."""
    if outcome.answer is None or len(dump(outcome.answer)) <= INLINE_LIMIT_BYTES:
        return outcome
    return replace(outcome, answer=None, answer_stored=True)


class Remedy(StrEnum):
    """What can help after a failed call, decided once from its status and body."""

    RETRY_SAME = "retry_same"  # transient: the same model may answer in a moment; falling back helps as well
    FALL_BACK = "fall_back"  # this model will not answer this request now; another one may
    GIVE_UP = "give_up"  # the request itself is at fault: no other model will take it either


class ProviderError(Exception):
    """A failed provider call.

    `error_type` is one of: connection_error, timeout_connect, timeout_first_token, timeout_idle, timeout_total,
    stream_cut, malformed_response, rate_limited, server_error, overloaded, authentication, permission, not_found,
    context_length, content_filter, empty_answer, bad_request, answer_too_large. `retry_after_s` is None where the
    provider gave no usable value. `refused` says what the provider refused, `code` and `param` are its own words.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        remedy: Remedy,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        refused: Refused | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.remedy = remedy
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.refused = refused
        self.code = code
        self.param = param
