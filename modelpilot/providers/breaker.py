"""A circuit breaker: after enough failures a deployment is left alone, then probed with one call at a time.

closed ── failures in a row, or a failure share ──▶ open ── its time passes ──▶ half-open
  ▲                                                  ▲                            │
  └───────────────── a call succeeds ────────────────┴── the probe fails: longer ─┘
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BUCKETS = 10


class RollingCount:
    """How often something happened in the last `window_s` seconds, exact to a tenth of the window, in constant memory.

    `clock` gives seconds that never go back.
    """

    def __init__(self, window_s: float, clock: Callable[[], float]) -> None:
        self._bucket_s, self._clock = window_s / BUCKETS, clock
        self._buckets: dict[int, int] = {}

    def add(self) -> None:
        """It happened once more."""
        bucket = self._current()
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def total(self) -> int:
        """How often within the window."""
        self._current()
        return sum(self._buckets.values())

    def _current(self) -> int:
        current = int(self._clock() // self._bucket_s)
        for bucket in [bucket for bucket in self._buckets if bucket <= current - BUCKETS]:
            del self._buckets[bucket]
        return current


State = Literal["closed", "open", "half_open"]

# Failures that speak of the deployment, not of the request. A total timeout is the request's own limit, and may have
# left this call no time at all; the deployment's silence is what the other three time, where their limits were not
# chosen too short for it (`CallPlan.is_hasty`).
_SPEAKING = frozenset(
    {"connection_error", "timeout_connect", "timeout_first_token", "timeout_idle", "stream_cut", "malformed_response"}
    | {"rate_limited", "server_error", "overloaded", "authentication", "permission"}
)


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When to open: `failures_in_a_row`, or `failure_share` of at least `minimum_calls` in the last `window_s`.

    The n-th opening without a success in between lasts first_open_s * growth^(n-1), at most `longest_open_s`. A probe
    of which nothing is heard for `probe_s` is given up for lost, and another may go.
    """

    failures_in_a_row: int = 5
    failure_share: float = 0.5
    minimum_calls: int = 20
    window_s: float = 60.0
    first_open_s: float = 5.0
    growth: float = 2.0
    longest_open_s: float = 60.0
    probe_s: float = 60.0


def is_healthy(status: str, error_type: str | None) -> bool | None:
    """What an attempt says of its deployment; None where it says nothing (canceled, or the request's own fault)."""
    if status == "ok":
        return True
    return False if status == "error" and error_type in _SPEAKING else None


class Breaker:
    """The state machine of one deployment. `clock` gives seconds that never go back."""

    def __init__(self, rules: BreakerRules | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules, self._clock = rules or BreakerRules(), clock
        self._opened_at: float | None = None
        self._open_s, self._probe_until = 0.0, -math.inf
        self._openings = self._in_a_row = 0  # openings: since the last success
        self._calls = RollingCount(self._rules.window_s, clock)
        self._failures = RollingCount(self._rules.window_s, clock)

    @property
    def state(self) -> State:
        """Closed: calls pass. Open: none should. Half-open: one at a time may try."""
        if self._opened_at is None:
            return "closed"
        return "open" if self._clock() < self._opened_at + self._open_s else "half_open"

    @property
    def admits(self) -> bool:
        """Whether a call should be made now."""
        state = self.state
        return state == "closed" or (state == "half_open" and self._clock() >= self._probe_until)

    @property
    def open_for_s(self) -> float | None:
        """Seconds since it opened (the last time); None while closed."""
        return None if self._opened_at is None else self._clock() - self._opened_at

    @property
    def next_probe_s(self) -> float:
        """Seconds until a probe may go; 0 where one may go now, or where none is needed."""
        if self._opened_at is None:
            return 0.0
        return max(self._opened_at + self._open_s, self._probe_until) - self._clock() if not self.admits else 0.0

    @property
    def counts(self) -> tuple[int, int]:
        """Calls and failures of the rolling window, since it was closed the last time."""
        return self._calls.total(), self._failures.total()

    def reserve(self) -> None:
        """A call is about to be made; where it is a probe, others wait for its `record`."""
        if self.state == "half_open":
            self._probe_until = self._clock() + self._rules.probe_s

    def record(self, healthy: bool | None, began_s: float) -> None:
        """The end of a call that began at `began_s` (same clock); `healthy` as `is_healthy` says."""
        if self._opened_at is not None and began_s < self._opened_at:
            return  # it tells how things were before
        if healthy is None:
            self._probe_until = -math.inf
        elif self._opened_at is None:
            self._count(healthy)
        elif healthy:
            self._close()
        elif self.state == "half_open":
            self._open()

    def _count(self, healthy: bool) -> None:
        self._calls.add()
        if healthy:
            self._in_a_row = 0
            return
        self._failures.add()
        self._in_a_row += 1
        calls, failures = self.counts
        too_many = calls >= self._rules.minimum_calls and failures >= self._rules.failure_share * calls
        if too_many or self._in_a_row >= self._rules.failures_in_a_row:
            self._open()

    def _open(self) -> None:
        # The exponent is capped: beyond any sensible cap of the time, and far from an overflow.
        growth = self._rules.growth ** min(self._openings, 64)
        self._open_s = min(self._rules.first_open_s * growth, self._rules.longest_open_s)
        self._openings += 1
        self._opened_at, self._probe_until = self._clock(), -math.inf

    def _close(self) -> None:
        self._opened_at, self._probe_until = None, -math.inf
        self._openings = self._in_a_row = 0
        self._calls = RollingCount(self._rules.window_s, self._clock)
        self._failures = RollingCount(self._rules.window_s, self._clock)
