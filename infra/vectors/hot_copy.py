"""One router's newest history in memory: a float32 matrix and its columns, searched by one pass over it."""

import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from infra.vectors.model_totals import RunningTotals
from infra.vectors.rows import HistoryRow, fold
from modelpilot.records import HistoryPoint, Neighbours, Vector

_NUMBERS = ("quality", "cost_usd", "latency_ms", "output_tokens", "request_count")
_INITIAL_ROWS = 64
_NO_VECTOR = np.zeros(0, np.float32)
# Beside the vector: the row's numbers and ids, its columns and its dictionary entry (measured, rounded up).
_ROW_OVERHEAD_BYTES = 1_200


class HotCopy:
    """At most `cap` rows; beyond, the row with the oldest timestamp makes room.

    Safe to search on a thread while the event loop puts rows: both hold a lock, for some milliseconds at most.
    """

    def __init__(self, dimension: int, cap: int) -> None:
        self._cap = cap
        self._lock = threading.Lock()
        self._rows: list[HistoryRow] = []
        self._slots: dict[str, int] = {}
        self._vectors = np.zeros((min(_INITIAL_ROWS, cap), dimension), np.float32)
        self._timestamps = np.zeros(len(self._vectors), np.float64)
        self._numbers = np.zeros((len(self._vectors), len(_NUMBERS)), np.float32)
        self._totals = RunningTotals()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size_bytes(self) -> int:
        """Memory held, estimated."""
        return self._vectors.nbytes + len(self._rows) * _ROW_OVERHEAD_BYTES

    def put(self, rows: list[HistoryRow]) -> None:
        """Insert rows, or replace those with the same primary key."""
        for row in rows:
            with self._lock:  # per row, so that a search on the event loop never waits for a whole page
                self._put(row)

    def fold(self, point: HistoryPoint, key: str, now: float) -> None:
        """Fold a point into the row with primary key `key`, as the store itself does."""
        with self._lock:
            slot = self._slots.get(key)
            before = None if slot is None else self._rows[slot]
            after = fold(before, point, now)
            if after is not before:
                self._put(after)

    def search(self, vector: Vector, limit: int) -> Neighbours:
        """The `limit` rows with the largest inner product, most similar first. Exact."""
        with self._lock:
            size = len(self._rows)
            count = min(limit, size)
            if count == 0:
                return Neighbours.empty()
            # Not `@`: BLAS spreads this over threads that fight for the cores (20,000 rows: 1-14 ms against 1 ms).
            similarity = np.einsum("ij,j->i", self._vectors[:size], vector)
            nearest = _top(similarity, count)
            numbers = self._numbers[nearest]
            return Neighbours(
                similarity=similarity[nearest],
                models=tuple(self._rows[index].model for index in nearest),
                request_ids=tuple(self._rows[index].request_id for index in nearest),
                quality=numbers[:, 0],
                cost_usd=numbers[:, 1],
                latency_ms=numbers[:, 2],
                output_tokens=numbers[:, 3],
                count=numbers[:, 4],
                timestamp=self._timestamps[nearest],
                totals=self._totals.by_model(),
            )

    def _put(self, row: HistoryRow) -> None:
        slot = self._slots.get(row.pk)
        if slot is None:
            slot = self._free_slot(row.timestamp)
            if slot is None:
                return  # full, and older than all that is here
            self._slots[row.pk] = slot
        self._totals.replace(self._rows[slot] if slot < len(self._rows) else None, row)
        self._vectors[slot] = row.embedding
        # The matrix has the vector already; folding into a row needs its numbers only.
        self._rows[slot : slot + 1] = [replace(row, embedding=_NO_VECTOR)]
        self._timestamps[slot] = row.timestamp
        self._numbers[slot] = (
            row.quality if row.quality_count else np.nan,
            row.cost_usd if row.cost_count else np.nan,
            row.latency_ms,
            row.output_tokens,
            row.request_count,
        )

    def _free_slot(self, timestamp: float) -> int | None:
        size = len(self._rows)
        if size < self._cap:
            if size == len(self._vectors):
                self._grow(min(2 * size, self._cap))
            return size
        oldest = int(self._timestamps[:size].argmin())
        if self._timestamps[oldest] > timestamp:
            return None
        del self._slots[self._rows[oldest].pk]
        return oldest

    def _grow(self, capacity: int) -> None:
        for name in ("_vectors", "_timestamps", "_numbers"):
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


def _top(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    # Indices of the `count` largest values, largest first; the stable sort keeps ties in the order of their slots.
    part = np.sort(np.argpartition(-values, count - 1)[:count])
    return part[np.argsort(-values[part], kind="stable")]
