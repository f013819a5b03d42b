"""What a running simulator knows: its configuration, its switches, its calls."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from simulator.calls import CallLog
from simulator.switches import FaultSwitches


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


SIMULATOR = web.AppKey("simulator", Simulator)
