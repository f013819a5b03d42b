"""Weighted ridge regression for several penalties at once, with the error that each row would have been predicted with
had it been left out (closed form)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PENALTIES = np.array([0.5, 2.0, 8.0, 30.0, 120.0])
_LARGEST_LEVERAGE = 0.99


@dataclass(frozen=True, slots=True)
class RidgePath:
    """One regression per penalty: value = columns @ coefficients[l] + constant[l]."""

    coefficients: Floats  # [penalties, columns]
    constant: Floats  # [penalties]
    left_out: Floats  # [penalties, rows] predictions for each row by the others


class Factor:
    """A design [rows, columns] with weights [rows], decomposed once and solved for any number of targets."""

    def __init__(self, design: Floats, weight: Floats) -> None:
        self._total = float(weight.sum())
        self._weight = weight
        self._root = np.sqrt(weight)
        self._middle = weight @ design / self._total
        centred = (design - self._middle) * self._root[:, None]
        if len(design) < design.shape[1]:
            values, left = np.linalg.eigh(centred @ centred.T)
            self._values = np.maximum(values, 0.0)
            self._left = left * np.sqrt(self._values)  # [rows, components] scores
            self._axes = centred.T @ (left / np.sqrt(np.maximum(self._values, 1e-9)))
        else:
            values, self._axes = np.linalg.eigh(centred.T @ centred)
            self._values, self._left = np.maximum(values, 0.0), centred @ self._axes

    def solve(self, target: Floats) -> RidgePath:
        """Regress `target` [rows] for every penalty."""
        mean = float(self._weight @ target) / self._total
        residual = (target - mean) * self._root
        shrink = 1.0 / (self._values[:, None] + PENALTIES)  # [components, penalties]
        scores = shrink * (self._left.T @ residual)[:, None]
        coefficients = (self._axes @ scores).T
        leverage = self._left**2 @ shrink + (self._weight / self._total)[:, None]
        left = self._left @ scores
        error = (residual[:, None] - left) / (1.0 - np.minimum(leverage, _LARGEST_LEVERAGE))
        root = np.where(self._root > 0.0, self._root, 1.0)
        left_out = target[:, None] - error / root[:, None]
        return RidgePath(coefficients, mean - coefficients @ self._middle, left_out.T)


def non_negative(gram: Floats, moment: Floats, sweeps: int = 300) -> Floats:
    """The x ≥ 0 that minimizes x' gram x / 2 - moment' x, by coordinate descent (gram positive definite)."""
    x = np.zeros(len(moment))
    for _ in range(sweeps):
        before = x.copy()
        for place in range(len(x)):
            x[place] = max(0.0, x[place] + (moment[place] - gram[place] @ x) / gram[place, place])
        if float(np.abs(x - before).max(initial=0.0)) < 1e-6:
            break
    return x
