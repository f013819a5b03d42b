"""Whether a fit chooses better than the online model: both choose for prompts that neither has seen.

Where they choose alike nothing is to be told apart. Elsewhere the difference in utility is estimated doubly robustly
(Dudík, Langford and Li, 2011): by what both expect on the average, corrected by the outcomes that are known, each by
the share of prompts that its model answered. The fit is admitted where the mean difference is above 0 by a one-sided
paired test at 5 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats, Indices
from modelpilot.learning.estimation.basis import Basis
from modelpilot.learning.estimation.facts import Prediction, RequestFacts, TrainingRows
from modelpilot.learning.estimation.fitted import FittedPredictor
from modelpilot.learning.estimation.kernel import shuffled
from modelpilot.learning.estimation.learner import Learner, Outcome, Outlook
from modelpilot.learning.estimation.predict import predict
from modelpilot.providers.catalogue import CatalogueColumns
from modelpilot.routing.scoring import lower_is_better

Mask = NDArray[np.bool_]

FOLDS = 5
MOST_PROMPTS = 2_000  # that are chosen for
LEAST_DIFFERENT = 10  # prompts with a known outcome of one of two different choices
_QUANTILE = 1.645
_LEAST_SHARE = 0.02  # of prompts that a model answered: below, one outcome would outweigh all others


@dataclass(frozen=True)
class Rival:
    """The online model of a router: what it looks at, what it chooses from, and by which shares of the objective (cost,
    latency, quality, carbon)."""

    basis: Basis | None
    columns: CatalogueColumns
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Choices:
    """How much better the fit's choices were, in utility, over `prompts`, and the standard error of that. `different`:
    prompts with a known outcome where the two chose differently."""

    prompts: int
    different: int
    gain: float
    error: float

    @property
    def better(self) -> bool:
        """Whether the fit is to be admitted."""
        return self.different >= LEAST_DIFFERENT and self.gain > _QUANTILE * self.error


def compare(rows: TrainingRows, rival: Rival, now: float, train: Callable[[Mask], FittedPredictor]) -> Choices:
    """Cross-validated; `train` fits to some of the rows."""
    known = np.isfinite(rows.quality) & (rows.quality_weight > 0.0)
    graded = np.zeros(len(rows.vectors), bool)
    graded[rows.prompt[known]] = True
    order = shuffled(rows.vectors, 2)
    order = order[graded[order]]
    share = np.bincount(rows.model[known], minlength=len(rows.models)) / max(len(order), 1)
    by_prompt = _by_prompt(rows, known)
    found: list[tuple[float, bool]] = []
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        out = np.zeros(len(rows.vectors), bool)
        out[held] = True
        used = ~out[rows.prompt]
        outlook, fitted = taught(rows, used, rival.basis, now).outlook(rival.columns, now), train(used)
        judge = _Judge(rows, rival, outlook, fitted, share)
        found += [judge.difference(by_prompt[prompt]) for prompt in held[: MOST_PROMPTS // FOLDS].tolist()]
    if len(found) < FOLDS:
        return Choices(len(found), 0, 0.0, 0.0)
    gains = np.array([gain for gain, _ in found])
    error = float(gains.std(ddof=1)) / len(gains) ** 0.5
    return Choices(len(gains), sum(told for _, told in found), float(gains.mean()), error)


def _by_prompt(rows: TrainingRows, used: Mask) -> dict[int, Indices]:
    """The places of these rows by their prompts."""
    places = np.flatnonzero(used)
    places = places[np.argsort(rows.prompt[places], kind="stable")]
    prompts, counts = np.unique(rows.prompt[places], return_counts=True)
    groups = np.split(places, np.cumsum(counts)[:-1]) if len(places) else []
    return dict(zip(prompts.tolist(), groups, strict=True))


@dataclass(frozen=True, slots=True)
class _Judge:
    """Compares the two choices for prompts; `share` [models of the rows] of the prompts that each model answered."""

    rows: TrainingRows
    rival: Rival
    outlook: Outlook
    fitted: FittedPredictor
    share: Floats

    def difference(self, places: Indices) -> tuple[float, bool]:
        """By how much the fit's choice is better for the prompt of these rows, and whether an outcome of either of two
        different choices is known."""
        rows, columns = self.rows, self.rival.columns
        tokens = round(float(rows.input_tokens[places].mean()))
        facts = RequestFacts(tokens, vector=rows.vectors[rows.prompt[places[0]]])
        online, fit = predict(columns, facts, self.outlook), predict(columns, facts, self.outlook, self.fitted)
        first, second = self._totals(online), self._totals(fit)
        old, new = int(first.argmax()), int(second.argmax())
        if old == new or not self._asked(old) or not self._asked(new):
            return 0.0, False  # what was hardly ever chosen proves nothing
        middle, told = (first + second) / 2.0, False
        gain = float(middle[new] - middle[old])
        true = self._true(online, fit, places)
        for model, utility in true.items():
            if model in (old, new):
                name = columns.models[model]
                weight = (1.0 if model == new else -1.0) / self.share[rows.models.index(name)]
                gain, told = gain + float(weight * (utility - middle[model])), True
        return gain, told

    def _asked(self, place: int) -> bool:
        """Whether the model has answered enough prompts for its outcomes to tell."""
        name, models = self.rival.columns.models[place], self.rows.models
        return name in models and float(self.share[models.index(name)]) >= _LEAST_SHARE

    def _totals(self, made: Sequence[Prediction]) -> Floats:
        qualities = [each.quality if each.believed is None else each.believed for each in made]
        costs, latencies = [each.cost_usd for each in made], [each.latency_ms for each in made]
        return self._weighed(costs, latencies, qualities, [each.carbon_g for each in made])

    def _true(self, online: Sequence[Prediction], fit: Sequence[Prediction], places: Indices) -> dict[int, float]:
        """The utility of every model whose outcome is known, beside what both expect the others to cost and take."""
        rows, columns = self.rows, self.rival.columns
        costs = [_between(a.cost_usd, b.cost_usd) for a, b in zip(online, fit, strict=True)]
        latencies = [_between(a.latency_ms, b.latency_ms) for a, b in zip(online, fit, strict=True)]
        qualities = [0.0] * len(costs)
        seen = [(columns.places.get(rows.models[rows.model[place]], -1), place) for place in places.tolist()]
        for model, place in seen:
            if model >= 0:
                qualities[model] = float(rows.quality[place])
                costs[model] = float(rows.cost_usd[place]) if np.isfinite(rows.cost_usd[place]) else costs[model]
                latencies[model] = float(rows.latency_ms[place]) if np.isfinite(rows.latency_ms[place]) else None
        totals = self._weighed(costs, latencies, qualities, [each.carbon_g for each in fit])
        return {model: float(totals[model]) for model, _ in seen if model >= 0}

    def _weighed(
        self,
        costs: Sequence[float | None],
        latencies: Sequence[float | None],
        qualities: Sequence[float],
        carbons: Sequence[float | None],
    ) -> Floats:
        cost, latency, quality, carbon = self.rival.shares
        found: Floats = (
            cost * np.array(lower_is_better(costs))
            + latency * np.array(lower_is_better(latencies))
            + quality * np.array(qualities)
            + carbon * np.array(lower_is_better(carbons))
        )
        return found


def _between(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else (one + other) / 2.0


def taught(rows: TrainingRows, used: Mask, basis: Basis | None, now: float) -> Learner:
    """The online model as if it had learnt these rows."""
    learner = Learner(basis, now)
    for prompt, group in _by_prompt(rows, used).items():
        learner.learn(rows.vectors[prompt], [_outcome(rows, place) for place in group.tolist()])
    return learner


def _outcome(rows: TrainingRows, place: int) -> Outcome:
    count, known = float(rows.count[place]), bool(np.isfinite(rows.quality[place]))
    return Outcome(
        model=rows.models[rows.model[place]],
        count=count,
        quality=float(rows.quality[place]) if known else 0.0,
        weight=count * float(rows.quality_weight[place]) if known else 0.0,
        input_tokens=float(rows.input_tokens[place]),
        output_tokens=float(rows.output_tokens[place]),
        latency_ms=float(rows.latency_ms[place]) if np.isfinite(rows.latency_ms[place]) else 1.0,
        prompt_tokens=0.0,
        timestamp=float(rows.timestamp[place]),
    )
