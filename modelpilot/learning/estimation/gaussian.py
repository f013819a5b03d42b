"""One Gaussian linear model of what a router's models deliver, as sufficient statistics that add and subtract.

value(prompt, i) = prior_i + o + b·psi(prompt) + l_i + g_i·psi(prompt) + u(prompt) + e, all of them Gaussian. The prior
deviations are small: that does the work of a gate, since with little evidence nothing but the prior decides. What the
answers to one prompt have in common (u) is no evidence for one of their models against another.

Evidence is a sum over prompts. A prompt that is graded again is taken away as it was, and added as it is: the posterior
depends on what is known, and not on the order in which it came (conjugacy: Gelman et al., "Bayesian Data Analysis",
chapter 14).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modelpilot.arrays import Floats


@dataclass(frozen=True, slots=True)
class Noise:
    """Variances: of one answer around what is expected of its model at its prompt, and of what all answers to a prompt
    share."""

    own: float
    shared: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of one prompt: `features` [f] with a leading 1, and per answering model its mean `values` [a, t] of
    the targets and the `weights` [a] of these in outcomes. `scale` multiplies all of it: what is old counts less."""

    features: Floats
    models: tuple[str, ...]
    values: Floats
    weights: Floats
    scale: float = 1.0


class Evidence:
    """Sums over prompts for `targets` quantities of any number of models; models appear as they are met.

    `blocks[i, j]`, i ≤ j, is the precision that prompts give model i's coefficients with model j's; `moment` what they
    pull them to.
    """

    def __init__(self, width: int, targets: int, noise: Noise) -> None:
        self.width, self.targets, self.noise = width, targets, noise
        self.models: list[str] = []
        self.blocks: dict[tuple[int, int], Floats] = {}
        self.moment = np.zeros((0, width, targets))
        self.weight = np.zeros(0)  # [models] outcomes
        self.squares = np.zeros(targets)  # of the values, as `Answers.weights` count them

    def add(self, answers: Answers, sign: float = 1.0) -> None:
        """Take a prompt in, or, with sign -1, exactly what it had given away again."""
        places = [self._place(model) for model in answers.models]
        precision = self._precision(answers)
        outer = sign * answers.scale * np.outer(answers.features, answers.features)
        for a, i in enumerate(places):
            for b, j in enumerate(places):
                if i <= j and precision[a, b] != 0.0:
                    block = self.blocks.setdefault((i, j), np.zeros((self.width, self.width)))
                    block += precision[a, b] * outer
        pulls = sign * answers.scale * precision @ answers.values
        self.moment[places] += answers.features[:, None] * pulls[:, None, :]
        self.weight[places] += sign * answers.scale * answers.weights
        self.squares += sign * answers.scale * answers.weights @ answers.values**2

    def meet(self, models: Sequence[str]) -> None:
        """Have places for these models."""
        for model in models:
            self._place(model)

    def scaled(self, factor: float) -> "Evidence":
        """The same evidence, counting `factor` times as much: a power prior (Ibrahim and Chen, 2000)."""
        other = Evidence(self.width, self.targets, self.noise)
        other.models = list(self.models)
        other.blocks = {pair: factor * block for pair, block in self.blocks.items()}
        other.moment, other.weight = factor * self.moment, factor * self.weight
        other.squares = factor * self.squares
        return other

    def levels(self, width: int) -> "Evidence":
        """What is known of models at every prompt alone, for evidence of another width."""
        other = Evidence(width, self.targets, self.noise)
        other.meet(self.models)
        for pair, block in self.blocks.items():
            other.blocks[pair] = np.zeros((width, width))
            other.blocks[pair][0, 0] = block[0, 0]
        other.moment[:, 0] = self.moment[:, 0]
        other.weight, other.squares = self.weight.copy(), self.squares.copy()
        return other

    def merge(self, other: "Evidence") -> None:
        """Take in what others have seen with the same features."""
        places = [self._place(model) for model in other.models]
        for (i, j), block in other.blocks.items():
            a, b = sorted((places[i], places[j]))
            mine = self.blocks.setdefault((a, b), np.zeros((self.width, self.width)))
            mine += block
        self.moment[places] += other.moment
        self.weight[places] += other.weight
        self.squares += other.squares

    def places(self, models: Sequence[str]) -> list[int]:
        """Where these models stand, each of which has to be met before."""
        return [self._places[model] for model in models]

    def _place(self, model: str) -> int:
        if model not in self._places:
            self._places[model] = len(self.models)
            self.models.append(model)
            self.moment = np.concatenate([self.moment, np.zeros((1, self.width, self.targets))])
            self.weight = np.append(self.weight, 0.0)
        return self._places[model]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {model: place for place, model in enumerate(self.models)}

    def _precision(self, answers: Answers) -> Floats:
        """[a, a] inverse of diag(own / weights) + shared (Sherman and Morrison)."""
        alone = answers.weights / self.noise.own
        shared = self.noise.shared
        found: Floats = np.diag(alone) - shared * np.outer(alone, alone) / (1.0 + shared * float(alone.sum()))
        return found


