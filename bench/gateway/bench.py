"""`modelpilot bench gateway`: what the gateway adds to a direct call, what it costs each process, how it fares beside
no-op workflows and peers, and what it does with more requests than it can answer.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import aiohttp
from pydantic.alias_generators import to_camel
from temporalio.client import Client

from bench import machine
from bench.gateway.load import Load
from bench.gateway.noop import NOOP_WORKFLOW, noop_worker, start_to_complete
from bench.gateway.peers import Peer, running_peers
from bench.gateway.rates import RateRun
from bench.gateway.results import FIRST_TOKEN, NOOP, WHOLE, chunk_costs, compare, setting_name
from bench.gateway.rounds import Bench, Kind
from bench.gateway.router import (
    SHORT_TOKENS,
    Answers,
    BenchRouter,
    direct_target,
    prepare_history,
    provider_calls,
)
from bench.gateway.targets import Call, ChatTarget, first_token, open_session, whole_answer
from bench.installation import Installation, fresh_installation
from bench.processes import ProcessMeter, cpu_used
from bench.report import Progress
from infra.temporal.client import connect
from modelpilot import names

_WAYS = {WHOLE: whole_answer, FIRST_TOKEN: first_token}


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """`requests` is per kind of call, round, upstream latency and concurrency; `history` is in rows.

    `rest_s` is the pause between filling the history and its first use: a gateway reads rows that are less than a
    minute old again with each refresh, and Milvus merges what was flushed: neither is what 20,000 old prompts cost.
    `idle_s` is how long the processes are watched with nothing to do. `steady_per_s` requests come each second for
    `steady_s`. `long_requests` are per kind of call, with answers of `long_tokens`. Each of the `rates` (per second,
    over a provider of `rate_upstream_ms`) lasts `rate_s`. `only` leaves out the rates, or all but the rates.
    """

    rounds: int = 3
    requests: int = 200
    concurrency: tuple[int, ...] = (1, 16)
    upstream_ms: tuple[float, ...] = (20.0, 0.0)
    history: int = 20_000
    rest_s: float = 65.0
    idle_s: float = 10.0
    steady_per_s: float = 4.0
    steady_s: float = 30.0
    long_tokens: int = 800
    long_requests: int = 48
    rates: tuple[float, ...] = (25.0, 50.0, 100.0, 200.0)
    rate_s: float = 20.0
    rate_upstream_ms: float = 20.0
    only: Literal["calls", "rates"] | None = None
    peers: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One table of the results: how the provider answers, how it is asked, and which kinds of call take turns."""

    answers: Answers
    load: Load
    rounds: int
    requests: int
    ways: tuple[str, ...] = tuple(_WAYS)
    noop: bool = True

    def to_json(self) -> dict[str, Any]:
        """What tells it from the others. `concurrency` is None where requests come by the clock."""
        clients = self.load.clients if self.load.per_s is None else None
        about = {to_camel(name): value for name, value in asdict(self.answers).items()}
        return {**about, "concurrency": clients, "perS": self.load.per_s}


def settings_of(options: GatewayOptions) -> Iterator[Setting]:
    """What is measured in rounds, in this order."""
    if options.only == "rates":
        return
    for upstream_ms in options.upstream_ms:
        for clients in options.concurrency:
            yield Setting(Answers(upstream_ms), Load(clients), options.rounds, options.requests)
    first, most = options.upstream_ms[0], Load(max(options.concurrency))
    steady = max(round(options.steady_per_s * options.steady_s), 1)
    yield Setting(Answers(first), Load(per_s=options.steady_per_s), 1, steady, ways=(WHOLE,))
    yield Setting(Answers(first, options.long_tokens), most, 1, options.long_requests, noop=False)
    for tokens in (SHORT_TOKENS, options.long_tokens):
        yield Setting(Answers(first, tokens, one_by_one=True), most, 1, options.long_requests, noop=False)


@dataclass(slots=True)
class Setup:
    """What all measurements share. `memory` grows by what each process holds after each of them."""

    installation: Installation
    session: aiohttp.ClientSession
    temporal: Client
    router: BenchRouter
    meter: ProcessMeter
    peers: Sequence[Peer]
    numbers: "itertools.count[int]"
    memory: list[dict[str, Any]] = field(default_factory=list)

    def note_memory(self, when: str) -> None:
        """What each process holds now."""
        self.memory.append({"when": when, "mb": self.meter.memory_mb()})

    def kinds(self, setting: Setting) -> dict[str, Kind]:
        """What is measured, by name: each way of asking for each target, and the no-op workflow."""
        model = setting.answers.model()
        targets = [
            direct_target(self.installation, model),
            self.router.target,
            *(peer.target(model) for peer in self.peers),
        ]
        asked = itertools.product(setting.ways, targets)
        kinds = {f"{target.name}.{way}": Kind(self.call(way, target), _workflow_of(target)) for way, target in asked}
        return {**kinds, NOOP: Kind(self._noop, NOOP_WORKFLOW)} if setting.noop else kinds

    def call(self, way: str, target: ChatTarget) -> Call:
        """One way of asking a target."""
        return partial(_WAYS[way], self.session, target)

    async def _noop(self, _: str) -> Any:
        return await start_to_complete(self.temporal)


