"""Inputs and results of the workflow that carries a request, and of its activities.

They enter workflow histories: new fields get defaults, so that saved histories still replay.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from modelpilot import names
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import RequestKey
from modelpilot.routing.router import Timeouts
from modelpilot.wire.jsonb import load

_DEFAULTS = Timeouts()


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How to call: the decided model first, then the fallbacks. Milliseconds.

    `specs` holds the catalogue entry of each that is named here (ModelSpec as JSON), so that a catalogue changed
    meanwhile cannot strand a request that was accepted.
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
    upstream: str = "stream"  # or "whole": how answers are asked for, whatever the client wants
    # Where a model's refusal goes on to: the fallbacks, then the decision's next candidates.
    next_models: tuple[str, ...] = ()
    strict_parameters: bool = False  # a model that cannot take a hint as it is, is not asked

    def is_hasty(self, error_type: str | None) -> bool:
        """Whether a call that failed so ran into a limit below the default one: such a failure tells how long this
        router waits, and nothing of who was called."""
        match error_type:
            case "timeout_connect":
                return self.connect_ms < _DEFAULTS.connect_ms
            case "timeout_first_token":
                return self.first_token_ms < _DEFAULTS.first_token_ms
            case "timeout_idle":
                return self.idle_ms < _DEFAULTS.idle_ms
        return False


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step of the request path did, small enough for a marker and readable in the Temporal Web UI."""

    duration_ms: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteRequestInput:
    """Everything that a recovery needs, so that it never decides anew: what the ledger keeps of an accepted request,
    and the input of its workflow.

    `owner` is the process that accepted the request; `steps` reports what led to the decision, by activity; `body` is
    the client's JSON body, or None where it is too large for Temporal and lies encrypted in Postgres.
    """

    user_id: str
    request_id: str
    router_id: str | None
    owner: str
    created_at: float
    config_version: int
    plan: CallPlan
    decision: dict[str, Any]
    body: str | None
    steps: dict[str, StepReport] = field(default_factory=dict)
    stream: bool = False
    api_key_id: str | None = None
    store_prompts: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    session_id: str | None = None
    end_user: str | None = None

    @property
    def key(self) -> RequestKey:
        """The identity of this request."""
        return RequestKey(self.user_id, self.request_id)

    @property
    def provider(self) -> str:
        """The provider that the decided model is listed under."""
        return str(self.plan.specs[self.plan.model]["provider"])

    @property
    def summary(self) -> str:
        """One line for the Web UI: what was asked of whom."""
        kind, how = self.decision.get("requestType", "chat"), "streamed" if self.stream else "whole"
        return f"{self.router_id or 'direct'} → {self.plan.model} · {kind} · {how}"

    def may_fall_back(self, outcome: Outcome) -> bool:
        """Whether the outcome of the first phase is not the end yet."""
        possible = bool(self.plan.fallback_models) and self.plan.retry_attempts > 0
        return outcome.status == "failed" and outcome.can_fall_back and possible

    def searched_at_start(self) -> dict[str, str]:
        """Search attributes of the workflow when it starts."""
        return {
            names.SEARCH_ROUTER_ID: self.router_id or "(direct)",
            names.SEARCH_MODEL: self.plan.model,
            names.SEARCH_PROVIDER: self.provider,
        }

    def searched_at_end(self, outcome: Outcome) -> dict[str, str]:
        """Search attributes that the end adds or changes."""
        found = {names.SEARCH_OUTCOME: str(outcome.status)}
        if (outcome.model, outcome.provider) != (self.plan.model, self.provider):
            found |= {names.SEARCH_MODEL: outcome.model, names.SEARCH_PROVIDER: outcome.provider}
        return found


@dataclass(frozen=True, slots=True)
class CallReport:
    """Result of `call_provider`: how the first phase ended."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class FallbackInput:
    """The request plus the failed outcome that made the fallback necessary, and since when (Unix seconds)."""

    request: RouteRequestInput
    failed: Outcome
    began_at: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreInput:
    """The request plus the outcome that it came to."""

    request: RouteRequestInput
    outcome: Outcome


def read_request(json: bytes) -> RouteRequestInput:
    """A request as the ledger keeps it. Raises ValueError where it is none."""
    return _reader().validate_python(load(json))


@cache
def _reader() -> TypeAdapter[RouteRequestInput]:
    return TypeAdapter(RouteRequestInput)


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

    @classmethod
    def of(cls, outcome: Outcome) -> "RouteRequestResult":
        """The result that says how a request ended."""
        return cls(
            status=outcome.status,
            model=outcome.model,
            provider=outcome.provider,
            attempts=len(outcome.attempts),
            cost_usd=outcome.cost_usd,
            latency_ms=round(outcome.latency_ms, 1),
            finish_reason=outcome.finish_reason,
            error_code=outcome.error_code,
            answer=outcome.answer,
        )
