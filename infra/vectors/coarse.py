"""A first look at many vectors: their coordinates along the few directions in which the rows differ most.

Inner products of these coordinates leave out what lies across the directions, which is little where both vectors have
most of their length along them. Whoever shortlists by them compares the whole vectors afterwards.
"""

import numpy as np
from numpy.typing import NDArray

from modelpilot.requests.records import Vector

_ITERATIONS = 4  # of subspace iteration: nothing depends on the last bit of a direction
_SEED = 20_260_101
_GROUP = 12


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
