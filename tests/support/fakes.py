"""In-memory ports of the core: what a request needs from outside, with switches for outages and gates for waiting."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from modelpilot.errors import DependencyUnavailable, NotFound
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.manners import Manners
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
from modelpilot.routing.aliases import KnownAliases
from modelpilot.wire.chunks import Chunk


def opened() -> asyncio.Event:
    """A gate that is open until a test clears it."""
    (gate := asyncio.Event()).set()
    return gate


class FakeLedger:
    """Rows in dictionaries. `down` makes every method fail; `accept_gate` holds back what is accepted, and `gate` the
    commits of terminal rows."""

    def __init__(self) -> None:
        self.open: dict[RequestKey, RouteRequestInput] = {}  # accepted, and no closer was there yet
        self.handed_over: set[RequestKey] = set()
        self.rows: dict[RequestKey, RequestRecord] = {}
        self.attempts: dict[RequestKey, dict[int, Attempt]] = defaultdict(dict)
        self.bodies: dict[RequestKey, bytes] = {}
        self.names: dict[tuple[str, str, str], tuple[str, bytes]] = {}
        self.points: list[HistoryPoint] = []
        self.down = False
        self.accept_gate, self.gate = opened(), opened()
        self.body_gate = opened()
        self.recording = asyncio.Event()  # somebody has tried to commit a terminal row
        self.failures = 0  # this many commits fail before one succeeds
        self.refusals: list[Exception] = []  # raised by commits of terminal rows, one after the other
        self.accept_refusals: list[Exception] = []  # the same of what is accepted
        self.lost_answers = 0  # so many are accepted, but nobody hears of it
        self.written: list[RequestRecord] = []  # what was tried to be committed

    def _check(self) -> None:
        if self.down:
            raise DependencyUnavailable("Postgres is away")

    async def accept(self, request: RouteRequestInput) -> bool:
        await self.accept_gate.wait()
        self._check()
        if self.accept_refusals:
            raise self.accept_refusals.pop(0)
        if request.key in self.rows or self.open.get(request.key, request).owner != request.owner:
            return False
        self.open[request.key] = request
        if self.lost_answers > 0:
            self.lost_answers -= 1
            raise DependencyUnavailable("Postgres did not answer in time")
        return True

    async def hand_over(self, key: RequestKey, attempts: Sequence[Attempt]) -> bool:
        self._check()
        self._keep(key, attempts)
        self.handed_over.add(key)
        return False

    async def is_open(self, key: RequestKey) -> bool:
        self._check()
        return key in self.open

    async def record(
        self, record: RequestRecord, point: HistoryPoint | None = None, request: RouteRequestInput | None = None
    ) -> bool:
        self.recording.set()
        self.written.append(record)
        await self.gate.wait()
        if self.failures > 0:
            self.failures -= 1
            raise DependencyUnavailable("Postgres is away for a moment")
        if self.refusals:
            raise self.refusals.pop(0)
        self._check()
        if record.key in self.rows:
            return False
        self.rows[record.key] = record
        if request is not None:
            self.open[record.key] = request
        if point is not None:
            self.points.append(point)
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


class FakeLeases:
    """Which processes live, and who has claimed which call."""

    def __init__(self, ledger: FakeLedger, *alive: str) -> None:
        self._ledger = ledger
        self.alive = set(alive)
        self.claims: dict[tuple[RequestKey, int], str] = {}
        self.asked: list[tuple[RequestKey, int]] = []
        self.down = False

    async def claim_call(self, key: RequestKey, seq: int, instance: str, owner: str | None = None) -> bool:
        self.asked.append((key, seq))
        if self.down:
            raise DependencyUnavailable("Postgres is away")
        if key in self._ledger.rows or seq in self._ledger.attempts[key]:
            return False
        if owner not in (None, instance) and owner in self.alive:
            return False
        holder = self.claims.get((key, seq), instance)
        if holder != instance and holder in self.alive:
            return False
        self.claims[key, seq] = instance
        return True


@dataclass
class FakeHealth:
    """A store that is there, or is not."""

    up: bool = True


class FakeWorkflows:
    """Temporal for a gateway: `refusal` is raised by what it is asked for; `gate` holds that back."""

    def __init__(self) -> None:
        self.gate = opened()
        self.refusal: Exception | None = None
        self.up = True
        self.accepted: dict[RequestKey, RouteRequestInput] = {}
        self.handed_over: dict[RequestKey, bool] = {}  # whether a closer held the first task
        self.asked = asyncio.Event()
        self.canceled: list[RequestKey] = []

    async def _ask(self) -> None:
        self.asked.set()
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal

    async def accept(self, request: RouteRequestInput) -> None:
        await self._ask()
        self.accepted[request.key] = request

    async def hand_over(self, request: RouteRequestInput, *, held: bool) -> None:
        await self._ask()
        self.handed_over[request.key] = held

    async def cancel(self, key: RequestKey) -> None:
        self.canceled.append(key)


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

    def learn(self, point: HistoryPoint) -> None:
        self.points.append(point)


class FakeConfiguration:
    """One router for everybody; `gate` holds loads back."""

    def __init__(self, shot: RouterSnapshot) -> None:
        self.shot = shot
        self.loads = 0
        self.gate = opened()
        self.failure: Exception | None = None
        self.key_counts: dict[str, int] = {}  # of providers with several keys
        self.base_url = "http://127.0.0.1:1"
        self.known_aliases = KnownAliases({})
        self.parameters: Manners | None = None  # what the owner says of every provider

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        self.loads += 1
        shot = self.shot  # what the database holds now, not when the answer arrives
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if router_id != shot.router.id:
            raise NotFound("There is no such router.")
        return replace(shot, user_id=user_id)

    async def direct_snapshot(self, user_id: str, model_id: str, *fallbacks: str) -> RouterSnapshot:
        return await self.router_snapshot(user_id, self.shot.router.id)

    async def aliases(self, user_id: str) -> KnownAliases:
        return self.known_aliases

    async def endpoint(self, user_id: str, provider_id: str, key_index: int = 0) -> ProviderEndpoint:
        self.loads += 1
        if self.failure is not None:
            raise self.failure
        count = self.key_counts.get(provider_id, 1)
        key = "provider-secret" if count == 1 else f"provider-secret-{key_index}"
        return ProviderEndpoint(provider_id, "simulator", self.base_url, key, key_index, count, self.parameters)


# All providers in memory: what each of their calls does is a script.

# What a provider does in one call: yield a chunk (or one with the bytes it came as), raise, or wait for an event.
Script = Sequence[dict[str, Any] | Chunk | Exception | asyncio.Event]


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

    async def stream_chat(self, call: ProviderCall) -> AsyncGenerator[list[Chunk], None]:
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
                    yield [step if isinstance(step, Chunk) else Chunk(step)]
            made.completed = True
        finally:
            made.closed = True
