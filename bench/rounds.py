"""Interleaved rounds: every kind of call gets a turn in every round, so that noise of the machine meets all of them."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.client import Client

from bench.closings import last_close
from bench.load import Call, closed_loop
from bench.prompts import prompt
from bench.statistics import Phase

FEWEST_WARM_UP_CALLS = 20

Phases = Mapping[str, Sequence[Phase]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call. `workflow` names the workflow that each call starts, None where it starts none."""

    call: Call
    workflow: str | None = None


@dataclass(slots=True)
class Bench:
    """Runs phases; `temporal` is asked when their workflows closed. Every prompt is used once."""

    temporal: Client
    kinds: Mapping[str, Kind]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def warm_up(self, requests: int, concurrency: int) -> None:
        """Every kind once, unmeasured: connections are opened, caches filled."""
        calls = max(min(requests, FEWEST_WARM_UP_CALLS), 2 * concurrency)
        for kind in self.kinds.values():
            await self._phase(kind, calls, concurrency)

    async def rounds(
        self, rounds: int, requests: int, concurrency: int, progress: Callable[[str], None]
    ) -> dict[str, list[Phase]]:
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
