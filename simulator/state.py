"""What a running simulator knows: its configuration, its switches, its calls."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aiohttp import web

from simulator.calls import CallLog
from simulator.faults import Active, Fault
from simulator.prefix_cache import PrefixCache
from simulator.text import digest

_MAX_COUNTERS = 100_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Faults for every call to `model` (`*`: any) whose last user message contains `match`. `since` is in seconds."""

    model: str
    match: str
    faults: tuple[Fault, ...]
    since: float
    number: int


class FaultSwitches:
    """Says which faults play on a call: those set for its model through the admin endpoint, and those it brings.

    It holds the rules and counts how often each limited fault has played. A fault a request brings is counted per
    (model as written, prompt): `small+503x1` fails once for every prompt. A fault set for a model is counted over all
    its calls.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = 0
        self.clear()

    def set(self, model: str, faults: tuple[Fault, ...], match: str = "") -> None:
        """Put `faults` on `model` in place of what was there; none at all switches the model back to normal."""
        self._rules.pop((model, match), None)
        if faults:
            self._numbers += 1
            self._rules[model, match] = Rule(model, match, faults, self._clock(), self._numbers)

    def clear(self) -> None:
        """Forget all rules and counters; flapping requests start again with the failing half."""
        self._rules: dict[tuple[str, str], Rule] = {}
        self._played: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._since = self._clock()

    @property
    def rules(self) -> list[Rule]:
        """The rules in force, oldest first."""
        return list(self._rules.values())

    def active(self, model: str, prompt: str, brought: tuple[Fault, ...]) -> Active:
        """Return the faults that play on this call of `model` (as written), and count them; the request's own win."""
        if not brought and not self._rules:
            return Active()
        playing: list[Fault] = []
        base = model.partition("+")[0].rsplit("/", 1)[-1]
        for rule in self._rules.values():
            if rule.model in ("*", base, model) and rule.match in prompt:
                playing += self._play(f"rule {rule.number}", rule.faults, rule.since)
        if brought:
            playing += self._play(digest(model, prompt, brought), brought, self._since)
        return Active(playing)

    def _play(self, group: str, faults: tuple[Fault, ...], since: float) -> Iterable[Fault]:
        period_s = next((fault.value for fault in faults if fault.name == "flap"), None)
        if isinstance(period_s, float) and period_s > 0 and int((self._clock() - since) / period_s) % 2:
            return []
        return [fault for index, fault in enumerate(faults) if fault.times is None or self._count(group, index, fault)]

    def _count(self, group: str, index: int, fault: Fault) -> bool:
        played = self._played.get((group, index), 0)
        if played >= (fault.times or 0):
            return False
        self._played[group, index] = played + 1
        if len(self._played) > _MAX_COUNTERS:
            self._played.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """How a simulator behaves where a request does not say otherwise.

    `latency_ms`: every answer comes whole after so many milliseconds (None: each model's own pace). `tokens`: length of
    every text answer (None: each model's own). `max_calls`: how many calls the log keeps.
    """

    latency_ms: float | None = None
    tokens: int | None = None
    max_calls: int = 10_000


@dataclass
class Simulator:
    """The state behind one application; `stopping` is set when the server shuts down."""

    config: SimulatorConfig
    switches: FaultSwitches = field(default_factory=FaultSwitches)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.calls = CallLog(self.config.max_calls)
        self.prefixes = PrefixCache()


SIMULATOR = web.AppKey("simulator", Simulator)
