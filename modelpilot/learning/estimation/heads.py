"""The four quantities that are regressed (see fitted.HEADS): their targets, bases, weights and spreads."""

from dataclasses import dataclass, replace

import numpy as np

from modelpilot.arrays import Floats, Indices, sums
from modelpilot.learning.estimation.facts import TrainingRows
from modelpilot.learning.estimation.sharing import Design, Observed, contrast, levels, regress

REPEAT_CAP = 5.0  # one prompt asked a thousand times is not a thousand pieces of evidence
HALF_LIFE_S = 90.0 * 86_400.0  # providers change their models behind the same name
_LEAST_AGE_WEIGHT = 0.05
_MEAN_PSEUDO_ROWS = 10.0  # of a model, at the mean of all models
_TYPE_PSEUDO_ROWS = 20.0  # of a model and request type, at the model's mean
_SMALLEST = 0.02  # of the model's mean: a free or empty answer has no logarithm
_SMEAR = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Head:
    """One quantity of all models: base + columns @ coefficients + constant; without a vector, base + offset."""

    coefficients: Floats  # [columns, models]
    constant: Floats  # [models]
    base: Floats  # [models], NaN without any row
    offset: Floats  # [types + 1, models]
    smear: Floats  # [models]
    noise: Floats  # [models]
    signal: Floats  # [models]
    rows: Floats  # [models]
    contrast: Floats  # [models] of the rows, those that tell the model from the others; 0 but for quality


def row_weights(rows: TrainingRows, now: float) -> Floats:
    """How much each outcome counts: repeats up to a cap, and half as much every `HALF_LIFE_S`."""
    age = np.maximum(now - rows.timestamp, 0.0)
    fresh = np.maximum(0.5 ** (age / HALF_LIFE_S), _LEAST_AGE_WEIGHT)
    return np.clip(rows.count, 1.0, REPEAT_CAP) * fresh


def quality_head(design: Design, rows: TrainingRows, used: Indices, weight: Floats, types: Indices, count: int) -> Head:
    """Quality, in [0, 1]. `types` [p] has each prompt's request type, one of `count`."""
    models = len(rows.models)
    value, prompt, model = rows.quality[used], rows.prompt[used], rows.model[used]
    mass = sums(model, weight, models)
    overall = float(weight @ value) / max(float(weight.sum()), 1e-9)
    base = overall + levels(design, Observed(prompt, model, value - overall, weight), models, _MEAN_PSEUDO_ROWS)
    excess = value - base[model]
    cell = types[prompt] * models + model
    totals = sums(cell, weight * excess, (count + 1) * models).reshape(count + 1, models)
    masses = sums(cell, weight, (count + 1) * models).reshape(count + 1, models)
    offset = totals / (masses + _TYPE_PSEUDO_ROWS)
    offset[count] = 0.0
    seen = Observed(prompt, model, excess, weight)
    head = _head(design, seen, np.where(mass > 0.0, base, np.nan), offset, mass)
    return replace(head, contrast=contrast(design, seen, models))


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
    return _head(design, seen, base, np.zeros((1, models)), mass, means)


def _head(
    design: Design, seen: Observed, base: Floats, offset: Floats, mass: Floats, means: Floats | None = None
) -> Head:
    shared = regress(design, seen, len(base))
    noise = _mean(seen.model, seen.weight, (seen.excess - shared.left_out) ** 2, mass)
    signal = _mean(seen.model, seen.weight, shared.left_out**2, mass)
    smear = np.ones(len(base))
    if means is not None:
        # Duan's smearing in its simplest form: expectations must average to the observed mean.
        typical = _mean(seen.model, seen.weight, np.exp(shared.left_out), mass) * np.exp(np.where(mass > 0, base, 0.0))
        smear = np.clip(means / np.maximum(typical, np.finfo(np.float64).tiny), *_SMEAR)
    return Head(shared.coefficients, shared.constant, base, offset, smear, noise, signal, mass, np.zeros(len(base)))


def _mean(model: Indices, weight: Floats, value: Floats, mass: Floats) -> Floats:
    means: Floats = sums(model, weight * value, len(mass)) / np.maximum(mass, 1e-9)
    return means