async def bench_gateway(options: GatewayOptions, peers_dir: Path | None, progress: Progress) -> dict[str, Any]:
    """Start an installation, measure, stop it; the results as JSON. Peers are installed in `peers_dir`, where given.

    Raises StackError, DependencyUnavailable, BadAnswer where the installation cannot be measured at all.
    """
    about = machine.about("gateway", options)
    async with AsyncExitStack() as stack:
        installation = await stack.enter_async_context(fresh_installation(progress))
        setup = await _set_up(stack, installation, options, peers_dir, progress)
        setup.note_memory("at the start")
        fill_s = await prepare_history(installation, setup.router, options.history, options.rest_s, progress)
        setup.note_memory("past prompts stored")
        idle = await _idle(setup, options.idle_s, progress)
        cells = [await _measure(setup, setting, progress) for setting in settings_of(options)]
        rates = [] if options.only == "calls" else await _measure_rates(setup, options, progress)
        setup.note_memory("at the end")
    return {
        **about,
        "setup": {"startS": round(installation.start_s, 2), "historyFillS": round(fill_s, 2)},
        "idleCpuMsPerS": idle,
        "results": cells,
        "cpuMsPerChunk": chunk_costs(cells),
        "rates": rates,
        "memory": setup.memory,
    }


async def _set_up(
    stack: AsyncExitStack,
    installation: Installation,
    options: GatewayOptions,
    peers_dir: Path | None,
    progress: Progress,
) -> Setup:
    peers: list[Peer] = []
    models = {setting.answers.model() for setting in settings_of(options)}
    if options.peers and models:
        url = str(installation.settings.simulator_url)
        peers = await stack.enter_async_context(running_peers(url, sorted(models), peers_dir, progress))
    session = await stack.enter_async_context(open_session())
    client = await connect(installation.settings, installation.keyring, "bench")
    await stack.enter_async_context(noop_worker(client))
    return Setup(
        installation=installation,
        session=session,
        temporal=client,
        router=BenchRouter(installation, session),
        meter=ProcessMeter(installation.pid, {peer.name: peer.pid for peer in peers}),
        peers=peers,
        numbers=itertools.count(options.history),
    )


async def _idle(setup: Setup, seconds: float, progress: Progress) -> dict[str, float | None]:
    """CPU milliseconds per second of each process with nothing to do: part of what a low rate costs per request."""
    progress(f"watching idle processes for {seconds:g} s")
    before = setup.meter.read()
    await asyncio.sleep(seconds)
    used = cpu_used(before, setup.meter.read())
    return {role: None if ms is None else round(ms / seconds, 3) for role, ms in used.items()}


async def _measure(setup: Setup, setting: Setting, progress: Progress) -> dict[str, Any]:
    about = setting.to_json()
    name = setting_name(about)
    await setup.router.put(setting.answers)
    bench = Bench(setup.temporal, setup.meter, setup.kinds(setting), setup.numbers)
    progress(f"{name}: warming up")
    await bench.warm_up(setting.requests, setting.load)
    phases = await bench.rounds(
        setting.rounds, setting.requests, setting.load, lambda text: progress(f"{name}: {text}")
    )
    setup.note_memory(name)
    return {**about, **compare(phases)}


async def _measure_rates(setup: Setup, options: GatewayOptions, progress: Progress) -> list[dict[str, Any]]:
    await setup.router.put(Answers(options.rate_upstream_ms))
    run = RateRun(
        temporal=setup.temporal,
        meter=setup.meter,
        call=setup.call(WHOLE, setup.router.target),
        provider_calls=partial(provider_calls, setup.session, setup.installation),
        numbers=setup.numbers,
    )
    found = []
    for per_s in options.rates:
        progress(f"{per_s:g} requests per second for {options.rate_s:g} s, and until all is closed")
        found.append(await run.measure(per_s, options.rate_s))
        setup.note_memory(f"{per_s:g} per second")
    return found


def _workflow_of(target: ChatTarget) -> str | None:
    return names.ROUTE_REQUEST_WORKFLOW if target.name == "gateway" else None
