"""Requests in flight in this gateway, each with one explicit state."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from activities.requests.deployments import Target
from activities.requests.sink import ChunkSink
from modelpilot.chat.profile import RequestProfile
from modelpilot.errors import ModelPilotError, Overloaded
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import RequestKey, RequestRecord, RouterSnapshot, Vector
from modelpilot.requests.route_request import RouteRequestInput


class State(Enum):
    """Where a request is: accepting → calling (→ falling back) → ended → recorded, or left to another process."""

    ACCEPTING = "accepting"  # decided; a request with a name is committed before its provider is called
    CALLING = "calling"
    FALLING_BACK = "falling_back"  # the first phase failed, and a worker or this process goes on
    ENDED = "ended"  # the outcome is known, and leaves
    RECORDED = "recorded"  # the ledger has it, and there is nothing left to do here
    REFUSED = "refused"  # it was not accepted, or another process carries it


_RETRY_AFTER_S = 2.0
_RUNNING = frozenset({State.ACCEPTING, State.CALLING, State.FALLING_BACK})


def _future() -> "asyncio.Future[Any]":
    future = asyncio.get_running_loop().create_future()
    # Whoever waits hears of a refusal; where nobody does, it is not forgotten by mistake.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


@dataclass(slots=True)
class Flight:
    """One request that this process is working on.

    `accepted` is resolved when its answer may leave, `ended` with its terminal row (both raise what refused it), and
    `recorded` when that is committed. A `named` one calls its provider only after it was accepted, a `kept` one answers
    only after the commit.
    """

    request: RouteRequestInput
    profile: RequestProfile
    snapshot: RouterSnapshot
    vector: Vector | None
    received_at: float  # monotonic seconds
    sink: ChunkSink | None = None
    body: bytes = b""  # as it was received
    named: bool = False
    kept: bool = False  # it goes on without its client, who can come back for the answer
    relaxed: bool = False  # its answer does not wait until it is accepted
    state: State = State.ACCEPTING
    accepted: "asyncio.Future[None]" = field(default_factory=_future)
    ended: "asyncio.Future[RequestRecord]" = field(default_factory=_future)
    recorded: "asyncio.Future[None]" = field(default_factory=_future)
    in_ledger: bool = False  # Postgres has the request
    unsure: bool = False  # Postgres may have it: nobody heard the end of the commit
    record: RequestRecord | None = None  # the terminal row, from the moment the outcome is known
    call: "asyncio.Task[Any] | None" = None  # the provider call, or wait for one, which abandoning the flight cancels
    failed: Outcome | None = None  # how its first phase ended, where a fallback follows: more than the ledger keeps
    falling_back: asyncio.Lock = field(default_factory=asyncio.Lock)  # held by whoever makes its fallback attempts
    target: Target | None = None  # where the first call goes
    waiting: int = 1  # clients that wait for the end: who joined may outlive who began
    abandoned: bool = False
    degraded: list[str] = field(default_factory=list)

    @property
    def key(self) -> RequestKey:
        """The identity of this request."""
        return self.request.key

    @property
    def running(self) -> bool:
        """Whether its outcome is not known yet."""
        return self.state in _RUNNING

    @property
    def prompt_tokens(self) -> int:
        """Of its prompt, as the decided model counts them."""
        candidates, model = self.request.decision.get("candidates", ()), self.request.plan.model
        return next((each["promptTokens"] for each in candidates if each["model"] == model), self.profile.prompt_tokens)

    def elapsed_ms(self) -> float:
        """Since the request was received."""
        return (time.monotonic() - self.received_at) * 1000.0

    def accept(self) -> None:
        """Its answer may leave."""
        if not self.accepted.done():
            self.accepted.set_result(None)

    def again(self) -> "Flight":
        """The same request, begun anew without a client, with all its time."""
        futures: dict[str, Any] = {name: _future() for name in ("accepted", "ended", "recorded")}
        fresh = {"state": State.ACCEPTING, "unsure": False, "received_at": time.monotonic(), **futures}
        return replace(self, kept=True, sink=None, waiting=0, **fresh)

    def settle(self) -> None:
        """Tell everybody who waits how it ended."""
        self.accept()
        if not self.ended.done() and self.record is not None:
            self.ended.set_result(self.record)
        if self.sink is not None:
            self.sink.finish()

    def refuse(self, refusal: ModelPilotError) -> None:
        """Tell everybody who waits that it does not end here."""
        self.state = State.REFUSED
        for future in (self.accepted, self.ended):
            if not future.done():
                future.set_exception(refusal)
        if self.sink is not None:
            self.sink.finish()


# While Postgres is away, ended requests stay in memory until they can be written: so many, and bodies of so many bytes.
MOST_FLIGHTS = 10_000
MOST_BODY_BYTES = 256 * 2**20


class FlightRegistry:
    """All flights of this process, from their decision until they are recorded."""

    def __init__(self, instance: str, most: int = MOST_FLIGHTS, most_body_bytes: int = MOST_BODY_BYTES) -> None:
        self.instance, self.most, self._most_body_bytes = instance, most, most_body_bytes
        self._flights: dict[RequestKey, Flight] = {}
        self._body_bytes = 0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def active(self) -> int:
        """Flights whose outcome is not known yet."""
        return sum(flight.running for flight in self._flights.values())

    def check_room(self) -> None:
        """Raise Overloaded where too many requests wait to be recorded."""
        if len(self._flights) >= self.most or self._body_bytes >= self._most_body_bytes:
            raise Overloaded("Too many requests of this gateway wait to be recorded", retry_after_s=_RETRY_AFTER_S)

    def add(self, flight: Flight) -> None:
        """Register a new flight."""
        self.remove(flight)
        self._flights[flight.key] = flight
        self._body_bytes += len(flight.body)

    def find(self, key: RequestKey) -> Flight | None:
        """The flight of a request."""
        return self._flights.get(key)

    def find_running(self, user_id: str, router_id: str | None, body: bytes) -> Flight | None:
        """A running flight of the same owner with the same body to the same router: what an SDK's automatic repeat
        joins."""
        return next(
            (
                flight
                for flight in self._flights.values()
                if flight.key.user_id == user_id
                and flight.request.router_id == router_id
                and flight.body == body
                and flight.running
                and not flight.abandoned
            ),
            None,
        )

    def remove(self, flight: Flight) -> None:
        """Forget a flight that needs nothing more."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
            self._body_bytes -= len(flight.body)

    def running(self) -> list[Flight]:
        """Flights whose outcome is not known yet."""
        return [flight for flight in self._flights.values() if flight.running]


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
