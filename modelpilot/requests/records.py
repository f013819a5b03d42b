"""What a request reads and leaves behind: its caller, router and provider; its row, history point and neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec
from modelpilot.providers.deployments import (
    Deployments,
    Dishonours,
    ProviderFacts,
    deployment_manners,
    deployment_specs,
    usable_deployments,
)
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners
from modelpilot.requests.outcome import Attempt, Outcome
from modelpilot.routing.router import CallFormat, Router

Vector = NDArray[np.float32]

EXPLAINED_NEIGHBOURS = 10  # a decision uses many, but lists the nearest ten

# Per snapshot: requests differ little in what only some kinds of providers can serve, and in whose prices rise.
_KEPT_DEPLOYMENTS = _KEPT_STEPS = 16


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Identifies a request: ids are unique per owner, so both parts are needed everywhere."""

    user_id: str
    request_id: str

    @property
    def workflow_id(self) -> str:
        """The Temporal workflow id of this request."""
        return f"route/{self.user_id}/{self.request_id}"


# What a row was paid for. Rates and counts of requests are about the first; sums of money about all.
Purpose = Literal["request", "embedding", "judge"]


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
    tags: dict[str, str] = field(default_factory=dict)
    session_id: str | None = None
    end_user: str | None = None  # the client's own name for whom it asks
    purpose: Purpose = "request"
    carbon_g: float | None = None  # of all calls together; None: unknown
    # The request's body, to be stored with the answer; None where the router does not say so.
    stored_body: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What the ledger knows of a finished request. `outcome.answer` is there while it is retained."""

    record: RequestRecord
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A row of the ledger: a request that was accepted and whose workflow is not closed yet.

    `request` is its RouteRequestInput as JSON. `outcome` and `completed_at` (Unix seconds) are there once it has ended;
    `handed_over`: a worker carries its workflow; `owner_alive` by the database's clock.
    """

    key: RequestKey
    request: bytes = field(repr=False)
    owner_alive: bool
    handed_over: bool
    accepted_at: float
    outcome: Outcome | None = None
    completed_at: float = 0.0
    prompt_hash: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many requests are accepted whose workflows are not closed yet, and for how long the oldest one, seconds.
    `writable`: whether more can be accepted."""

    rows: int = 0
    age_s: float = 0.0
    writable: bool = True


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
    counts add up and means run. `quality` is None where nobody has said anything about it yet; `quality_weight` is how
    much it counts against one person's word (`modelpilot.learning.quality`)."""

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
    quality_weight: float = 1.0
    begun_at: float = 0.0  # when the request was made, Unix seconds; 0.0: not known
    prompt_tokens: int = 0  # by the gateway's own count; 0: unknown


