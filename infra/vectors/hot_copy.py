"""One router's newest history in memory: a float32 matrix and its columns.

A small copy is searched by one pass over the matrix. A large one has an index besides: the coordinates of its vectors
along the few directions in which the rows differ most, a third as many numbers a row. Inner products of these leave out
what lies across the directions, which is little where both vectors have most of their length along them: they make a
shortlist that the whole vectors then decide on.
"""

import threading
from dataclasses import replace
from heapq import nsmallest

import numpy as np
from numpy.typing import NDArray

from infra.vectors.rows import HistoryRow, fold
from modelpilot.requests.records import EXPLAINED_NEIGHBOURS, HistoryPoint, Neighbours, Vector

Slots = NDArray[np.intp]

_NUMBERS = ("quality", "cost_usd", "latency_ms", "output_tokens", "request_count", "quality_weight")
_INITIAL_ROWS = 64
_NO_VECTOR = np.zeros(0, np.float32)
# Beside the vector: the row's numbers and ids, its columns and its dictionary entry (measured, rounded up).
_ROW_OVERHEAD_BYTES = 1_200

INDEXED_ROWS = 8_000
_DIRECTIONS = 3  # one for so many dimensions
_SAMPLE_ROWS = 2_000  # from which the directions are found
BLOCK_PRODUCTS = 15_000_000
_FIRST = 1.5  # times as many rows as are wanted are compared first;
_DOUBTED = 20  # one in so many of them shows how much the coordinates may leave out of a row
_LEAST_SPARED = 4  # a shortlist has one row in so many at most: to pick more costs as much as to look at all
# Share of a prompt's squared length along the directions. One with less is unlike the router's usual prompts: its own
# kind would be passed over for rows with which it has but that little in common.
_LEAST_CAPTURED = 0.5
_ITERATIONS = 4  # of subspace iteration: nothing depends on the last bit of a direction
_SEED = 20_260_101
_GROUP = 12  # values of which only the largest is looked at first


