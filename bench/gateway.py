"""`modelpilot bench gateway`: what the gateway adds to a direct call, and its rate beside that of no-op workflows."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from temporalio.client import Client

from bench import machine
from bench.bench_router import SCOPE, BenchRouter, direct_target, past_models
from bench.history import past_prompts
from bench.installation import Installation, fresh_installation
from bench.noop import NOOP_WORKFLOW, noop_worker, start_to_complete
from bench.results import FIRST_TOKEN, NOOP, WHOLE, compare
from bench.rounds import Bench, Kind
from bench.targets import ChatTarget, first_token, open_session, whole_answer
from infra.temporal.client import connect
from modelpilot import names

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """`requests` is per kind of call, round, upstream latency and concurrency; `history` is in rows.

    `rest_s` is the pause between filling the history and its first use. A gateway reads rows that are less than a
    minute old again with each refresh, and Milvus merges what was flushed: neither is what 20,000 old prompts cost.
    """

    rounds: int = 5
    requests: int = 200
    concurrency: tuple[int, ...] = (1, 16)
    upstream_ms: tuple[float, ...] = (20.0, 0.0)
    history: int = 20_000
    rest_s: float = 65.0


async def bench_gateway(options: GatewayOptions, progress: Progress) -> dict[str, Any]:
    """Start an installation, measure, stop it; the results as JSON.

    Raises StackError, DependencyUnavailable, BadAnswer where the installation cannot be measured at all.
    """
    about = machine.about("gateway")
    async with AsyncExitStack() as stack:
        installation = await stack.enter_async_context(fresh_installation(progress))
        session = await stack.enter_async_context(open_session())
        client = await connect(installation.settings, installation.keyring, "bench")
        await stack.enter_async_context(noop_worker(client))
        router = BenchRouter(installation, session)
        fill_s = await _prepare(installation, router, options, progress)
        numbers = itertools.count(options.history)
        cells = []
        for upstream_ms in options.upstream_ms:
            await router.put(upstream_ms)
            targets = [direct_target(installation, upstream_ms), router.target]
            bench = Bench(client, _kinds(session, client, targets), numbers)
            cells += await _measure(bench, options, upstream_ms, progress)
    return {
        **about,
        "options": _options(options),
        "setup": {"startS": round(installation.start_s, 2), "historyFillS": round(fill_s, 2)},
        "results": cells,
    }


def _options(options: GatewayOptions) -> dict[str, Any]:
    return {
        "rounds": options.rounds,
        "requests": options.requests,
        "concurrency": list(options.concurrency),
        "upstreamMs": list(options.upstream_ms),
        "history": options.history,
        "restS": options.rest_s,
    }


async def _prepare(
    installation: Installation, router: BenchRouter, options: GatewayOptions, progress: Progress
) -> float:
    """Fill the history before the first query, so that the gateway loads it as a restarted one would; seconds taken."""
    async with past_prompts(installation.settings, SCOPE, past_models()) as history:
        progress(f"storing {options.history:,} past prompts")
        began = time.perf_counter()
        await history.fill(options.history)
        fill_s = time.perf_counter() - began
        await router.put(options.upstream_ms[0])
        progress(f"letting them settle for {options.rest_s:g} s")
        await asyncio.sleep(options.rest_s)
        progress("waiting until the gateway answers from memory")
        await history.wait_until_hot(router.explain)
    return fill_s


def _kinds(session: aiohttp.ClientSession, client: Client, targets: Sequence[ChatTarget]) -> dict[str, Kind]:
    """What is measured, by name: both ways of asking for each target, and the no-op workflow.

    A peer is one more target.
    """
    ways = {WHOLE: whole_answer, FIRST_TOKEN: first_token}
    kinds = {
        f"{target.name}.{way}": Kind(partial(ask, session, target), _workflow_of(target))
        for way, ask in ways.items()
        for target in targets
    }

    async def noop(_: str) -> Any:
        return await start_to_complete(client)

    return {**kinds, NOOP: Kind(noop, NOOP_WORKFLOW)}


def _workflow_of(target: ChatTarget) -> str | None:
    return names.ROUTE_REQUEST_WORKFLOW if target.name == "gateway" else None


async def _measure(
    bench: Bench, options: GatewayOptions, upstream_ms: float, progress: Progress
) -> list[dict[str, Any]]:
    cells = []
    for concurrency in options.concurrency:
        progress(f"upstream {upstream_ms:g} ms, c={concurrency}: warming up")
        await bench.warm_up(options.requests, concurrency)
        label = partial(_labelled, progress, f"upstream {upstream_ms:g} ms, ")
        phases = await bench.rounds(options.rounds, options.requests, concurrency, label)
        cells.append({"upstreamMs": upstream_ms, "concurrency": concurrency, **compare(phases)})
    return cells


def _labelled(progress: Progress, prefix: str, text: str) -> None:
    progress(prefix + text)
