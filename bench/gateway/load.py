"""The two ways of making load: clients that wait for their answers, and requests that come by the clock."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from bench.gateway.targets import BadAnswer, BadStatus, Call, Timed
from bench.statistics import Phase

FAILURES = (BadAnswer, aiohttp.ClientError, TimeoutError, WorkflowFailureError, RPCError)
_MS_PER_S = 1_000.0


@dataclass(frozen=True, slots=True)
class Load:
    """So many `clients`, or, where `per_s` is given, so many requests per second whatever the answers do."""

    clients: int = 1
    per_s: float | None = None

    async def run(self, call: Call, prompts: Sequence[str]) -> Phase:
        """One call per prompt."""
        if self.per_s is None:
            return await closed_loop(call, prompts, self.clients)
        return (await open_loop(call, prompts, self.per_s)).phase()


async def closed_loop(call: Call, prompts: Iterable[str], concurrency: int) -> Phase:
    """Make one call per prompt by `concurrency` clients, each of which asks again when it has its answer.

    A failed call is counted and is no sample.
    """
    waiting, phase = iter(prompts), Phase()

    async def client() -> None:
        for prompt in waiting:  # shared: each client takes the next one
            try:
                timed = await call(prompt)
            except FAILURES as error:
                phase.errors[f"{type(error).__name__}: {error}"[:200]] += 1
            else:
                phase.latencies_ms.append(timed.ms)
                phase.degraded += timed.degraded

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    phase.answered_s = time.perf_counter() - began
    return phase


@dataclass(slots=True)
class Arrivals:
    """How requests fared that came by the clock.

    `latencies_ms` has the answered ones, from when each was due, so that a late generator flatters nobody; `late_ms`
    says how late each was sent. `statuses` counts error answers, `broken` those that never came, by the reason.
    `sent_s` ends with the last request, `answered_s` with the last answer.
    """

    latencies_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    sent_s: float = 0.0
    answered_s: float = 0.0

    def answered(self, timed: Timed, late_ms: float) -> None:
        """Count an answer."""
        self.latencies_ms.append(late_ms + timed.ms)
        self.degraded += timed.degraded

    def phase(self) -> Phase:
        """The same as what clients that wait would have seen."""
        errors = Counter({f"status {status}": count for status, count in self.statuses.items()}) + self.broken
        return Phase(self.latencies_ms, errors, self.degraded, self.answered_s)


async def open_loop(call: Call, prompts: Sequence[str], per_s: float) -> Arrivals:
    """Make one call per prompt, `per_s` of them each second, whether or not the ones before have their answers."""
    arrivals = Arrivals()

    async def ask(prompt: str, due: float) -> None:
        late_ms = _MS_PER_S * (time.perf_counter() - due)
        arrivals.late_ms.append(late_ms)
        try:
            arrivals.answered(await call(prompt), late_ms)
        except BadStatus as error:
            arrivals.statuses[error.status] += 1
        except FAILURES as error:
            arrivals.broken[f"{type(error).__name__}: {error}"[:100]] += 1

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, prompt in enumerate(prompts):
            due = began + number / per_s
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            group.create_task(ask(prompt, due))
        arrivals.sent_s = time.perf_counter() - began
    arrivals.answered_s = time.perf_counter() - began
    return arrivals


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let the garbage collector leave alone what there is now: going through all of it would hold up every call for
    a quarter of a second, which would look like the servers' doing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
