"""One target (quality, log cost, …) of all models regressed together, so that models learn from each other's prompts.

1. What all models have in common (a prompt's difficulty, its length): a ridge over prompts.
2. What each model has of its own: a ridge over its prompts, for several penalties.
3. Stacking: the models' deviations are turned to their common axes (models fail alike), and each axis and penalty gets
   the weight, never negative, with which it predicted rows that it had not seen. Axes of mere noise get nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from modelpilot.arrays import Floats, Indices, sums

PENALTIES = np.array([0.5, 2.0, 8.0, 30.0, 120.0])
_LARGEST_LEVERAGE = 0.99
_MOST_AXES = 12
_LEAST_ROWS = 8  # of a model, to have a regression of its own
_STACK_RIDGE = 1e-3
_TURNS = 5


@dataclass(frozen=True, slots=True)
class RidgePath:
    """One weighted ridge regression per penalty: value = columns @ coefficients[l] + constant[l].

    `left_out` is what each row would have been predicted to be had it been left out (in closed form).
    """

    coefficients: Floats  # [penalties, columns]
    constant: Floats  # [penalties]
    left_out: Floats  # [penalties, rows]


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


@dataclass(frozen=True, slots=True)
class Observed:
    """Rows with a known target: what it exceeds its base by. `weight` > 0."""

    prompt: Indices  # [n]
    model: Indices  # [n]
    excess: Floats  # [n]
    weight: Floats  # [n]


@dataclass(frozen=True, slots=True)
class Shared:
    """excess(prompt, model) = columns @ coefficients[:, model] + constant[model]; `left_out` is it for each row by the
    others."""

    coefficients: Floats  # [columns, models]
    constant: Floats  # [models]
    left_out: Floats  # [n]


class Design:
    """The prompts' columns [p, c], with the decompositions of their subsets, which several targets have in common."""

    def __init__(self, columns: Floats) -> None:
        self.columns = columns
        self._factors: dict[bytes, Factor] = {}

    def factor(self, prompts: Indices, weight: Floats) -> Factor:
        """The decomposition of these prompts."""
        key = prompts.tobytes() + weight.tobytes()
        if key not in self._factors:
            self._factors[key] = Factor(self.columns[prompts], weight)
        return self._factors[key]


def regress(design: Design, rows: Observed, models: int) -> Shared:
    """Regress all models' excess together."""
    prompts, columns = design.columns.shape
    if len(rows.prompt) < _LEAST_ROWS:
        return Shared(np.zeros((columns, models)), np.zeros(models), np.zeros(len(rows.prompt)))
    common, common_left_out = _common(design, rows)
    # What one answer says of a model is clearer without the prompt's difficulty. Where several models answered the same
    # prompt the difficulty cancels between them, better than by an estimate of it.
    answers = np.maximum(np.bincount(rows.prompt, minlength=prompts), 1.0)
    own, table = _own(design, rows, rows.excess - (common_left_out / answers)[rows.prompt], models)
    axes = _axes(table[len(PENALTIES) // 2])
    parts = [common_left_out[rows.prompt][:, None]]
    parts += [(table[penalty][rows.prompt] @ axes) * axes[rows.model] for penalty in range(len(PENALTIES))]
    seen = np.hstack(parts)
    share = _stack(seen, rows)
    mixed = np.zeros((columns + 1, models))
    mixed += share[0] * common[:, None]
    for penalty, weights in enumerate(share[1:].reshape(len(PENALTIES), -1)):
        mixed += own[penalty] @ (axes * weights) @ axes.T
    return Shared(mixed[:-1], mixed[-1], seen @ share)


def levels(design: Design, rows: Observed, models: int, pseudo_rows: float) -> Floats:
    """[models] the mean excess of each model as if all had answered the same prompts, with `pseudo_rows` at 0.

    A router gives hard prompts to some models and easy ones to others, so plain means would credit models with their
    prompts. Means and the common part are fitted in turns, as two-way tables are.
    """
    mass = sums(rows.model, rows.weight, models) + pseudo_rows

    def means(excess: Floats) -> Floats:
        found: Floats = sums(rows.model, rows.weight * excess, models) / np.maximum(mass, 1e-9)
        return found

    level = means(rows.excess)
    for _ in range(_TURNS if len(rows.prompt) >= _LEAST_ROWS else 0):
        _, common = _common(design, replace(rows, excess=rows.excess - level[rows.model]))
        level = means(rows.excess - common[rows.prompt])
    return level


def _common(design: Design, rows: Observed) -> tuple[Floats, Floats]:
    """[columns + 1] of the common part (the constant last), and [p] its value for each prompt by the others."""
    prompts = len(design.columns)
    weight = sums(rows.prompt, rows.weight, prompts)
    total = sums(rows.prompt, rows.weight * rows.excess, prompts)
    there = np.flatnonzero(weight > 0.0)
    mean = total[there] / weight[there]
    # A prompt that twelve models answered is surer than one that a single one did, but not twelve times.
    trust = np.sqrt(weight[there])
    path = design.factor(there, trust).solve(mean)
    errors = ((path.left_out - mean) ** 2) @ trust
    best = int(errors.argmin())
    values = design.columns @ path.coefficients[best] + path.constant[best]
    values[there] = path.left_out[best]
    return np.append(path.coefficients[best], path.constant[best]), values


def _own(design: Design, rows: Observed, target: Floats, models: int) -> tuple[Floats, Floats]:
    """[penalties, columns + 1, models] regressions, and [penalties, p, models] their values, of the left-out kind where
    the prompt was among the model's own."""
    columns = design.columns.shape[1]
    fitted = np.zeros((len(PENALTIES), columns + 1, models))
    mine = [np.flatnonzero(rows.model == model) for model in range(models)]
    paths: dict[int, RidgePath] = {}
    for model, places in enumerate(mine):
        if len(places) >= _LEAST_ROWS:
            paths[model] = design.factor(rows.prompt[places], rows.weight[places]).solve(target[places])
            fitted[:, :-1, model], fitted[:, -1, model] = paths[model].coefficients, paths[model].constant
    table = np.stack([design.columns @ each[:-1] + each[-1] for each in fitted])
    for model, path in paths.items():
        table[:, rows.prompt[mine[model]], model] = path.left_out
    return fitted, table


def _axes(deviations: Floats) -> Floats:
    """[models, k] orthonormal axes along which the models' deviations [p, models] lie, the longest first."""
    _, axes = np.linalg.eigh(deviations.T @ deviations)
    return axes[:, ::-1][:, :_MOST_AXES]


def _stack(seen: Floats, rows: Observed) -> Floats:
    weighted = seen * rows.weight[:, None]
    gram = weighted.T @ seen
    # Relative to each column, so that small axes are not shrunk for being small; a dead column gets 1 to divide by.
    scale = np.diag(gram)
    gram = gram + np.diag(np.where(scale > 1e-12, _STACK_RIDGE * scale, 1.0))
    return non_negative(gram, weighted.T @ rows.excess)
