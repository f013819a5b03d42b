"""Ports: what the steps of a request need from the outside world. Adapters live in `infra`."""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelpilot.providers.manners import Manners
from modelpilot.requests.outcome import Attempt
from modelpilot.requests.records import (
    HistoryPoint,
    HistoryScope,
    NameKind,
    Neighbours,
    OpenRequest,
    ProviderEndpoint,
    RequestKey,
    RequestRecord,
    Reservation,
    RouterSnapshot,
    StoredRequest,
    Vector,
)
from modelpilot.requests.route_request import RouteRequestInput
from modelpilot.routing.aliases import KnownAliases
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.responses_chain import KeptResponse


class ConfigurationSource(Protocol):
    """Routers, models and providers as they are stored now. Raises NotFound, DependencyUnavailable."""

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        """The router with the models it names, at its newest version."""
        ...

    async def direct_snapshot(self, user_id: str, model_id: str, *fallbacks: str) -> RouterSnapshot:
        """A synthetic preferredModel router (id "", version 0) for a catalogue model that is called directly, with
        the models among its own that may stand in for it."""
        ...

    async def aliases(self, user_id: str) -> KnownAliases:
        """The names that this owner's routers and models go by."""
        ...

    async def endpoint(self, user_id: str, provider_id: str, key_index: int = 0) -> ProviderEndpoint:
        """Where to call the provider and with which of its keys (decrypted). An index beyond the last key, since keys
        were taken away meanwhile, counts on from the first."""
        ...


class Embedder(Protocol):
    """Turns text into unit vectors. `name` and `dimension` are recorded beside the vectors."""

    name: str
    dimension: int

    async def embed(self, text: str) -> Vector:
        """[dimension], unit length (all zeros for empty text). Raises DependencyUnavailable, EmbedderMismatch."""
        ...


class History(Protocol):
    """Similar past prompts of one router."""

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        """The nearest past outcomes. Raises DependencyUnavailable when they cannot be had within the deadline."""
        ...


class HistoryWriter(Protocol):
    """Where past outcomes are kept for good."""

    async def store(self, point: HistoryPoint) -> None:
        """Upsert, grouped with concurrent calls. Raises DependencyUnavailable."""
        ...


class Ledger(Protocol):
    """The durable record of what was accepted, spent and answered. All methods raise DependencyUnavailable."""

    async def accept(self, request: RouteRequestInput) -> bool:
        """Commit the encrypted request with its decision, grouped with concurrent calls. False where the same request
        was accepted before, by another process or long ago."""
        ...

    async def record(
        self, record: RequestRecord, point: HistoryPoint | None = None, request: RouteRequestInput | None = None
    ) -> bool:
        """Commit the terminal row, its attempts, the encrypted outcome (answer included) and what is learnt from it,
        grouped with concurrent calls; returns after the commit. False where a terminal row was there already (the first
        one stands). `request` where the ledger has not accepted it yet: it does now."""
        ...

    async def record_attempts(self, key: RequestKey, attempts: Sequence[Attempt]) -> None:
        """Commit attempts of a request that is not finished yet. Idempotent by (key, seq)."""
        ...

    async def hand_over(self, key: RequestKey, attempts: Sequence[Attempt]) -> bool:
        """Commit the attempts of a first phase that failed, and that the request's workflow goes on from here; whether
        a closer has started that workflow already."""
        ...

    async def is_open(self, key: RequestKey) -> bool:
        """Whether the request was accepted and its workflow is not closed yet."""
        ...

    async def find(self, key: RequestKey) -> StoredRequest | None:
        """The finished request, or None."""
        ...

    async def find_attempts(self, key: RequestKey) -> tuple[Attempt, ...]:
        """The recorded attempts so far, by seq."""
        ...

    async def put_body(self, key: RequestKey, body: bytes) -> None:
        """Commit an encrypted request body that is too large for Temporal."""
        ...

    async def get_body(self, key: RequestKey) -> bytes | None:
        """The body again, or None when it has expired."""
        ...

    async def reserve(
        self, user_id: str, kind: NameKind, name: str, body_digest: bytes, request_id: str
    ) -> Reservation:
        """Reserve a client-given name, committed; the name itself is stored as an HMAC only."""
        ...

    async def release(self, user_id: str, kind: NameKind, name: str, request_id: str) -> None:
        """Free a reservation of `request_id`, which was refused; nothing happens where another request holds it."""
        ...

    async def resolve(self, user_id: str, name: str) -> str | None:
        """The request id behind a client-given name (either kind), or None."""
        ...


class Leases(Protocol):
    """Which processes are alive, and which of them makes a provider call. Raise DependencyUnavailable."""

    async def claim_call(self, key: RequestKey, seq: int, instance: str, owner: str | None = None) -> bool:
        """Commit that `instance` makes call `seq` of the request. `owner`: who may make it as long as it lives (None:
        whoever claims it first). False where another living process has it, or where there is nothing to call for."""
        ...


