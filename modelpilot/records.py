"""Rows and points that outlive a request: the terminal row, the point in the vector history, and what is read back."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelpilot.catalogue import ModelSpec, ProviderKind
from modelpilot.outcome import Attempt, Outcome
from modelpilot.router import CallFormat, Router

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Identifies a request: ids are unique per owner, so both parts are needed everywhere."""

    user_id: str
    request_id: str

    @property
    def workflow_id(self) -> str:
        """The Temporal workflow id of this request."""
        return f"route/{self.user_id}/{self.request_id}"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The one terminal row of a request. Times are Unix seconds; `decision` is JSON without prompt text."""

    key: RequestKey
    router_id: str | None
    api_key_id: str | None
    config_version: int
    created_at: float
    completed_at: float
    outcome: Outcome
    overhead_ms: float
    request_type: str
    stream: bool
    decision: dict[str, Any]
    propensity: float
    explored: bool
    fallback_used: bool
    prompt_hash: str
    degraded: tuple[str, ...] = ()
    features: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What the ledger knows of a finished request. `outcome.answer` is there while it is retained."""

    record: RequestRecord
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Whoever asked first for a client-given name (an Idempotency-Key or an x-request-id) holds it.

    `fresh`: this call reserved it. Otherwise `request_id` and `body_digest` are those of the holder.
    """

    fresh: bool
    request_id: str
    body_digest: bytes


NameKind = Literal["idempotency-key", "request-id"]


@dataclass(frozen=True, slots=True)
class HistoryScope:
    """Whose past prompts may be looked at: never another tenant's, never another router's."""

    user_id: str
    router_id: str


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One (prompt, model) outcome. `point_id` is the same for the same prompt, so that a repeat updates its point:
    counts add up and means run. `quality` is None where nobody has said anything about it yet."""

    point_id: str
    scope: HistoryScope
    model: str
    request_id: str
    embedding: Vector  # [dimension], unit length
    latency_ms: float
    cost_usd: float | None
    quality: float | None
    ttft_ms: float | None
    input_tokens: int
    output_tokens: int
    request_type: str
    timestamp: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Past outcomes similar to a prompt, most similar first. Arrays are aligned, [k]; NaN means unknown."""

    similarity: NDArray[np.float32]
    models: tuple[str, ...]
    request_ids: tuple[str, ...]
    quality: NDArray[np.float32]
    cost_usd: NDArray[np.float32]
    latency_ms: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    count: NDArray[np.float32]  # how many requests the point stands for
    timestamp: NDArray[np.float64]

    @classmethod
    def empty(cls) -> "Neighbours":
        """No history at all."""
        none, times = np.zeros(0, np.float32), np.zeros(0, np.float64)
        return cls(none, (), (), none, none, none, none, none, times)

    def __len__(self) -> int:
        return len(self.models)


@dataclass(frozen=True, slots=True)
class ProviderEndpoint:
    """Where and how to call a provider. `api_key` is in clear: never log it, never let it into a payload."""

    id: str
    kind: ProviderKind
    base_url: str
    api_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class RouterSnapshot:
    """A router at one version with all that a decision needs.

    `models` has every model named by the router (available, preferred, fallback) that the catalogue knows;
    `unavailable` maps a model id to the reason why it cannot be called at all (unknown, provider without a key), and
    `kinds` to the kind of its own provider where that is configured. `openrouter_unavailable` says why nothing can be
    called under `callFormat: "openrouter"`, which a single request may ask for.
    """

    user_id: str
    router: Router
    version: int
    models: dict[str, ModelSpec]
    unavailable: dict[str, str]
    kinds: dict[str, ProviderKind] = field(default_factory=dict)
    openrouter_unavailable: str | None = None

    def why_unavailable(self, model_id: str, call_format: CallFormat | None) -> str | None:
        """Why the model cannot be called at all in this format; None where it can be."""
        if model_id in self.models and call_format == "openrouter":
            return self.openrouter_unavailable
        return self.unavailable.get(model_id)

    def kind_of(self, model_id: str, call_format: CallFormat | None) -> ProviderKind | None:
        """The wire format that the model is called in; None where it is not known."""
        return call_format or self.kinds.get(model_id)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the API key's owner and rights. `operator` may create keys for other users."""

    user_id: str
    api_key_id: str
    scopes: frozenset[str]
    allowed_routers: frozenset[str] | None  # None: all of the owner's routers
    operator: bool = False