class HotCopy:
    """At most `cap` rows; beyond, the row with the oldest timestamp makes room.

    Safe to search on a thread while the event loop puts rows: both hold a lock, for some milliseconds at most.
    Below `indexed_rows` there is no index, since one pass over all vectors takes no longer than shortlisting.
    `block_products` products of two numbers are worked out for the index while a search waits (some 1.5 ms).
    """

    def __init__(
        self, dimension: int, cap: int, *, indexed_rows: int = INDEXED_ROWS, block_products: int = BLOCK_PRODUCTS
    ) -> None:
        self._cap = cap
        self._indexed_rows, self._block_products = indexed_rows, block_products
        self._lock = threading.Lock()
        self._rows: list[HistoryRow] = []
        self._slots: dict[str, int] = {}
        self._vectors = np.zeros((min(_INITIAL_ROWS, cap), dimension), np.float32)
        self._timestamps = np.zeros(len(self._vectors), np.float64)
        self._numbers = np.zeros((len(self._vectors), len(_NUMBERS)), np.float32)
        self._models: dict[str, int] = {}  # every model that was ever here, with its number in `_model`
        self._model = np.zeros(len(self._vectors), np.intp)
        self._request_ids = np.full(len(self._vectors), "", object)
        # The index: `_coarse` has the coordinates of each slot along `_directions`, all of them once `_indexed`.
        self._directions = np.zeros((0, dimension), np.float32)
        self._coarse = np.zeros((len(self._vectors), 0), np.float32)
        self._indexed = False

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size_bytes(self) -> int:
        """Memory held, estimated."""
        return self._vectors.nbytes + self._coarse.nbytes + len(self._rows) * _ROW_OVERHEAD_BYTES

    @property
    def numbers_read(self) -> int:
        """How many numbers a usual search passes over, which is what it costs."""
        return len(self) * (self._coarse if self._indexed else self._vectors).shape[1]

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

    def build_index(self) -> None:
        """Make the index if there is none and the copy is large: some 0.1 s, in which it can be searched.

        Directions stay as they are while rows come and go: a copy lives for an hour (`HotHistory`).
        """
        if self._indexed or len(self) < self._indexed_rows:
            return
        directions = principal_directions(self._sample(), self._vectors.shape[1] // _DIRECTIONS)
        with self._lock:
            self._directions = directions  # from here on, whatever is put is brought in by itself
            self._coarse = np.zeros((len(self._vectors), len(directions)), np.float32)
        begin, rows = 0, max(self._block_products // max(directions.size, 1), 1)
        while not self._indexed:
            with self._lock:
                block = slice(begin, begin + rows)
                self._coarse[block] = coordinates(self._vectors[block], directions)
                begin = block.stop
                self._indexed = begin >= len(self._rows)

    def search(self, vector: Vector, limit: int) -> Neighbours:
        """The `limit` rows with the largest inner product, most similar first; among equals, the lower slot.

        Exact without the index. With it nearly all of them are found (ADR 3 has figures), and what is found has its
        exact similarity.
        """
        with self._lock:
            count = min(limit, len(self._rows))
            if count == 0:
                return Neighbours.empty()
            nearest, similarity = self._nearest(vector, count)
            numbers = self._numbers.take(nearest, axis=0)  # by an index it would take three times as long
            return Neighbours(
                similarity=similarity,
                models=tuple(self._models),
                model=self._model.take(nearest),
                # Objects all over the memory: to gather all of them would take longer than all the numbers.
                request_ids=tuple(self._request_ids.take(nearest[:EXPLAINED_NEIGHBOURS]).tolist()),
                quality=numbers[:, 0],
                cost_usd=numbers[:, 1],
                latency_ms=numbers[:, 2],
                output_tokens=numbers[:, 3],
                count=numbers[:, 4],
                timestamp=self._timestamps.take(nearest),
                quality_weight=numbers[:, 5],
            )

    def _nearest(self, vector: Vector, count: int) -> tuple[Slots, Vector]:
        slots, similarity = self._shortlist(vector, count) or self._all(vector)
        near = largest(similarity, count)
        near = near.take(np.argsort(-similarity.take(near), kind="stable")[:count])
        return slots.take(near), similarity.take(near)

    def _all(self, vector: Vector) -> tuple[Slots, Vector]:
        # Not `@`: BLAS spreads it over threads that fight for the cores (20,000 rows: 1-14 ms against 1 ms).
        return np.arange(len(self._rows)), np.vecdot(self._vectors[: len(self._rows)], vector)

    def _some(self, slots: Slots, vector: Vector) -> Vector:
        similarity: Vector = np.vecdot(self._vectors.take(slots, axis=0), vector)
        return similarity

    def _shortlist(self, vector: Vector, count: int) -> tuple[Slots, Vector] | None:
        """Slots that have the nearest, in ascending order, with their similarities; None: better look at all."""
        size = len(self._rows)
        first, most = int(_FIRST * count), size // _LEAST_SPARED
        if not self._indexed or first > most:
            return None
        along = coordinates(vector, self._directions)
        if captured(vector, along) < _LEAST_CAPTURED:
            return None
        coarse = np.vecdot(self._coarse[:size], along)
        slots = largest(coarse, first)
        if len(slots) > most:  # many that look the same from here
            return None
        similarity, seen = self._some(slots, vector), coarse.take(slots)
        # In reach is what would be among the nearest if the coordinates left out as much of it as of these.
        left_out = kth_largest(similarity - seen, max(len(slots) // _DOUBTED, 1))
        reach = kth_largest(similarity, count) - left_out
        least = seen.min()
        if reach >= least:
            return slots, similarity
        in_reach = np.flatnonzero(coarse >= reach)
        if len(in_reach) > most:
            return None
        new, of_all = coarse.take(in_reach) < least, np.empty(len(in_reach), np.float32)
        of_all[~new], of_all[new] = similarity, self._some(in_reach[new], vector)
        return in_reach, of_all

    def _sample(self) -> Vector:
        # By primary key, a hash: at random, but the same rows in whatever order they came.
        with self._lock:
            keys = list(self._slots)
        chosen = nsmallest(_SAMPLE_ROWS, keys)
        with self._lock:
            return self._vectors[[self._slots[key] for key in chosen if key in self._slots]]

    def _put(self, row: HistoryRow) -> None:
        slot = self._slots.get(row.pk)
        if slot is None:
            slot = self._free_slot(row.timestamp)
            if slot is None:
                return  # full, and older than all that is here
            self._slots[row.pk] = slot
        self._vectors[slot] = row.embedding
        self._coarse[slot] = coordinates(self._vectors[slot], self._directions)
        self._model[slot] = self._models.setdefault(row.model, len(self._models))
        self._request_ids[slot] = row.request_id
        # The matrix has the vector already; folding into a row needs its numbers only.
        self._rows[slot : slot + 1] = [replace(row, embedding=_NO_VECTOR)]
        self._timestamps[slot] = row.timestamp
        self._numbers[slot] = (
            row.quality if row.quality_count else np.nan,
            row.cost_usd if row.cost_count else np.nan,
            row.latency_ms,
            row.output_tokens,
            row.request_count,
            row.quality_weight,
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
        for name in ("_vectors", "_coarse", "_timestamps", "_numbers", "_model", "_request_ids"):
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


def principal_directions(sample: Vector, width: int) -> Vector:
    """[width, dimension] orthonormal rows that span nearly the `width` leading principal directions of `sample`.

    `sample` is [n, dimension], uncentred, since inner products are. The same sample in the same order gives the same
    directions (subspace iteration; Golub and Van Loan, "Matrix Computations", section 8.2.4).
    """
    basis = np.random.default_rng(_SEED).standard_normal((sample.shape[1], width)).astype(np.float32)
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    return np.ascontiguousarray(basis.T)


def coordinates(vectors: Vector, directions: Vector) -> Vector:
    """[..., width] of `vectors` [..., dimension]; the same bits for the same vector, whatever comes with it."""
    # A product of matrices would round a row by where it stands.
    along: Vector = np.vecdot(vectors[..., None, :], directions)
    return along


def captured(vector: Vector, along: Vector) -> float:
    """The share of the squared length of `vector` that its coordinates `along` have; 0.0 for zeros."""
    whole = float(np.vecdot(vector, vector))
    return float(np.vecdot(along, along)) / whole if whole > 0.0 else 0.0


def kth_largest(values: Vector, count: int) -> float:
    """The smallest of the `count` largest values."""
    return float(np.partition(values, len(values) - count)[len(values) - count])


def largest(values: Vector, count: int) -> NDArray[np.intp]:
    """Places of the `count` largest values, and of all that equal the smallest of these, in ascending order."""
    groups = len(values) // _GROUP
    if groups <= 2 * count:
        return np.flatnonzero(values >= kth_largest(values, count))
    # The smallest of them is no less than the count-th largest of the groups' maxima, since so many values reach that:
    # only these need ordering, and few do.
    maxima = values[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
    places = np.flatnonzero(values >= kth_largest(maxima, count))
    few = values.take(places)
    return places[few >= kth_largest(few, count)]
