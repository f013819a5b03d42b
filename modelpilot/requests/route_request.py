"""Inputs and results of the workflow that carries a request, and of its activities.

They enter workflow histories: new fields get defaults, so that saved histories still replay.
"""

from dataclasses import dataclass, field
from typing import Any

from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import RequestKey


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How to call: the decided model first, then the fallbacks. Milliseconds.

    `specs` holds the catalogue entry of each (ModelSpec as JSON), so that a catalogue changed meanwhile cannot strand
    a request that was accepted.
    """

    model: str
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    fallback_models: tuple[str, ...] = ()
    retry_attempts: int = 0
    same_model_retries: int = 0
    first_token_ms: int = 30_000
    idle_ms: int = 30_000
    total_ms: int = 120_000
    call_format: str | None = None
    on_stream_cut: str = "resume"  # or "restart": where a repeated stream diverges from what the client has
    connect_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class RouteRequestInput:
    """Everything a recovery needs, so that it never decides anew.

    `owner` is the gateway instance that accepted the request and `nonce` its in-flight entry there; `body` is the
    client's JSON body, or None where it is too large for Temporal and lies encrypted in Postgres.
    """

    user_id: str
    request_id: str
    router_id: str | None
    owner: str
    nonce: str
    created_at: float
    config_version: int
    plan: CallPlan
    decision: dict[str, Any]
    body: str | None
    stream: bool = False
    api_key_id: str | None = None
    store_prompts: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    session_id: str | None = None

    @property
    def key(self) -> RequestKey:
        """The identity of this request."""
        return RequestKey(self.user_id, self.request_id)

    def may_fall_back(self, outcome: Outcome) -> bool:
        """Whether the outcome of the first phase is not the end yet."""
        possible = bool(self.plan.fallback_models) and self.plan.retry_attempts > 0
        return outcome.status == "failed" and outcome.can_fall_back and possible


@dataclass(frozen=True, slots=True)
class StepInput:
    """Input of a local step: the in-flight entry to join, and the whole request only where there is none to join.

    Leaving the request out of the first try keeps six encodings and encryptions of it off the fast path.
    """

    nonce: str
    request: RouteRequestInput | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step of the request path did, small enough for a marker and readable in the Temporal Web UI.

    `missing`: this process holds no such entry; call again with the whole request.
    """

    joined: bool = True
    missing: bool = False
    duration_ms: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallReport:
    """Result of the provider step; `outcome` is None exactly where `missing` is true (see StepReport)."""

    outcome: Outcome | None = None
    missing: bool = False


@dataclass(frozen=True, slots=True)
class FallbackInput:
    """The request plus the failed outcome that made the fallback necessary."""

    request: RouteRequestInput
    failed: Outcome


@dataclass(frozen=True, slots=True)
class RouteRequestResult:
    """Result of a routed request as the workflow reports it; the answer itself where it is small enough."""

    status: str
    model: str
    provider: str
    attempts: int
    cost_usd: float | None
    latency_ms: float
    finish_reason: str | None = None
    error_code: str | None = None
    answer: dict[str, Any] | None = None
