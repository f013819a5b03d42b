"""Similar past prompts as evidence: how much each counts, and their weighted means for all models at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats, between, sums
from modelpilot.learning.estimation.heads import HALF_LIFE_S, REPEAT_CAP
from modelpilot.requests.records import Neighbours

# Cosine similarity at which a neighbour says nothing, and from which it counts in full: between, a sharper kernel
# would trust single neighbours, and right or wrong of a single one says next to nothing.
SIMILARITY_FLOOR, SIMILARITY_FULL = 0.2, 0.5
# A regression has seen the older neighbours already; what it smoothed away of them is still worth this much.
ALREADY_LEARNT = 0.05


@dataclass(frozen=True, slots=True)
class Evidence:
    """Neighbours of one request, sorted by model. `code` is -1 for a model that is no candidate."""

    code: NDArray[np.int64]  # [k] index of the candidate
    weight: Floats  # [k] in prompts
    models: int

    def used(self) -> NDArray[np.int64]:
        """[models] how many neighbours count at all."""
        mine = self.code[(self.code >= 0) & (self.weight > 0.0)]
        return np.bincount(mine, minlength=self.models)

    def sums(self, values: NDArray[np.float32], trust: NDArray[np.float32] | None = None) -> tuple[Floats, Floats]:
        """[models] weight of the known values, and their weighted sum; `trust` [k] is a share of each one's weight."""
        usable = (self.code >= 0) & np.isfinite(values)
        code, weight = self.code[usable], self.weight[usable]
        if trust is not None:
            weight = weight * trust[usable]
        total = sums(code, weight, self.models)
        weighted = sums(code, weight * values[usable], self.models)
        return total, weighted

    def mean_of_all(self, values: NDArray[np.float32], prior: float, pseudo_count: float) -> float:
        """The mean over all neighbours, whoever answered, shrunk to `prior`."""
        known = np.isfinite(values)
        weight = self.weight[known]
        return float((weight @ values[known] + pseudo_count * prior) / (weight.sum() + pseudo_count))


def weigh(neighbours: Neighbours, places: Mapping[str, int], now: float, fitted_at: float | None) -> Evidence:
    """How much each neighbour counts for a request made `now` (Unix s; 0.0: age is left out of account).

    `places` has the index of each candidate.
    """
    code = np.array([places.get(model, -1) for model in neighbours.models], np.int64)[neighbours.model]
    closeness = (neighbours.similarity.astype(np.float64) - SIMILARITY_FLOOR) / (SIMILARITY_FULL - SIMILARITY_FLOOR)
    weight = between(0.0, closeness, 1.0) * np.minimum(np.maximum(neighbours.count, 0.0), REPEAT_CAP)
    if now > 0.0:
        weight *= 0.5 ** (np.maximum(now - neighbours.timestamp, 0.0) / HALF_LIFE_S)
    if fitted_at is not None:
        weight = np.where(neighbours.timestamp <= fitted_at, ALREADY_LEARNT * weight, weight)
    return Evidence(code, np.where(np.isfinite(weight), weight, 0.0), len(places))
