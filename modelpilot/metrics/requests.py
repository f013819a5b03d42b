"""Which requests analytics are about, and single ones as the site lists and shows them. Never any prompt text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpilot.requests.outcome import BillLine
from modelpilot.requests.records import RequestKey


@dataclass(frozen=True, slots=True)
class AnalyticsScope:
    """Whose requests, and from when to when: `start_s` inclusive, `end_s` exclusive, Unix seconds.

    `user_id` None means every tenant. Only the operator may see that, so whoever builds a scope has to say it.
    `routers` are the only ones that the caller may see (None: all, direct calls included).
    """

    user_id: str | None
    start_s: float
    end_s: float
    routers: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class DataSpan:
    """When a tenant's first and newest request began (Unix seconds); of aggregated hours alone, the hours' ends."""

    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests; None does not narrow. "" of a name: those that have none.

    `request_id` is the beginning of an id. `fallback` True: only those that were not answered by the first choice.
    `end_user` is whom the client asked for; all of `tags` must be there; `purpose` is what was paid for.
    """

    router: str | None = None
    model: str | None = None
    provider: str | None = None
    status: str | None = None
    request_type: str | None = None
    fallback: bool | None = None
    request_id: str | None = None
    end_user: str | None = None
    key: str | None = None
    session: str | None = None
    purpose: str | None = None
    tags: Mapping[str, str] | None = None


NO_FILTER = RequestFilter()

# What a list may be sorted by; the names are those of `LoggedRequest`.
SORTABLE = (
    "created_at", "router_id", "model", "provider", "status", "latency_ms", "ttft_ms", "overhead_ms", "cost_usd",
    "input_tokens", "output_tokens", "request_type", "quality", "attempts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One finished request. None: unknown, or there is none. Times in Unix seconds.

    `end_user` is whom the client asked for, `purpose` what was paid for; `key_name` is how the API key was called when
    the row was read.
    """

    user_id: str
    request_id: str
    created_at: float
    router_id: str | None
    model: str
    provider: str
    status: str
    success: bool
    latency_ms: float
    ttft_ms: float | None
    overhead_ms: float
    cost_usd: float | None
    input_tokens: int
    output_tokens: int
    request_type: str
    quality: float | None
    attempts: int
    fallback_used: bool
    degraded: tuple[str, ...] = ()
    error_code: str | None = None
    end_user: str | None = None
    api_key_id: str | None = None
    session_id: str | None = None
    purpose: str = "request"
    tags: Mapping[str, Any] = field(default_factory=dict)
    key_name: str | None = None

    @property
    def workflow_id(self) -> str:
        """The Temporal workflow id of this request."""
        return RequestKey(self.user_id, self.request_id).workflow_id


@dataclass(frozen=True, slots=True)
class Order:
    """By one of `SORTABLE`; equal ones by time and id, so that pages never overlap."""

    by: str = "created_at"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """One provider call. `started_at` is Unix seconds.

    `bill`, `list_cost_usd` and `estimated` are as in `modelpilot.requests.outcome.Attempt`; rows of before the bills
    have no lines.
    """

    seq: int
    model: str
    provider: str
    deployment: str
    status: str
    error_type: str | None
    http_status: int | None
    started_at: float
    latency_ms: float
    ttft_ms: float | None
    cost_usd: float | None
    input_tokens: int
    output_tokens: int
    bill: tuple[BillLine, ...] = ()
    list_cost_usd: float | None = None
    estimated: str | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What somebody said about the answer: `source` in words, `score` in [0, 1], None where there is none yet."""

    source: str
    score: float | None
    at: float
    status: str = ""


@dataclass(frozen=True, slots=True)
class RequestDetail:
    """Everything that is known of one request but its text. `decision` is JSON as `Decision.to_wire` made it."""

    request: LoggedRequest
    completed_at: float
    finish_reason: str | None
    error_status: int | None
    stream: bool
    config_version: int
    propensity: float
    explored: bool
    cached_tokens: int
    reasoning_tokens: int
    carbon_g: float | None
    quality_source: str | None
    quality_confidence: float | None
    estimated: str | None
    decision: Mapping[str, Any]
    attempts: tuple[LoggedAttempt, ...] = ()
    opinions: tuple[Opinion, ...] = ()
