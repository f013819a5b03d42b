"""`modelpilot bench soak`: whether the memory of any process grows with the requests that it has served."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bench import machine
from bench.gateway.history import prompt
from bench.gateway.load import closed_loop, undisturbed
from bench.gateway.rounds import late_closed
from bench.gateway.router import Answers, BenchRouter, prepare_history
from bench.gateway.targets import open_session, whole_answer
from bench.installation import fresh_installation
from bench.processes import ProcessMeter
from bench.report import Progress, Row, conditions, print_report, table
from bench.statistics import slope
from infra.temporal.client import connect
from modelpilot import names

LEAST_WIDTH = 100
_THOUSAND = 1_000.0

# How many requests had been sent, and what each process held then, MiB.
Sample = tuple[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """So many `requests` by so many `clients`, each of which asks again when it has its answer; memory is read every
    `every` requests, and `rest_s` after the last workflow has closed. `history` is in rows."""

    requests: int = 20_000
    clients: int = 16
    every: int = 500
    upstream_ms: float = 20.0
    history: int = 20_000
    rest_s: float = 60.0


async def bench_soak(options: SoakOptions, progress: Progress) -> dict[str, Any]:
    """Start an installation, load it, stop it; the results as JSON.

    Raises StackError, DependencyUnavailable, BadAnswer where the installation cannot be measured at all.
    """
    about = machine.about("soak", options)
    async with AsyncExitStack() as stack:
        installation = await stack.enter_async_context(fresh_installation(progress))
        session = await stack.enter_async_context(open_session())
        client = await connect(installation.settings, installation.keyring, "bench")
        router = BenchRouter(installation, session)
        await prepare_history(installation, router, options.history, 0.0, progress)
        await router.put(Answers(options.upstream_ms))
        meter, samples = ProcessMeter(installation.pid), list[Sample]()
        at_start, began = meter.memory_mb(), datetime.now(UTC)
        prompts = _sampled(options, meter, samples, progress)
        with undisturbed():
            phase = await closed_loop(partial(whole_answer, session, router.target), prompts, options.clients)
        after_load = meter.memory_mb()
        progress("waiting until every workflow is closed")
        workflows = await late_closed(client, names.ROUTE_REQUEST_WORKFLOW, began, len(phase.latencies_ms))
        progress(f"letting it rest for {options.rest_s:g} s")
        await asyncio.sleep(options.rest_s)
        at_rest = meter.memory_mb()
    answered = len(phase.latencies_ms)
    return {
        **about,
        "answered": answered,
        "answeredPerS": round(answered / phase.answered_s, 2),
        "errors": dict(phase.errors),
        "allClosed": workflows is not None,
        "memory": growth(samples, at_start, after_load, at_rest),
        "samples": [{"requests": count, "mb": dict(mb)} for count, mb in samples],
    }


def growth(
    samples: Sequence[Sample],
    at_start: Mapping[str, float],
    after_load: Mapping[str, float],
    at_rest: Mapping[str, float],
) -> dict[str, dict[str, float | None]]:
    """Of each process MiB before, right after and a while after the load, and MiB per 1,000 requests under it: over all
    samples, and over the later half, when caches and pools have their size."""
    later = samples[len(samples) // 2 :]
    return {
        role: {
            "startMb": at_start.get(role),
            "afterLoadMb": after_load.get(role),
            "atRestMb": at_rest.get(role),
            "mbPer1000": _slope(samples, role),
            "mbPer1000Later": _slope(later, role),
        }
        for role in after_load
    }


def _slope(samples: Sequence[Sample], role: str) -> float | None:
    found = slope([(count / _THOUSAND, mb[role]) for count, mb in samples if role in mb])
    return None if found is None else round(found, 3)


def _sampled(options: SoakOptions, meter: ProcessMeter, samples: list[Sample], progress: Progress) -> Iterator[str]:
    """The prompts; whoever takes one that is due for a sample takes the sample first."""
    began = time.perf_counter()
    for sent, number in enumerate(itertools.islice(itertools.count(options.history), options.requests)):
        if sent and sent % options.every == 0:
            memory_mb = meter.memory_mb()
            samples.append((sent, memory_mb))
            held = ", ".join(f"{role} {mb:.0f}" for role, mb in memory_mb.items())
            progress(f"{sent:,} requests, {sent / (time.perf_counter() - began):.0f} per s; MiB: {held}")
        yield prompt(number)


def show_soak(results: Mapping[str, Any]) -> None:
    """Print the results on standard output, and every reason not to trust them."""
    rows = [_row(role, found) for role, found in results["memory"].items()]
    options = results["options"]
    print_report(
        table("memory of each process, MiB", _COLUMNS, rows, texts=("process",)),
        f"{results['answered']:,} of {options['requests']:,} answered by {options['clients']} clients, "
        f"{results['answeredPerS']:.1f} per second; {options['history']:,} past prompts; {conditions(results)}",
        *soak_problems(results),
        least_width=LEAST_WIDTH,
    )


def soak_problems(results: Mapping[str, Any]) -> list[str]:
    """One line for each reason not to trust the figures."""
    failed = [f"{count} failed: {error}" for error, count in results["errors"].items()]
    return failed if results["allClosed"] else [*failed, "not every workflow was closed before the rest"]


_COLUMNS = ("process", "start", "after load", "at rest", "per 1,000 requests", "in the later half")


def _row(role: str, found: Mapping[str, float | None]) -> Row:
    held = [_number(found[name], ".0f") for name in ("startMb", "afterLoadMb", "atRestMb")]
    return [role, *held, *(_number(found[name], "+.2f") for name in ("mbPer1000", "mbPer1000Later"))]


def _number(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)
