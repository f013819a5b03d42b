"""Requests in flight in this process: what the workflow's steps join instead of computing anything twice."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from activities.requests.deployments import Target
from modelpilot.chat.profile import RequestProfile
from modelpilot.errors import ModelPilotError
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import RequestKey, RequestRecord, RouterSnapshot, Vector
from modelpilot.requests.route_request import RouteRequestInput, StepReport
from modelpilot.wire.resume import Transcript

# A streaming client that reads slower than its provider writes stalls the provider here, not the gateway's memory.
SINK_CHUNKS = 64


class ChunkSink:
    """The bounded way of chunks from the provider step to the HTTP response: one writer, one reader."""

    def __init__(self) -> None:
        self._chunks: deque[dict[str, Any]] = deque()
        self._readable, self._writable = asyncio.Event(), asyncio.Event()
        self._finished = False
        self.closed = False  # the reader is gone
        self.can_restart = False  # the reader's format has a mark for an answer that begins anew
        self.transcript = Transcript()

    async def put(self, chunk: dict[str, Any]) -> None:
        """Hand over one chunk; waits while the reader is behind, and drops it where the reader is gone."""
        while len(self._chunks) >= SINK_CHUNKS and not self.closed:
            self._writable.clear()
            await self._writable.wait()
        if not self.closed and not self._finished:
            self._chunks.append(chunk)
            self.transcript.add(chunk)
            self._readable.set()

    async def restart(self, mark: dict[str, Any]) -> None:
        """Tell the reader that what it has is void, and that another answer follows."""
        await self.put(mark)
        self.transcript.restart()

    async def get(self) -> list[dict[str, Any]]:
        """All chunks that are there, at least one; an empty list at the end."""
        while not self._chunks and not self._finished:
            self._readable.clear()
            await self._readable.wait()
        chunks = list(self._chunks)
        self._chunks.clear()
        self._writable.set()
        return chunks

    def finish(self) -> None:
        """The writer has put its last chunk."""
        self._finished = True
        self._readable.set()

    def close(self) -> None:
        """The reader is gone; the writer is not to wait for it."""
        self.closed = True
        self._chunks.clear()
        self._writable.set()


@dataclass(slots=True)
class Flight:
    """One request that this process is working on. Futures are resolved exactly once, failures are values.

    `acknowledged` tells whether the workflow's start was acknowledged; `first` is the outcome of the first phase (the
    decided model), `final` that of the whole request. With `commit_first` (as for an Idempotency-Key) it calls the
    provider only after the acknowledgement, and answers only after the commit.
    """

    request: RouteRequestInput
    profile: RequestProfile
    snapshot: RouterSnapshot
    vector: Vector | None
    reports: dict[str, StepReport]
    received_at: float  # monotonic seconds
    sink: ChunkSink | None = None
    body_digest: bytes = b""
    commit_first: bool = False
    acknowledged: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    first: "asyncio.Future[Outcome]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    final: "asyncio.Future[Outcome]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    recorded: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    record: RequestRecord | None = None  # the terminal row, from the moment the outcome is known
    task: "asyncio.Task[Any] | None" = None  # whatever runs for this flight now: what abandoning it cancels
    refusal: ModelPilotError | None = None  # why Temporal does not have it
    target: Target | None = None  # where the first call goes
    calling: bool = False  # a provider call is under way in `task`, and may be canceled
    waiting: int = 1  # clients that wait for the end: who joined may outlive who began
    abandoned: bool = False
    stored_at: float | None = None  # monotonic seconds; the workflow's last step has run
    degraded: list[str] = field(default_factory=list)

    @property
    def key(self) -> RequestKey:
        """The identity of this request."""
        return self.request.key

    def acknowledge(self, *, started: bool) -> None:
        """Whether Temporal has the request now."""
        if not self.acknowledged.done():
            self.acknowledged.set_result(started)

    def elapsed_ms(self) -> float:
        """Since the request was received (or taken over)."""
        return (time.monotonic() - self.received_at) * 1000.0

    def settle(self, outcome: Outcome) -> None:
        """Resolve what is still open with the terminal outcome."""
        for future in (self.first, self.final):
            if not future.done():
                future.set_result(outcome)
        if self.sink is not None:
            self.sink.finish()


class FlightRegistry:
    """All flights of this process, by nonce and by request.

    An entry stays until its workflow is seen closed: dropped at the last step, a workflow task that Temporal hands
    out once more would find nothing to join. `maximum_age_s` is the backstop for closes that are never seen.
    """

    def __init__(self, instance: str, maximum_age_s: float = 3_600.0, clock: Callable[[], float] = time.monotonic):
        self.instance = instance
        self._maximum_age_s, self._clock = maximum_age_s, clock
        self._by_nonce: dict[str, Flight] = {}
        self._by_key: dict[RequestKey, Flight] = {}
        self.active = 0  # flights without a terminal outcome

    def __len__(self) -> int:
        return len(self._by_nonce)

    def add(self, flight: Flight) -> None:
        """Register a new flight."""
        self._by_nonce[flight.request.nonce] = flight
        self._by_key[flight.key] = flight
        self.active += 1
        flight.final.add_done_callback(self._settled)

    def _settled(self, _: object) -> None:
        self.active -= 1

    def get(self, nonce: str) -> Flight | None:
        """The flight that a workflow's step may join."""
        return self._by_nonce.get(nonce)

    def find(self, key: RequestKey) -> Flight | None:
        """The flight of a request."""
        return self._by_key.get(key)

    def find_running(self, user_id: str, body_digest: bytes) -> Flight | None:
        """A running flight of the same owner with the same body: what an SDK's automatic repeat joins."""
        return next(
            (
                f
                for f in self._by_nonce.values()
                if f.key.user_id == user_id and f.body_digest == body_digest and not (f.final.done() or f.abandoned)
            ),
            None,
        )

    def remove(self, flight: Flight) -> None:
        """Forget a flight whose workflow is closed, or never was."""
        self._by_nonce.pop(flight.request.nonce, None)
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]

    @property
    def unstored(self) -> int:
        """How many flights still wait for their workflow's last step."""
        return sum(1 for flight in self._by_nonce.values() if flight.stored_at is None)

    def unsettled(self) -> list[Flight]:
        """Flights without a terminal outcome."""
        return [flight for flight in self._by_nonce.values() if not flight.final.done()]

    def stored(self) -> list[Flight]:
        """Flights whose last step has run: their workflows close any moment."""
        return [flight for flight in self._by_nonce.values() if flight.stored_at is not None]

    def sweep(self, open_workflow_ids: Iterable[str], asked_at: float) -> int:
        """Remove stored flights that were not among the open workflows when that was asked (monotonic seconds), and
        flights past the maximum age. Returns how many were removed."""
        still_open = set(open_workflow_ids)
        gone = [
            flight
            for flight in self._by_nonce.values()
            if (
                flight.stored_at is not None
                and flight.stored_at < asked_at
                and flight.recorded.done()
                and flight.key.workflow_id not in still_open
            )
            or self._clock() - flight.received_at > self._maximum_age_s
        ]
        for flight in gone:
            self.remove(flight)
        return len(gone)


class BackgroundTasks:
    """Tasks that outlive their request; held here, since the event loop keeps only weak references."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run `work` to its end."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, timeout_s: float) -> None:
        """Wait for the tasks, at most `timeout_s`, then cancel what is left."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
