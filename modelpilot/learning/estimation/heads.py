"""The four quantities that are regressed (see fitted.HEADS): their targets, bases, weights and spreads."""

from dataclasses import dataclass

import numpy as np

from modelpilot.arrays import Floats, Indices, sums
from modelpilot.learning.estimation.facts import TrainingRows
from modelpilot.learning.estimation.learner import HALF_LIFE_S, REPEAT_CAP
from modelpilot.learning.estimation.sharing import Design, Observed, levels, regress

_LEAST_AGE_WEIGHT = 0.05
_MEAN_PSEUDO_ROWS = 10.0  # of a model, at the mean of all models
_SMALLEST = 0.02  # of the model's mean: a free or empty answer has no logarithm
_SMEAR = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Head:
    """One quantity of all models: base + columns @ coefficients + constant."""

    coefficients: Floats  # [columns, models]
    constant: Floats  # [models]
    base: Floats  # [models], NaN without any row
    smear: Floats  # [models]
    rows: Floats  # [models]


def row_weights(rows: TrainingRows, now: float) -> Floats:
    """How much each outcome counts: repeats up to a cap, and half as much every `HALF_LIFE_S`."""
    age = np.maximum(now - rows.timestamp, 0.0)
    fresh = np.maximum(0.5 ** (age / HALF_LIFE_S), _LEAST_AGE_WEIGHT)
    return np.clip(rows.count, 1.0, REPEAT_CAP) * fresh


def quality_head(design: Design, rows: TrainingRows, used: Indices, weight: Floats) -> Head:
    """Quality, in [0, 1]."""
    models = len(rows.models)
    value, prompt, model = rows.quality[used], rows.prompt[used], rows.model[used]
    mass = sums(model, weight, models)
    overall = float(weight @ value) / max(float(weight.sum()), 1e-9)
    base = overall + levels(design, Observed(prompt, model, value - overall, weight), models, _MEAN_PSEUDO_ROWS)
    seen = Observed(prompt, model, value - base[model], weight)
    return _head(design, seen, np.where(mass > 0.0, base, np.nan), mass)


def measured_head(design: Design, rows: TrainingRows, values: Floats, used: Indices, weight: Floats) -> Head:
    """A positive quantity, in logarithms; `values` [n] of all rows, of which `used` are known."""
    models = len(rows.models)
    value, prompt, model = values[used], rows.prompt[used], rows.model[used]
    mass = sums(model, weight, models)
    means = sums(model, weight * value, models) / np.maximum(mass, 1e-9)
    floor = np.maximum(_SMALLEST * means, np.finfo(np.float64).tiny)
    logs = np.log(np.maximum(value, floor[model]))
    overall = float(weight @ logs) / max(float(weight.sum()), 1e-9)
    level = levels(design, Observed(prompt, model, logs - overall, weight), models, 0.0)
    base = np.where(mass > 0.0, overall + level, np.nan)
    seen = Observed(prompt, model, logs - base[model], weight)
    return _head(design, seen, base, mass, means)


def _head(design: Design, seen: Observed, base: Floats, mass: Floats, means: Floats | None = None) -> Head:
    shared = regress(design, seen, len(base))
    smear = np.ones(len(base))
    if means is not None:
        # Duan's smearing in its simplest form: expectations must average to the observed mean.
        typical = _mean(seen.model, seen.weight, np.exp(shared.left_out), mass) * np.exp(np.where(mass > 0, base, 0.0))
        smear = np.clip(means / np.maximum(typical, np.finfo(np.float64).tiny), *_SMEAR)
    return Head(shared.coefficients, shared.constant, base, smear, mass)


def _mean(model: Indices, weight: Floats, value: Floats, mass: Floats) -> Floats:
    means: Floats = sums(model, weight * value, len(mass)) / np.maximum(mass, 1e-9)
    return means
