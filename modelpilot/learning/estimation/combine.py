"""All evidence about a request's candidates put together, from the general to the particular.

Catalogue prior → what the router has seen of the model altogether → the fitted regressions at this prompt → similar
past prompts. Each step is a mean with a weight in outcomes, and the next one counts by its own weight against it, so
thin or distant evidence moves little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats, between
from modelpilot.learning.estimation.facts import Prediction, RequestFacts
from modelpilot.learning.estimation.fitted import (
    HEADS,
    LATENCY,
    OUTPUT_TOKENS,
    QUALITY,
    FittedPredictor,
    Standing,
    unfitted,
)
from modelpilot.learning.estimation.neighbours import Evidence, weigh
from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec
from modelpilot.providers.pricing import call_costs_usd
from modelpilot.requests.records import Neighbours

# Neighbours' outcomes at which half of what they say is believed: of the prompt, and of one model against the others.
PSEUDO_COUNT_COMMON, PSEUDO_COUNT_QUALITY = 10.0, 30.0
# A catalogue's quality of one model against another, once the common offset is known, is worth this many outcomes.
PSEUDO_COUNT_LEVEL = 60.0
_PSEUDO_COUNT_UNKNOWN = 5.0  # the same of a model whose quality the catalogue does not know
PSEUDO_COUNT_OWN = 20.0  # outcomes of a model at which half of the fit's word on it against the others is believed
_OFFSET_PSEUDO_MODELS = 0.02  # small: an error that all candidates share changes no choice
PSEUDO_COUNT_MEASURED = 3.0  # latency and length vary less between prompts than right and wrong do
DEFAULT_OUTPUT_TOKENS = 256.0
# Standard deviations: of one model's quality against another's by the catalogue, and of one that it does not know; of
# what all of them are off by, before any outcome; and of a model's quality from prompt to prompt.
_PRIOR_SD, _NEUTRAL_SD, _OFFSET_SD, _OWN_SD = 0.07, 0.25, 0.13, 0.1
_LEAST_VARIANCE = 0.02  # of right and wrong: a model that was right ten times out of ten is not known to be perfect
_CARBON_RELATIVE_SD = 0.3  # of the energy per token itself: published ranges are about this wide
_LONGEST = 1e7
_NEUTRAL = np.array([[0.0], [0.0], [0.0], [np.nan]])  # of each head, where a fit has nothing to say


@dataclass(frozen=True, slots=True)
class _Estimate:
    """[models] a mean, and the weight in outcomes that it stands for."""

    mean: Floats
    weight: Floats


def predict_all(
    models: Sequence[ModelSpec],
    facts: RequestFacts,
    neighbours: Neighbours,
    fitted: FittedPredictor | None = None,
) -> list[Prediction]:
    """`predict` for models of which nobody keeps the columns."""
    return predict(CatalogueColumns.of(models), facts, neighbours, fitted)


def predict(
    columns: CatalogueColumns, facts: RequestFacts, neighbours: Neighbours, fitted: FittedPredictor | None = None
) -> list[Prediction]:
    """Expectations for every model, in order; the caller gives neighbours and fit of this router only."""
    if not columns.models:
        return []
    known = _Known.of(columns, facts, fitted)
    evidence = weigh(neighbours, columns.places, facts.now, fitted.fitted_at if fitted is not None else None)
    quality, quality_sd = _quality(columns, known, neighbours, evidence)
    tokens = _tokens(known, neighbours, evidence)
    latency = _latency(columns, known, neighbours, evidence)
    if facts.max_output_tokens is not None:
        latency = _cut_short(latency, tokens.mean, facts.max_output_tokens, known.standing)
        tokens = _Estimate(np.minimum(tokens.mean, facts.max_output_tokens), tokens.weight)
    cost, cost_sd = _cost(columns, facts, known, tokens.mean)
    carbon = columns.carbon_g_per_1k_tokens * tokens.mean / 1000.0
    figures = zip(
        _or_none(cost),
        latency.mean.tolist(),
        quality.tolist(),
        _or_none(carbon),
        tokens.mean.tolist(),
        evidence.used().tolist(),
        quality_sd.tolist(),
        _or_none(cost_sd),
        (latency.mean * _relative(latency, known.standing.latency_log_sd)).tolist(),
        _or_none(carbon * np.sqrt(known.standing.token_log_sd**2 + _CARBON_RELATIVE_SD**2)),
        strict=True,
    )
    return [Prediction(*figure) for figure in figures]


def _or_none(values: Floats) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


@dataclass(frozen=True, slots=True)
class _Known:
    """The fit's forecast for the candidates in their order; weights are 0 and values neutral where it has none."""

    standing: Standing
    quality: Floats
    quality_sd: Floats
    tokens: Floats
    latency: Floats
    cost_usd: Floats  # NaN where unknown

    @classmethod
    def of(cls, columns: CatalogueColumns, facts: RequestFacts, fitted: FittedPredictor | None) -> "_Known":
        count = len(columns.models)
        if fitted is None:
            quality, tokens, latency, cost = np.broadcast_to(_NEUTRAL, (len(HEADS), count))
            return cls(unfitted(count), quality, np.full(count, _NEUTRAL_SD), tokens, latency, cost)
        standing = fitted.standing(columns.models)
        forecast = fitted.forecast(facts.vector, facts.request_type)
        expected, sd = forecast.expected[:, standing.places], forecast.quality_sd[standing.places]
        known = (standing.weight > 0.0) & np.isfinite(expected)
        quality, tokens, latency, cost = np.where(known, np.minimum(expected, _LONGEST), _NEUTRAL)
        return cls(standing, quality, np.where(known[QUALITY], sd, _NEUTRAL_SD), tokens, latency, cost)


