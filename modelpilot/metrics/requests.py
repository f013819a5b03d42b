"""Single requests as the analytics site lists and shows them, and the port behind it. Never any prompt text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelpilot.metrics.explore import RequestFilter
from modelpilot.metrics.overview import AnalyticsScope

# What a list may be sorted by; the names are those of `LoggedRequest`.
SORTABLE = (
    "created_at", "router_id", "model", "provider", "status", "latency_ms", "ttft_ms", "overhead_ms", "cost_usd",
    "input_tokens", "output_tokens", "request_type", "quality", "attempts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One finished request. None: unknown, or there is none. Times in Unix seconds."""

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


@dataclass(frozen=True, slots=True)
class Order:
    """By one of `SORTABLE`; equal ones by time and id, so that pages never overlap."""

    by: str = "created_at"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """One provider call. `started_at` is Unix seconds."""

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
    workflow_id: str
    completed_at: float
    finish_reason: str | None
    error_status: int | None
    stream: bool
    config_version: int
    api_key_id: str | None
    session_id: str | None
    tags: Mapping[str, Any]
    propensity: float
    explored: bool
    cached_tokens: int
    reasoning_tokens: int
    carbon_g: float | None
    quality_source: str | None
    quality_confidence: float | None
    decision: Mapping[str, Any]
    attempts: tuple[LoggedAttempt, ...] = ()
    opinions: tuple[Opinion, ...] = field(default=())


class RequestLogReader(Protocol):
    """Lists and shows requests. Synchronous, called from several threads at once; all raise DependencyUnavailable.

    With `wanted.request_id` the times of the scope do not matter: who has an id seldom has the time as well.
    """

    def page(
        self, scope: AnalyticsScope, wanted: RequestFilter, order: Order, start: int, end: int
    ) -> tuple[LoggedRequest, ...]:
        """Requests `start` (inclusive) to `end` of the ordered list. Raises ValueError for an unknown order."""
        ...

    def count(self, scope: AnalyticsScope, wanted: RequestFilter) -> int:
        """How many there are."""
        ...

    def latest(self, user_id: str | None) -> float | None:
        """When the tenant's newest request began; None: it has none."""
        ...

    def detail(self, user_id: str | None, request_id: str, owner: str | None) -> RequestDetail | None:
        """One request of the tenant `user_id`, or (None) of any. Several owners may use the same id: `owner` picks one.

        None where there is none that this tenant may see.
        """
        ...
