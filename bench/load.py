"""Load: a fixed number of calls by a fixed number of clients, each of which asks again when it has its answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from bench.statistics import Phase
from bench.targets import BadAnswer, Timed

Call = Callable[[str], Awaitable[Timed]]

_FAILURES = (BadAnswer, aiohttp.ClientError, TimeoutError, WorkflowFailureError, RPCError)


async def closed_loop(call: Call, prompts: Sequence[str], concurrency: int) -> Phase:
    """Make one call per prompt, `concurrency` at a time. A failed call is counted and is no sample."""
    waiting, phase = iter(prompts), Phase()

    async def client() -> None:
        for prompt in waiting:  # shared: each client takes the next one
            try:
                timed = await call(prompt)
            except _FAILURES as error:
                phase.errors[f"{type(error).__name__}: {error}"[:200]] += 1
            else:
                phase.latencies_ms.append(timed.ms)
                phase.degraded += timed.degraded

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    phase.answered_s = time.perf_counter() - began
    return phase