def _quality(
    columns: CatalogueColumns, known: _Known, neighbours: Neighbours, evidence: Evidence
) -> tuple[Floats, Floats]:
    """Expected quality and its standard deviation."""
    seen, outcomes, contrast = _seen(columns, known, neighbours)
    pseudo = np.where(columns.quality_listed, PSEUDO_COUNT_LEVEL, _PSEUDO_COUNT_UNKNOWN)
    level = between(0.0, columns.quality + _offset(columns.quality, seen, outcomes), 1.0)
    general = (level * pseudo + contrast * seen) / (pseudo + contrast)
    near, sums = evidence.sums(neighbours.quality, neighbours.quality_weight)
    # Against what those models' outcomes are elsewhere, not against the general expectation: that has the catalogue's
    # word in it, which a few outcomes would otherwise overrule twice.
    excess = sums - near * np.where(outcomes > 0.0, seen, general)
    common = _total(excess) / (_total(near) + PSEUDO_COUNT_COMMON)
    own = (excess - near * common) / (near + PSEUDO_COUNT_QUALITY)
    mean = between(0.0, general + common + own, 1.0)
    variance = np.maximum(mean * (1.0 - mean), _LEAST_VARIANCE)
    prior_precision = np.where(columns.quality_listed, _PRIOR_SD**-2.0, _NEUTRAL_SD**-2.0)
    level_variance = 1.0 / (prior_precision + contrast / variance)
    offset_variance = _OFFSET_SD**2 / (1.0 + _total(outcomes) / PSEUDO_COUNT_LEVEL)
    # What all prompts together say is about this one within the spread between prompts only.
    fitted = known.standing.weight[QUALITY] > 0.0
    own_precision = _OWN_SD**-2.0 + np.where(fitted, np.maximum(known.quality_sd, 1e-3) ** -2.0, 0.0)
    own_variance = 1.0 / (own_precision * (1.0 + near / PSEUDO_COUNT_QUALITY))
    return mean, np.sqrt(level_variance + offset_variance + own_variance)


def _seen(columns: CatalogueColumns, known: _Known, neighbours: Neighbours) -> tuple[Floats, Floats, Floats]:
    """The quality of each model's outcomes so far, how many those are, and how many tell it from the others."""
    outcomes, contrast = known.standing.weight[QUALITY], known.standing.contrast
    fitted = outcomes > 0.0
    seen = np.where(fitted, _reliable(known), 0.0)
    if not neighbours.totals or fitted.all():  # the fit has them already
        return seen, outcomes, contrast
    totals = [neighbours.totals.get(model) for model in columns.models]
    graded = np.array([total.graded if total and total.graded else 0.0 for total in totals])
    means = np.array([total.quality if total and total.graded else 0.0 for total in totals])
    telling = graded * (1.0 - graded / max(_total(graded), 1e-9))
    return np.where(fitted, seen, means), np.where(fitted, outcomes, graded), np.where(fitted, contrast, telling)


