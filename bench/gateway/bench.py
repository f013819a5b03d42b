"""`modelpilot bench gateway`: what the gateway adds to a direct call, and its rate beside that of no-op workflows.

The router under test has three models of the simulator whose answers take the same known time.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
from temporalio.client import Client

from bench import machine
from bench.gateway.history import Explained, PastModel, past_prompts, prompt
from bench.gateway.noop import NOOP_WORKFLOW, noop_worker, start_to_complete
from bench.gateway.results import FIRST_TOKEN, NOOP, WHOLE, compare
from bench.gateway.targets import BadAnswer, Call, ChatTarget, closed_loop, first_token, open_session, whole_answer
from bench.installation import Installation, fresh_installation
from bench.report import Progress
from bench.statistics import Phase
from infra.temporal.client import connect
from modelpilot import names
from modelpilot.errors import DependencyUnavailable
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.requests.records import HistoryScope

ROUTER_ID = "bench"
SCOPE = HistoryScope(OPERATOR_USER, ROUTER_ID)
# Equally long answers, so that the model chosen makes no difference to the provider's time.
ANSWER_TOKENS = 20
# Simulator's name, quality, latency in ms, USD per input and output token: as the seeded catalogue has them.
_MODELS = (
    ("small", 0.6, 400.0, 0.15e-6, 0.6e-6),
    ("medium", 0.8, 700.0, 0.8e-6, 4e-6),
    ("large", 0.95, 1500.0, 3e-6, 15e-6),
)


def past_models() -> Sequence[PastModel]:
    """What the router's history is made of."""
    return [
        PastModel(_model_id(name), quality, latency_ms, cost_usd=40 * in_usd + ANSWER_TOKENS * out_usd)
        for name, quality, latency_ms, in_usd, out_usd in _MODELS
    ]


def direct_target(installation: Installation, upstream_ms: float) -> ChatTarget:
    """The provider itself: what every other target is compared with."""
    url = f"{installation.settings.simulator_url}/v1/chat/completions"
    return ChatTarget("direct", url, model=_provider_model("small", upstream_ms))