@dataclass(frozen=True, slots=True)
class QualityUpdate:
    """A revised quality of one point: the mean over requests whose weights add up to `weight` (see
    `HistoryPoint.quality_weight`), or None: nobody knows after all."""

    point_id: str
    model: str
    quality: float | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Past outcomes similar to a prompt, most similar first. Arrays are aligned, [k]; NaN means unknown.

    `quality_weight` is the share of each one's weight that its quality has (None: all of it).
    """

    similarity: NDArray[np.float32]
    models: tuple[str, ...]  # each once; there may be some of which no neighbour is
    model: NDArray[np.intp]  # [k] index into `models`
    request_ids: tuple[str, ...]  # of the nearest EXPLAINED_NEIGHBOURS at least
    quality: NDArray[np.float32]
    cost_usd: NDArray[np.float32]
    latency_ms: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    count: NDArray[np.float32]  # how many requests the point stands for
    timestamp: NDArray[np.float64]
    quality_weight: NDArray[np.float32] | None = None

    @classmethod
    def empty(cls) -> "Neighbours":
        """No history at all."""
        none, times = np.zeros(0, np.float32), np.zeros(0, np.float64)
        return cls(none, (), np.zeros(0, np.intp), (), none, none, none, none, none, times)

    def __len__(self) -> int:
        return len(self.model)


def coded(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Each of the names once, and [k] which of these each one is."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return tuple(codes), np.array([codes[name] for name in names], np.intp)


@dataclass(frozen=True, slots=True)
class ProviderEndpoint:
    """Where and how to call a provider. `api_key` is in clear: never log it, never let it into a payload.

    It is the provider's key number `key_index` of `key_count` (1 also where none is needed). `parameters` is what its
    owner says of its manners.
    """

    id: str
    kind: ProviderKind
    base_url: str
    api_key: str | None = field(repr=False)
    key_index: int = 0
    key_count: int = 1
    parameters: Manners | None = None


@dataclass(frozen=True)
class RouterSnapshot:
    """A router at one version with all that a decision needs.

    `models` has every model named by the router (available, preferred, fallback) that the catalogue knows;
    `unavailable` maps a model id to the reason why it cannot be called at all (unknown, no provider of its deployments
    with a key). `providers` has what is known of the providers behind the models, and of OpenRouter, through which
    a single request may ask to be sent.
    """

    user_id: str
    router: Router
    version: int
    models: dict[str, ModelSpec]
    unavailable: dict[str, str]
    providers: dict[str, ProviderFacts] = field(default_factory=dict)

    @cached_property
    def columns(self) -> CatalogueColumns:
        """The catalogue's columns of `models`, in their order."""
        return CatalogueColumns.of(list(self.models.values()))

    def columns_at(self, prompt_tokens: Mapping[str, int]) -> CatalogueColumns:
        """The same with the prices for a prompt of so many tokens as each model counts."""
        counted = [(steps, prompt_tokens[model]) for model, steps in self._price_steps.items()]
        reached = tuple(max((step for step in steps if step <= tokens), default=0) for steps, tokens in counted)
        if not any(reached):
            return self.columns
        if reached not in self._stepped:
            if len(self._stepped) >= _KEPT_STEPS:
                self._stepped.clear()
            at = dict(zip(self._price_steps, reached, strict=True))
            self._stepped[reached] = CatalogueColumns.of(
                list(self.models.values()), [at.get(model, 0) for model in self.models]
            )
        return self._stepped[reached]

    @cached_property
    def _price_steps(self) -> dict[str, frozenset[int]]:
        return {model: steps for model, spec in self.models.items() if (steps := spec.price_steps)}

    @cached_property
    def _stepped(self) -> dict[tuple[int, ...], CatalogueColumns]:
        return {}

    def kind_of(self, provider: str) -> ProviderKind | None:
        """The kind of a provider; None: not known."""
        return self.providers[provider].kind if provider in self.providers else None

    def why_unavailable(self, model_id: str, call_format: CallFormat | None) -> str | None:
        """Why the model cannot be called at all in this format; None where it can be."""
        if model_id in self.models and call_format == "openrouter":
            return self.providers.get("openrouter", ProviderFacts()).unavailable
        return self.unavailable.get(model_id)

    def deployments(self, spec: ModelSpec, call_format: CallFormat | None, dishonours: Dishonours) -> Deployments:
        """Where a request that not every deployment can serve may call the model."""
        return usable_deployments(spec, call_format, self.providers, dishonours)

    def all_deployments(self, call_format: CallFormat | None, dishonours: Dishonours) -> Mapping[str, Deployments]:
        """`deployments` of every model by its id: the same for all requests that models of the same manners can
        serve."""
        wanted = (call_format, *(dishonours(kind, manners) for kind, manners in self._manners(call_format)))
        found = self._deployments.get(wanted)
        if found is None:
            if len(self._deployments) >= _KEPT_DEPLOYMENTS:
                self._deployments.clear()
            found = {model: self.deployments(spec, call_format, dishonours) for model, spec in self.models.items()}
            self._deployments[wanted] = found
        return found

    def _manners(self, call_format: CallFormat | None) -> Sequence[tuple[ProviderKind | None, Manners]]:
        """Which manners the deployments of all models have, each once."""
        found = self._met.get(call_format)
        if found is None:
            places = ((spec, each) for spec in self.models.values() for each in deployment_specs(spec, call_format))
            facts = ((spec, each, self.providers.get(each.provider, ProviderFacts())) for spec, each in places)
            met = {(at.kind, deployment_manners(spec, each, at)): None for spec, each, at in facts}
            found = self._met[call_format] = tuple(met)
        return found

    @cached_property
    def _met(self) -> dict[CallFormat | None, Sequence[tuple[ProviderKind | None, Manners]]]:
        return {}

    @cached_property
    def _deployments(self) -> dict[tuple[str | None, ...], Mapping[str, Deployments]]:
        return {}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the API key's owner and rights. `operator` may create keys for other users."""

    user_id: str
    api_key_id: str
    scopes: frozenset[str]
    allowed_routers: frozenset[str] | None  # None: all of the owner's routers
    operator: bool = False