def _reliable(known: _Known) -> Floats:
    """The fit's quality at this prompt, with what it says of one model against the others shrunk by its outcomes.

    How hard a prompt is shows in every model's outcomes, and which model is the better one there only in its own:
    with few of them the largest of many such differences is mostly noise, and would be chosen for it.
    """
    base, weight, contrast = known.standing.quality_base, known.standing.weight[QUALITY], known.standing.contrast
    deviation = known.quality - base
    common = _total(weight * deviation) / max(_total(weight), 1e-9)
    # Squared: little with a few outcomes, nearly all with a hundred.
    own = contrast**2 / (contrast**2 + PSEUDO_COUNT_OWN**2)
    return base + common + own * (deviation - common)


def _offset(prior: Floats, seen: Floats, outcomes: Floats) -> float:
    """How much lower or higher than the catalogue says the models that have been seen are, here and for this prompt.

    It holds for those that have not been seen as well: otherwise hard prompts, or strict grades, would make whatever is
    untried look better than whatever is known.
    """
    trust = outcomes / (outcomes + PSEUDO_COUNT_LEVEL)
    return _total(trust * (seen - prior)) / (_total(trust) + _OFFSET_PSEUDO_MODELS)


def _total(values: Floats) -> float:
    # Exact, so that the order of the candidates changes nothing, not even the last bit.
    return math.fsum(values.tolist())


def _tokens(known: _Known, neighbours: Neighbours, evidence: Evidence) -> _Estimate:
    # How long an answer gets is mostly a matter of the prompt: other models' answers to similar ones tell, too.
    typical = evidence.mean_of_all(neighbours.output_tokens, DEFAULT_OUTPUT_TOKENS, PSEUDO_COUNT_MEASURED)
    return _measured(typical, known.tokens, known.standing.weight[OUTPUT_TOKENS], neighbours.output_tokens, evidence)


def _latency(columns: CatalogueColumns, known: _Known, neighbours: Neighbours, evidence: Evidence) -> _Estimate:
    weight = known.standing.weight[LATENCY]
    return _measured(columns.latency_ms, known.latency, weight, neighbours.latency_ms, evidence)


def _measured(
    prior: Floats | float, fitted: Floats, weight: Floats, values: NDArray[np.float32], evidence: Evidence
) -> _Estimate:
    pseudo = PSEUDO_COUNT_MEASURED
    general = (prior * pseudo + weight * fitted) / (pseudo + weight)
    near, sums = evidence.sums(values)
    return _Estimate((general * pseudo + sums) / (pseudo + near), pseudo + weight + near)


def _cut_short(latency: _Estimate, tokens: Floats, limit: int, standing: Standing) -> _Estimate:
    """Latency of answers that the client's limit ends: time to first token plus the share that is still written. Only
    where the router has measured both; a catalogue's average is of nobody knows what length."""
    measured = (standing.weight[LATENCY] > 0.0) & np.isfinite(standing.ttft_ms)
    first = np.minimum(np.where(measured, standing.ttft_ms, 0.0), latency.mean)
    share = np.minimum(limit / np.maximum(tokens, 1.0), 1.0)
    return _Estimate(np.where(measured, first + (latency.mean - first) * share, latency.mean), latency.weight)


def _relative(estimate: _Estimate, log_sd: Floats) -> Floats:
    """Relative standard deviation of an expectation that rests on so many answers of this spread."""
    return log_sd * np.sqrt(PSEUDO_COUNT_MEASURED / estimate.weight)


def _cost(columns: CatalogueColumns, facts: RequestFacts, known: _Known, tokens: Floats) -> tuple[Floats, Floats]:
    """Expected cost, and its standard deviation for answers of this spread in length; NaN where unknown."""
    factor = np.where(facts.counted, 1.0, known.standing.input_factor)
    prompt_tokens, cached = factor * facts.prompt_tokens, factor * facts.cached_tokens
    cost = call_costs_usd(columns, np.rint(prompt_tokens), np.rint(tokens), np.rint(cached))
    spread = columns.output_price * tokens
    if facts.costs_from_history:
        unpriced = np.isnan(cost)
        cost, spread = np.where(unpriced, known.cost_usd, cost), np.where(unpriced, known.cost_usd, spread)
    return cost, spread * known.standing.token_log_sd
