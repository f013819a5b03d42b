"""Phases of one kind of call each, in interleaved rounds, with what every process used until all of it was done."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.client import Client

from bench.gateway.history import prompt
from bench.gateway.load import Load, undisturbed
from bench.gateway.targets import Call
from bench.processes import ProcessMeter, cpu_used
from bench.report import Progress
from bench.statistics import Phase
from modelpilot.errors import DependencyUnavailable

SETTLE_WITHIN_S, LATE_CLOSED_WITHIN_S = 180.0, 300.0
# Workflows may start seconds after their answer.
_QUIET_S = 4.0
# Asking costs the server itself something, so it is asked ever less often.
_FIRST_PAUSE_S, _LONGER, _LONGEST_PAUSE_S = 0.1, 1.25, 1.0
FEWEST_WARM_UP_CALLS = 20


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
    meter: ProcessMeter
    kinds: Mapping[str, Kind]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def warm_up(self, requests: int, load: Load) -> None:
        """Every kind once, unmeasured: connections are opened, caches filled."""
        calls = max(min(requests, FEWEST_WARM_UP_CALLS), load.clients)
        for kind in self.kinds.values():
            await self._phase(kind, calls, Load(load.clients))

    async def rounds(self, rounds: int, requests: int, load: Load, progress: Progress) -> dict[str, list[Phase]]:
        """All kinds, `rounds` times, each time beginning with another one."""
        phases: dict[str, list[Phase]] = defaultdict(list)
        names = list(self.kinds)
        for turn in range(rounds):
            progress(f"round {turn + 1} of {rounds}")
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                phases[name].append(await self._phase(self.kinds[name], requests, load))
        return {name: phases[name] for name in names}

    async def _phase(self, kind: Kind, requests: int, load: Load) -> Phase:
        prompts = take(self.numbers, requests)
        with undisturbed():
            before, began = self.meter.read(), datetime.now(UTC)
            phase = await load.run(kind.call, prompts)
        if kind.workflow is not None:
            # Also keeps what a phase leaves behind (closing, storing) out of the next one.
            await all_closed(self.temporal, kind.workflow, began, len(phase.latencies_ms))
        phase.cpu_ms = cpu_used(before, self.meter.read())
        if kind.workflow is not None:
            closed = await last_close(self.temporal, kind.workflow, began)
            phase.durable_s = max((closed - began).total_seconds(), phase.answered_s)
        return phase


def take(numbers: "itertools.count[int]", count: int) -> list[str]:
    """The prompts of the next so many numbers."""
    return [prompt(number) for number in itertools.islice(numbers, count)]


async def all_closed(
    client: Client,
    workflow: str,
    since: datetime,
    expected: int,
    *,
    quiet_s: float = 0.0,
    within_s: float = SETTLE_WITHIN_S,
) -> int:
    """Wait until `expected` workflows of this name that started at or after `since`, and any further ones, are closed;
    how many there were. They may start late: with `quiet_s`, none may have appeared for so long.

    Raises DependencyUnavailable when that is not so within `within_s`.
    """
    started = _started(workflow, since)
    found, changed, pause_s = -1, time.monotonic(), _FIRST_PAUSE_S
    try:
        async with asyncio.timeout(within_s):
            while True:
                # Visibility lags behind a little: first everything must be listed at all.
                count, now = (await client.count_workflows(started)).count, time.monotonic()
                found, changed = (found, changed) if count == found else (count, now)
                if found >= expected and now - changed >= quiet_s and not await _running(client, started):
                    return found
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGER * pause_s, _LONGEST_PAUSE_S)
    except TimeoutError:
        raise DependencyUnavailable(
            f"of {expected} {workflow}, {found} were started, and not all have closed"
        ) from None


async def late_closed(client: Client, workflow: str, since: datetime, answered: int) -> int | None:
    """The same after a load that leaves work behind, where unanswered requests may have workflows, too: None where not
    all are closed within LATE_CLOSED_WITHIN_S."""
    try:
        return await all_closed(client, workflow, since, answered, quiet_s=_QUIET_S, within_s=LATE_CLOSED_WITHIN_S)
    except DependencyUnavailable:
        return None


async def last_close(client: Client, workflow: str, since: datetime) -> datetime:
    """When the last of them was closed, by the Temporal server's own record; `since` where there is none.

    The clock that stamped them is this machine's, and asking takes place after the fact, so that the answer costs the
    measured phase nothing.
    """
    closes = [run.close_time async for run in client.list_workflows(_started(workflow, since))]
    return max((close for close in closes if close is not None), default=since)


def _started(workflow: str, since: datetime) -> str:
    return f"WorkflowType = '{workflow}' AND StartTime >= '{since.astimezone(UTC).isoformat('T', 'milliseconds')}'"


async def _running(client: Client, started: str) -> int:
    return (await client.count_workflows(f"{started} AND ExecutionStatus = 'Running'")).count