@dataclass(frozen=True, slots=True)
class Deviations:
    """Prior standard deviations: of the offset, of what each feature changes for all models, and for one model (0:
    nothing). `noise` is the variance that evidence of weight 1 was taken in without."""

    offset: float
    common: float = 0.0
    own: float = 0.0
    noise: float = 1.0


@dataclass(frozen=True, slots=True)
class Posterior:
    """Coefficients of one target for the evidence's models: `common` [f] of all, `own` [models, f] of each beside it;
    `covariance` [models, f, f] is that of their sum."""

    common: Floats
    own: Floats
    covariance: Floats


def posterior(evidence: Evidence, prior: Floats, level: Floats, sd: Deviations, target: int = 0) -> Posterior:
    """What is believed of the evidence's models beyond their `prior` values [models], whose levels have the standard
    deviations `level` [models]. Exact: the mean and covariance of the conjugate posterior."""
    f, own = evidence.width, evidence.width if sd.own > 0.0 else 1
    seen = sorted({place for pair in evidence.blocks for place in pair})  # the others cost nothing
    at = {place: f + order * own for order, place in enumerate(seen)}
    precision = np.zeros((f + len(seen) * own, f + len(seen) * own))
    moment = evidence.moment[:, :, target] / sd.noise
    for (i, j), whole in evidence.blocks.items():
        block = whole / sd.noise
        for first, second in ((i, j), (j, i))[: 1 + (i != j)]:
            rows, columns = slice(at[first], at[first] + own), slice(at[second], at[second] + own)
            moment[first] -= block[:, 0] * prior[second]
            precision[:f, :f] += block
            precision[rows, columns] += block[:own, :own]
            precision[:f, rows] += block[:, :own]
    precision[f:, :f] = precision[:f, f:].T
    common, deviation = np.full(f, sd.common), np.full((len(prior), own), sd.own)
    common[0], deviation[:, 0] = sd.offset, level
    precision[np.diag_indices_from(precision)] += np.concatenate([common, deviation[seen].ravel()]) ** -2.0
    covariance = np.linalg.inv(precision)
    mean = covariance @ np.concatenate([moment.sum(axis=0), moment[seen, :own].ravel()])
    owned, spread = np.zeros((len(prior), f)), np.tile(covariance[:f, :f], (len(prior), 1, 1))
    owned[seen, :own] = mean[f:].reshape(-1, own)
    for place in range(len(prior)):
        if place not in at:
            spread[place, range(own), range(own)] += deviation[place] ** 2
            continue
        rows = slice(at[place], at[place] + own)
        spread[place, :, :own] += covariance[:f, rows]
        spread[place, :own, :] += covariance[rows, :f]
        spread[place, :own, :own] += covariance[rows, rows]
    return Posterior(mean[:f], owned, spread)


def residual_variance(
    evidence: Evidence, found: Posterior, prior: Floats, usual: float, pseudo: float, target: int
) -> float:
    """The variance of one answer around what is expected of it, `usual` where nothing is known, which counts as
    `pseudo` answers. For evidence that was taken in with the noise 1."""
    whole = found.common + found.own
    whole[:, 0] += prior
    pull = float((whole * evidence.moment[:, :, target]).sum())
    fit = sum((1.0 + (i != j)) * float(whole[i] @ block @ whole[j]) for (i, j), block in evidence.blocks.items())
    squares = max(float(evidence.squares[target]) - 2.0 * pull + fit, 0.0)
    return (pseudo * usual + squares) / (pseudo + float(evidence.weight.sum()))
