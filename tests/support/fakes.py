"""In-memory ports of the core: what a request needs from outside, with switches for outages and gates for waiting."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from modelpilot.errors import Conflict, DependencyUnavailable, NotFound
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.outcome import Attempt
from modelpilot.requests.ports import ProviderCall
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


def opened() -> asyncio.Event:
    """A gate that is open until a test clears it."""
    (gate := asyncio.Event()).set()
    return gate


class FakeLedger:
    """Rows in dictionaries. `down` makes every method fail; `gate` holds commits of terminal rows back."""

    def __init__(self) -> None:
        self.rows: dict[RequestKey, RequestRecord] = {}
        self.attempts: dict[RequestKey, dict[int, Attempt]] = defaultdict(dict)
        self.bodies: dict[RequestKey, bytes] = {}
        self.names: dict[tuple[str, str, str], tuple[str, bytes]] = {}
        self.outbox: list[HistoryPoint] = []
        self.down = False
        self.gate = opened()
        self.body_gate = opened()
        self.recording = asyncio.Event()  # somebody has tried to commit a terminal row
        self.failures = 0  # this many commits fail before one succeeds

    def _check(self) -> None:
        if self.down:
            raise DependencyUnavailable("Postgres is away")

    async def record(self, record: RequestRecord) -> bool:
        self.recording.set()
        await self.gate.wait()
        if self.failures > 0:
            self.failures -= 1
            raise DependencyUnavailable("Postgres is away for a moment")
        self._check()
        if record.key in self.rows:
            return False
        self.rows[record.key] = record
        self._keep(record.key, record.outcome.attempts)
        return True

    def _keep(self, key: RequestKey, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self.attempts[key].setdefault(attempt.seq, attempt)

    async def record_attempts(self, key: RequestKey, attempts: Sequence[Attempt]) -> None:
        self._check()
        self._keep(key, attempts)

    async def find(self, key: RequestKey) -> StoredRequest | None:
        self._check()
        row = self.rows.get(key)
        return None if row is None else StoredRequest(row, row.outcome.attempts)

    async def find_attempts(self, key: RequestKey) -> tuple[Attempt, ...]:
        self._check()
        by_seq = self.attempts.get(key, {})
        return tuple(by_seq[seq] for seq in sorted(by_seq))

    async def put_body(self, key: RequestKey, body: bytes) -> None:
        self._check()
        self.bodies[key] = body

    async def get_body(self, key: RequestKey) -> bytes | None:
        await self.body_gate.wait()
        self._check()
        return self.bodies.get(key)

    async def reserve(
        self, user_id: str, kind: NameKind, name: str, body_digest: bytes, request_id: str
    ) -> Reservation:
        self._check()
        await asyncio.sleep(0)  # a database lets others run meanwhile
        place = (user_id, kind, name)
        fresh = place not in self.names
        holder, digest = self.names.setdefault(place, (request_id, body_digest))
        return Reservation(fresh, holder, digest)

    async def release(self, user_id: str, kind: NameKind, name: str, request_id: str) -> None:
        self._check()
        if self.names.get((user_id, kind, name), ("",))[0] == request_id:
            del self.names[(user_id, kind, name)]

    async def resolve(self, user_id: str, name: str) -> str | None:
        self._check()
        kinds = ("idempotency-key", "request-id")
        return next(
            (self.names[(user_id, kind, name)][0] for kind in kinds if (user_id, kind, name) in self.names), None
        )

    async def put_outbox(self, point: HistoryPoint) -> None:
        self._check()
        self.outbox.append(point)


class FakeLeases:
    """Which gateways live, and who has claimed what."""

    def __init__(self, *alive: str) -> None:
        self.alive = set(alive)
        self.claims: dict[RequestKey, str] = {}
        self.asked: list[str] = []
        self.down = False

    async def is_alive(self, instance: str) -> bool:
        self.asked.append(instance)
        if self.down:
            raise DependencyUnavailable("Postgres is away")
        return instance in self.alive

    async def claim(self, key: RequestKey, instance: str, previous: str) -> str:
        if self.down:
            raise DependencyUnavailable("Postgres is away")
        holder = self.claims.get(key, previous)
        if holder not in (previous, instance) and holder in self.alive:
            return holder
        self.claims[key] = instance
        return instance


class FakeStarter:
    """Acknowledges starts when `gate` is open; `refusal` is raised instead; a second start of a key is a Conflict."""

    def __init__(self) -> None:
        self.gate = opened()
        self.refusal: Exception | None = None
        self.up = True
        self.started: dict[RequestKey, RouteRequestInput] = {}
        self.starting = asyncio.Event()
        self.closed: dict[RequestKey, asyncio.Event] = defaultdict(asyncio.Event)
        self.running: set[RequestKey] = set()
        self.canceled: list[RequestKey] = []

    def check_up(self) -> None:
        if not self.up:
            raise DependencyUnavailable("Temporal is not available; nothing was spent", retry_after_s=2.0)

    async def start(self, request: RouteRequestInput) -> None:
        self.starting.set()
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        if request.key in self.started:
            raise Conflict("a workflow of this request was started before")
        self.started[request.key] = request
        self.running.add(request.key)

    async def wait_closed(self, key: RequestKey) -> None:
        await self.closed[key].wait()

    async def is_running(self, key: RequestKey) -> bool:
        return key in self.running

    async def cancel(self, key: RequestKey) -> None:
        self.canceled.append(key)

    def close(self, key: RequestKey) -> None:
        """The workflow of `key` ends."""
        self.running.discard(key)
        self.closed[key].set()


class FakeEmbedder:
    """Everything points the same way."""

    name, dimension = "fake", 4

    def __init__(self) -> None:
        self.down = False
        self.texts: list[str] = []

    async def embed(self, text: str) -> Vector:
        self.texts.append(text)
        if self.down:
            raise DependencyUnavailable("no embedder")
        return np.array([1.0, 0.0, 0.0, 0.0], np.float32)


class FakeHistory:
    """The same neighbours for everybody; remembers what it is told."""

    def __init__(self) -> None:
        self.neighbours = Neighbours.empty()
        self.down = False
        self.points: list[HistoryPoint] = []
        self.asked: list[HistoryScope] = []

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        self.asked.append(scope)
        if self.down:
            raise DependencyUnavailable("Milvus is away")
        return self.neighbours

    async def store(self, point: HistoryPoint) -> None:
        if self.down:
            raise DependencyUnavailable("Milvus is away")
        self.points.append(point)


class FakeConfiguration:
    """One router for everybody; `gate` holds loads back."""

    def __init__(self, shot: RouterSnapshot) -> None:
        self.shot = shot
        self.loads = 0
        self.gate = opened()
        self.failure: Exception | None = None
        self.key_counts: dict[str, int] = {}  # of providers with several keys

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        self.loads += 1
        shot = self.shot  # what the database holds now, not when the answer arrives
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if router_id != shot.router.id:
            raise NotFound("There is no such router.")
        return replace(shot, user_id=user_id)

    async def direct_snapshot(self, user_id: str, model_id: str) -> RouterSnapshot:
        return await self.router_snapshot(user_id, self.shot.router.id)

    async def endpoint(self, user_id: str, provider_id: str, key_index: int = 0) -> ProviderEndpoint:
        self.loads += 1
        if self.failure is not None:
            raise self.failure
        count = self.key_counts.get(provider_id, 1)
        key = "provider-secret" if count == 1 else f"provider-secret-{key_index}"
        return ProviderEndpoint(provider_id, "simulator", "http://127.0.0.1:1", key, key_index, count)


# All providers in memory: what each of their calls does is a script.

# What a provider does in one call: yield a chunk, raise, or wait for an event.
Script = Sequence[dict[str, Any] | Exception | asyncio.Event]


@dataclass(slots=True)
class Made:
    """One call that was made; `closed` once its stream was closed, `completed` when it ran to its end."""

    call: ProviderCall
    closed: bool = False
    completed: bool = False


@dataclass
class FakeProviders:
    """All providers: per provider model a list of scripts, one per call; the last one is repeated."""

    scripts: dict[str, list[Script]] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def client_for(self, kind: str) -> "FakeProviders":
        return self

    def will(self, model: ModelSpec, *scripts: Script) -> None:
        """What the calls of a model do, one after the other."""
        self.scripts[model.provider_model] = list(scripts)

    @property
    def models(self) -> list[str]:
        """The models called, in order."""
        return [made.call.model for made in self.made]

    async def stream_chat(self, call: ProviderCall) -> AsyncGenerator[dict[str, Any], None]:
        made = Made(call)
        self.made.append(made)
        self.called.set()
        queue = self.scripts[call.model]
        script = queue.pop(0) if len(queue) > 1 else queue[0]
        try:
            for step in script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
            made.completed = True
        finally:
            made.closed = True
