"""Running totals per model over the rows of an in-memory copy: kept up with every row, read by every search."""

import math

import numpy as np
from numpy.typing import NDArray

from infra.vectors.rows import HistoryRow
from modelpilot.requests.records import ModelTotals

_ROUNDING = 1e-6  # what may be left of weights that were added and taken away again


class RunningTotals:
    """Sums over rows, each row counted once. Not safe for threads by itself: the copy holds its lock."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}  # prompts, graded, quality
        self._shown: dict[str, ModelTotals] = {}
        self._stale: set[str] = set()

    def replace(self, old: HistoryRow | None, new: HistoryRow) -> None:
        """Take `new` in, in place of `old`."""
        if old is not None:
            self._add(old, -1.0)
        self._add(new, 1.0)

    def by_model(self) -> dict[str, ModelTotals]:
        """The totals now; what was given out before stays as it is."""
        if self._stale:
            made = {model: _totals(self._sums[model]) for model in self._stale if model in self._sums}
            self._shown = {m: totals for m, totals in self._shown.items() if m not in self._stale} | made
            self._stale.clear()
        return self._shown

    def _add(self, row: HistoryRow, sign: float) -> None:
        graded = min(row.quality_count, 1.0)
        numbers = np.array([1.0, graded, graded * row.quality])
        sums = self._sums.setdefault(row.model, np.zeros(3))
        sums += sign * numbers
        self._stale.add(row.model)
        if sums[0] < 0.5:  # nothing left of it, nor of the rounding errors
            del self._sums[row.model]


def _totals(sums: NDArray[np.float64]) -> ModelTotals:
    prompts, graded, quality = sums.tolist()
    known = graded > _ROUNDING
    return ModelTotals(round(prompts), graded if known else 0.0, quality / graded if known else math.nan)
