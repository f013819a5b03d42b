"""Ports: what the steps of a request need from the outside world. Adapters live in `infra`."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelpilot.requests.outcome import Attempt
from modelpilot.requests.records import (
    HistoryPoint,
    HistoryScope,
    NameKind,
    Neighbours,
    ProviderEndpoint,
    RequestKey,
    RequestRecord,
    Reservation,
    RouterSnapshot,
    StoredRequest,
    Vector,
)
from modelpilot.requests.route_request import RouteRequestInput


class ConfigurationSource(Protocol):
    """Routers, models and providers as they are stored now. Raises NotFound, DependencyUnavailable."""

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        """The router with the models it names, at its newest version."""
        ...

    async def direct_snapshot(self, user_id: str, model_id: str) -> RouterSnapshot:
        """A synthetic preferredModel router (id "", version 0) for a catalogue model that is called directly."""
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

    async def store(self, point: HistoryPoint) -> None:
        """Upsert, grouped with concurrent calls. Raises DependencyUnavailable."""
        ...


class Ledger(Protocol):
    """The durable record of what was spent and answered. All methods raise DependencyUnavailable."""

    async def record(self, record: RequestRecord) -> bool:
        """Commit the terminal row, its attempts and the encrypted outcome (answer included), grouped with concurrent
        calls; returns after the commit. False where a terminal row was there already (the first one stands)."""
        ...

    async def record_attempts(self, key: RequestKey, attempts: Sequence[Attempt]) -> None:
        """Commit attempts of a request that is not finished yet. Idempotent by (key, seq)."""
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

    async def put_outbox(self, point: HistoryPoint) -> None:
        """Keep a history point for later, since the vector store is away."""
        ...


class Leases(Protocol):
    """Which gateway instances are alive and who may call a provider for a request. Raise DependencyUnavailable."""

    async def is_alive(self, instance: str) -> bool:
        """Whether the instance's heartbeat is fresh (database clock)."""
        ...

    async def claim(self, key: RequestKey, instance: str, previous: str) -> str:
        """Take the request over for `instance`. `previous` is the owner named by the request's input. Returns who
        holds it now: `instance` on success, or the other living instance that was quicker."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One HTTP call to a provider. `body` is the client's OpenAI-shaped body without `model` and `modelpilot`."""

    endpoint: ProviderEndpoint
    model: str  # the provider's own name of the model
    body: dict[str, Any]
    first_token_ms: int
    idle_ms: int
    request_id: str
    connect_ms: int = 5_000


class ProviderClient(Protocol):
    """Speaks one wire format."""

    def stream_chat(self, call: ProviderCall) -> AsyncGenerator[dict[str, Any], None]:
        """Yield OpenAI `chat.completion.chunk` objects, the usage chunk included, and end only when the answer is
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


class WorkflowStarter(Protocol):
    """The durable execution of requests."""

    def check_up(self) -> None:
        """Raise DependencyUnavailable at once when the service is known to be down, so that nothing is spent."""
        ...

    async def start(self, request: RouteRequestInput) -> None:
        """Start the workflow of a request and return when the service has acknowledged it. Raises Conflict when it
        was started before, DependencyUnavailable when there is no acknowledgement within a short deadline."""
        ...

    async def wait_closed(self, key: RequestKey) -> None:
        """Wait for the workflow's end, however it ends. Raises NotFound, DependencyUnavailable."""
        ...

    async def is_running(self, key: RequestKey) -> bool:
        """Whether a workflow of this request is open. Raises DependencyUnavailable."""
        ...

    async def cancel(self, key: RequestKey) -> None:
        """Ask the workflow to stop spending."""
        ...
