"""Counting over a rolling window in constant memory."""

from collections.abc import Callable

BUCKETS = 10


class RollingCount:
    """How often something happened in the last `window_s` seconds, exact to a tenth of the window.

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
