"""Whether Postgres takes writes, known before a request spends anything; and how long its backlog is."""

import asyncio
import math
import time
from typing import Protocol

import structlog

from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.records import Backlog

log = structlog.get_logger(__name__)

PROBE_EVERY_S = 1.0
LATE_S = 0.9
PROBE_TIMEOUT_S = 4.0  # the source gives up before; a canceled query waits for a server that may be frozen


class BacklogSource(Protocol):
    """Where accepted requests wait for their workflows."""

    async def backlog(self) -> Backlog:
        """How many, and for how long. Raises DependencyUnavailable."""
        ...


class PostgresHealth:
    """Asks the server every second; `seen` is what it said last. One late answer is a busy machine, two are an outage,
    unless something was written meanwhile."""

    def __init__(self, source: BacklogSource, every_s: float = PROBE_EVERY_S) -> None:
        self._source, self._every_s = source, every_s
        self._missed, self._wrote_at = 0, -math.inf
        self.seen = Backlog()
        self.up = True

    def wrote(self) -> None:
        """Somebody has just committed something."""
        self._wrote_at = time.monotonic()
        self._is(up=True)

    async def watch(self) -> None:
        """Ask until canceled."""
        while True:
            await self.probe()
            await asyncio.sleep(self._every_s)

    async def probe(self) -> bool:
        """Ask now."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                self.seen = await self._source.backlog()
            self._missed = 0 if self.seen.writable else 2
        except (DependencyUnavailable, TimeoutError) as error:
            late = isinstance(error, TimeoutError) or time.monotonic() - began >= LATE_S
            self._missed += 1 if late else 2
        if self._wrote_at > began:
            self._missed = 0
        self._is(up=self._missed < 2)
        return self.up

    def _is(self, *, up: bool) -> None:
        if up != self.up:
            log.warning("postgres_up" if up else "postgres_down")
            self.up = up