class OpenRequests(Protocol):
    """The ledger's rows as a closer sees them. All methods raise DependencyUnavailable."""

    async def claim(self, limit: int) -> list[RequestKey]:
        """Take up to `limit` rows that are due and nobody's; they stay this closer's as long as it lives."""
        ...

    async def let_go(self) -> None:
        """Give back what was claimed and perhaps never heard of: a connection may break behind a claim's commit."""
        ...

    async def read(self, keys: Sequence[RequestKey]) -> list[OpenRequest]:
        """What the rows are now; those that are gone are left out."""
        ...

    async def changed(self, keys: Sequence[RequestKey]) -> list[RequestKey]:
        """Which of the rows that ran when they were read have ended, were handed over, or lost their owner."""
        ...

    async def note_handed_over(self, key: RequestKey) -> None:
        """A worker carries the workflow of this request from now on."""
        ...

    async def close(self, keys: Sequence[RequestKey]) -> None:
        """Forget requests whose workflows are closed."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One HTTP call to a provider. `body` is the client's OpenAI-shaped body as it fits the model's manners, without
    `model` and `modelpilot`."""

    endpoint: ProviderEndpoint
    model: str  # the provider's own name of the model
    body: dict[str, Any]
    first_token_ms: int
    idle_ms: int
    request_id: str
    connect_ms: int = 5_000
    whole: bool = False  # ask for a whole answer; either sort is taken
    manners: Manners | None = None  # None: those of the model's name at this kind of provider
    gather_ms: int = 0  # nobody looks on: once it has begun, the answer may be read at such intervals


class ProviderClient(Protocol):
    """Speaks one wire format."""

    def stream_chat(self, call: ProviderCall) -> AsyncGenerator[list[Chunk], None]:
        """Yield the OpenAI chunks that each read brought, the usage chunk included, and end only when the answer is
        complete. Raises ProviderError. Closing the iterator cancels the upstream call."""
        ...


class ProviderClients(Protocol):
    """Finds the client for a kind of provider."""

    def client_for(self, kind: str) -> ProviderClient:
        """Raises InvalidRequest for a kind that has no client yet."""
        ...


class EmbeddingClient(Protocol):
    """Speaks one wire format for embeddings."""

    async def embed(self, endpoint: ProviderEndpoint, model: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to an OpenAI-shaped `body`, in OpenAI's shape. Raises ProviderError."""
        ...


class EmbeddingClients(Protocol):
    """Finds the embeddings client for a kind of provider."""

    def embedder_for(self, kind: str) -> EmbeddingClient:
        """Raises InvalidRequest for a kind that has no embeddings."""
        ...


class StoreHealth(Protocol):
    """What is known of a store that is asked every second."""

    @property
    def up(self) -> bool:
        """Whether it took writes when it was asked last."""
        ...


class RequestWorkflows(Protocol):
    """The durable execution of requests, for a gateway. What fails raises DependencyUnavailable."""

    @property
    def up(self) -> bool:
        """Whether the service answered when it was asked last."""
        ...

    async def accept(self, request: RouteRequestInput) -> None:
        """Start the workflow of a request whose first task nobody carries out for a while. Once this returns, the
        request is safe: should its owner die, a worker goes on with it."""
        ...

    async def hand_over(self, request: RouteRequestInput, *, held: bool) -> None:
        """Let a worker carry the request on: its workflow is started, or the first task of a workflow that is held by
        somebody is given away."""
        ...

    async def cancel(self, key: RequestKey) -> None:
        """Ask the workflow to stop spending."""
        ...


class FirstTasks(Protocol):
    """First tasks of request workflows, which whoever starts one may carry out itself. What fails raises
    DependencyUnavailable; a start is the same start however often and by whomever it is made."""

    async def start(self, key: RequestKey, request: bytes, read: RouteRequestInput, *, eager: bool = True) -> bytes:
        """Start the workflow of a request (its input as JSON, and read); the token of its first task, empty where that
        was given to somebody or is over. Not `eager`: a worker gets it, and there is none."""
        ...

    async def renew(self, token: bytes) -> bytes:
        """Keep a task for as long again; its new token, empty where the task is not ours any more."""
        ...

    async def hand_over(self, token: bytes) -> None:
        """Give the task to a worker, which then runs the workflow. Nothing happens where it is not ours any more."""
        ...

    async def complete(self, token: bytes, request: RouteRequestInput, ended: OpenRequest) -> bool:
        """Carry out the task as the workflow itself would, now that its request has ended. False where it is not ours
        any more, or where the service wants the workflow to see something first."""
        ...

    async def is_closed(self, key: RequestKey) -> bool:
        """Whether the workflow has ended."""
        ...


class ResponseStore(Protocol):
    """Keeps what Responses requests said, encrypted and as long as their answers. Raises DependencyUnavailable."""

    async def put(self, key: RequestKey, kept: KeptResponse) -> None:
        """Keep it; what was kept under the key before is replaced."""
        ...

    async def find(self, user_id: str, request_ids: Collection[str]) -> dict[str, KeptResponse]:
        """What is kept of these requests of one owner, by request id."""
        ...


class ReasoningSeal(Protocol):
    """Seals reasoning into text that a client carries to its next request and cannot read or change."""

    def seal(self, user_id: str, reasoning: JsonObject) -> str:
        """The sealed text, good for this owner alone."""
        ...

    def open(self, user_id: str, sealed: str) -> JsonObject | None:
        """The reasoning again; None where it was not sealed here, or for somebody else."""
        ...