class BenchRouter:
    """The router in a running installation, managed over its API like any other."""

    def __init__(self, installation: Installation, session: aiohttp.ClientSession) -> None:
        self._url, self._session = installation.settings.api_url, session
        self._headers = {"authorization": f"Bearer {installation.admin_key}"}

    @property
    def target(self) -> ChatTarget:
        """Where its requests go."""
        return ChatTarget("gateway", f"{self._url}/router/{ROUTER_ID}", headers=self._headers)

    async def put(self, upstream_ms: float) -> None:
        """Create it, or change how long its models take. Raises BadAnswer."""
        for name, quality, latency_ms, in_usd, out_usd in _MODELS:
            body = {
                "id": _model_id(name),
                "provider": "simulator",
                "providerModel": _provider_model(name, upstream_ms),
                "capabilities": ["chat"],
                "avgLatencyMs": latency_ms,
                "qualityScore": quality,
                "costPerInputToken": in_usd,
                "costPerOutputToken": out_usd,
            }
            await self._json("PUT", f"/api/models/{_model_id(name)}", body)
        router = {
            "id": ROUTER_ID,
            "availableModels": [_model_id(model[0]) for model in _MODELS],
            "objective": {"costWeight": 0.5, "latencyWeight": 0.2, "qualityWeight": 0.3},
            "fallbackStrategy": {"fallbackModels": [], "retryAttempts": 0},
        }
        await self._json("PUT", f"/api/routers/{ROUTER_ID}", router)

    async def explain(self, prompt: str) -> Explained:
        """The neighbours of a decision. Raises BadAnswer."""
        body = {"messages": [{"role": "user", "content": prompt}]}
        decision = (await self._json("POST", f"/router/{ROUTER_ID}/explain", body))["decision"]
        return [(neighbour["requestId"], neighbour["quality"]) for neighbour in decision["neighbours"]]

    async def _json(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._session.request(method, self._url + path, json=body, headers=self._headers) as answer:
            if answer.status not in (200, 201):
                raise BadAnswer(f"{method} {path}: status {answer.status}: {(await answer.text())[:200]}")
            content: dict[str, Any] = await answer.json()
            return content


def _model_id(name: str) -> str:
    return f"bench/{name}"


def _provider_model(name: str, upstream_ms: float) -> str:
    return f"{name}+latency{upstream_ms:g}+tokens{ANSWER_TOKENS}"


SETTLE_WITHIN_S = 60.0
_ASK_AGAIN_S = 0.1
FEWEST_WARM_UP_CALLS = 20


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


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call. `workflow` names the workflow that each call starts, None where it starts none."""

    call: Call
    workflow: str | None = None


@dataclass(slots=True)
class Bench:
    """Runs phases in interleaved rounds: every kind of call gets a turn in every round, so that noise of the machine
    meets all of them. `temporal` is asked when their workflows closed. Every prompt is used once."""

    temporal: Client
    kinds: Mapping[str, Kind]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def warm_up(self, requests: int, concurrency: int) -> None:
        """Every kind once, unmeasured: connections are opened, caches filled."""
        calls = max(min(requests, FEWEST_WARM_UP_CALLS), 2 * concurrency)
        for kind in self.kinds.values():
            await self._phase(kind, calls, concurrency)

    async def rounds(self, rounds: int, requests: int, concurrency: int, progress: Progress) -> dict[str, list[Phase]]:
        """All kinds, `rounds` times, each time beginning with another one."""
        phases: dict[str, list[Phase]] = defaultdict(list)
        names = list(self.kinds)
        for turn in range(rounds):
            progress(f"c={concurrency}: round {turn + 1} of {rounds}")
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                phases[name].append(await self._phase(self.kinds[name], requests, concurrency))
        return {name: phases[name] for name in names}

    async def _phase(self, kind: Kind, requests: int, concurrency: int) -> Phase:
        prompts = [prompt(number) for number in itertools.islice(self.numbers, requests)]
        began = datetime.now(UTC)
        phase = await closed_loop(kind.call, prompts, concurrency)
        if kind.workflow is not None:
            # Also keeps what a phase leaves behind (closing, storing) out of the next one.
            closed = await last_close(self.temporal, kind.workflow, began, len(phase.latencies_ms))
            phase.durable_s = max((closed - began).total_seconds(), phase.answered_s)
        return phase


async def bench_gateway(options: GatewayOptions, progress: Progress) -> dict[str, Any]:
    """Start an installation, measure, stop it; the results as JSON.

    Raises StackError, DependencyUnavailable, BadAnswer where the installation cannot be measured at all.
    """
    about = machine.about("gateway", options)
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
        "setup": {"startS": round(installation.start_s, 2), "historyFillS": round(fill_s, 2)},
        "results": cells,
    }


async def last_close(client: Client, workflow: str, since: datetime, expected: int) -> datetime:
    """Wait until all workflows of this name started at or after `since` are closed; when the last one was, by the
    Temporal server's own record.

    The clock that stamped them is this machine's, and asking takes place after the fact, so that the answer costs the
    measured phase nothing. Raises DependencyUnavailable when fewer than `expected` have closed in time.
    """
    started = f"WorkflowType = '{workflow}' AND StartTime >= '{since.astimezone(UTC).isoformat('T', 'milliseconds')}'"
    try:
        async with asyncio.timeout(SETTLE_WITHIN_S):
            while not await _all_closed(client, started, expected):  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(_ASK_AGAIN_S)
    except TimeoutError:
        found = (await client.count_workflows(started)).count
        raise DependencyUnavailable(
            f"of {expected} {workflow}, {found} were started, and not all have closed"
        ) from None
    closes = [run.close_time async for run in client.list_workflows(started) if run.close_time is not None]
    return max(closes, default=since)


async def _all_closed(client: Client, started: str, expected: int) -> bool:
    # Visibility lags behind a little: first everything must be listed at all.
    if (await client.count_workflows(started)).count < expected:
        return False
    return (await client.count_workflows(f"{started} AND ExecutionStatus = 'Running'")).count == 0


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
        phases = await bench.rounds(
            options.rounds, options.requests, concurrency, lambda text: progress(f"upstream {upstream_ms:g} ms, {text}")
        )
        cells.append({"upstreamMs": upstream_ms, "concurrency": concurrency, **compare(phases)})
    return cells
