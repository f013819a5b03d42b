"""A short pause after failures, so that not every request waits a whole deadline for a service that is away."""

import time
from collections.abc import Callable

_FIRST_S = 0.5
_LONGEST_S = 5.0


class CoolDown:
    """Refuses calls for a moment after `tolerated` failures in a row; then one call at a time may try again."""

    def __init__(self, tolerated: int = 2, clock: Callable[[], float] = time.monotonic) -> None:
        self._tolerated = tolerated
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0

    def remaining_s(self) -> float:
        """Seconds for which calls should still be refused. When the pause ends, the first to ask gets 0 and the
        others wait for what becomes of that call."""
        now = self._clock()
        if now < self._closed_until:
            return self._closed_until - now
        if self._failures >= self._tolerated:
            self._closed_until = now + self._pause_s()
        return 0.0

    def failed(self) -> None:
        """Count a failure."""
        self._failures += 1
        if self._failures >= self._tolerated:
            self._closed_until = self._clock() + self._pause_s()

    def succeeded(self) -> None:
        """Forget all failures."""
        self._failures = 0
        self._closed_until = 0.0

    def _pause_s(self) -> float:
        doublings = min(self._failures - self._tolerated, 8)
        return min(_FIRST_S * float(2**doublings), _LONGEST_S)
