"""Requests that come by the clock, at rates up to more than the installation can do: how many get an answer, how many
are refused, and what was paid for nothing."""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from temporalio.client import Client

from bench.gateway.load import Arrivals, open_loop, undisturbed
from bench.gateway.rounds import LATE_CLOSED_WITHIN_S, last_close, late_closed, take
from bench.gateway.targets import Call
from bench.processes import ProcessMeter, cpu_used
from bench.report import Row, table
from bench.statistics import per_call, percentile, percentiles
from modelpilot import names

_BUSY = 503


@dataclass(frozen=True, slots=True)
class RateRun:
    """What every rate is measured with. `provider_calls` says how many there have been since the beginning."""

    temporal: Client
    meter: ProcessMeter
    call: Call
    provider_calls: Callable[[], Awaitable[int]]
    numbers: "itertools.count[int]"

    async def measure(self, per_s: float, seconds: float) -> dict[str, Any]:
        """One rate, until every workflow is closed; JSON."""
        prompts = take(self.numbers, max(round(per_s * seconds), 1))
        calls_before = await self.provider_calls()
        with undisturbed():
            before, began = self.meter.read(), datetime.now(UTC)
            arrivals = await open_loop(self.call, prompts, per_s)
        workflows = await late_closed(self.temporal, names.ROUTE_REQUEST_WORKFLOW, began, len(arrivals.latencies_ms))
        cpu_ms = cpu_used(before, self.meter.read())
        closed = await last_close(self.temporal, names.ROUTE_REQUEST_WORKFLOW, began)
        sent_for_s = (closed - began).total_seconds() - arrivals.sent_s
        return {
            "perS": per_s,
            "seconds": seconds,
            **to_json(arrivals, await self.provider_calls() - calls_before),
            "workflows": workflows,
            "closedS": None if workflows is None else round(max(sent_for_s, 0.0), 2),
            "cpuMsPerAnswer": per_call([cpu_ms], len(arrivals.latencies_ms)),
        }


def to_json(arrivals: Arrivals, provider_calls: int) -> dict[str, Any]:
    """Counts and milliseconds. Each request is in exactly one of answered, refused, other statuses and broken."""
    answered, refused = len(arrivals.latencies_ms), arrivals.statuses[_BUSY]
    late = sorted(arrivals.late_ms)
    return {
        "asked": len(late),
        "answered": answered,
        "refused": refused,
        "otherStatuses": {str(status): count for status, count in arrivals.statuses.items() if status != _BUSY},
        "broken": dict(arrivals.broken),
        "degraded": arrivals.degraded,
        "ms": _rounded(percentiles(arrivals.latencies_ms)),
        "lateMs": _rounded({"p50": percentile(late, 50), "p99": percentile(late, 99), "max": late[-1]} if late else {}),
        "providerCalls": provider_calls,
        "paidNotAnswered": provider_calls - answered,
    }


_COLUMNS = (
    "per s", "asked", "answered", "503", "other", "broken", "p50 / p99 ms", "late p99 / max",
    "provider calls", "paid, no answer", "closed after s",
)  # fmt: skip


def rates_table(rates: Sequence[Mapping[str, Any]], upstream_ms: float) -> Table:
    """One row for each rate."""
    title = f"requests by the clock, upstream {upstream_ms:g} ms; ms from when one was due; `late`: the client itself"
    return table(title, _COLUMNS, map(_row, rates))


def rate_problems(rates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the table does not say: which other statuses and broken connections, degraded answers, open workflows."""
    for rate in rates:
        where = f"{rate['perS']:g} per s"
        yield from (f"{where}: {count} × status {status}" for status, count in rate["otherStatuses"].items())
        yield from (f"{where}: {count} × {error}" for error, count in rate["broken"].items())
        if rate["degraded"]:
            yield f"{where}: {rate['degraded']} of {rate['answered']} answers were degraded"
        if rate["workflows"] is None:
            yield f"{where}: some workflows were not closed {LATE_CLOSED_WITHIN_S:.0f} s later"


def _row(rate: Mapping[str, Any]) -> Row:
    ms, late_ms = rate["ms"], rate["lateMs"]
    return (
        f"{rate['perS']:g}",
        f"{rate['asked']:,}",
        f"{rate['answered']:,}",
        f"{rate['refused']:,}",
        f"{sum(rate['otherStatuses'].values()):,}",
        f"{sum(rate['broken'].values()):,}",
        f"{ms['p50']:.0f} / {ms['p99']:.0f}" if ms else "",
        f"{late_ms['p99']:.1f} / {late_ms['max']:.1f}" if late_ms else "",
        f"{rate['providerCalls']:,}",
        f"{rate['paidNotAnswered']:,}",
        "not closed" if rate["closedS"] is None else f"{rate['closedS']:.1f}",
    )


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}
