"""What a request's candidates are expected to cost, take and deliver: by the online model, or by a fit beside it.

The online model decides until a fit of the router has shown that it chooses better (`admission`). From then on the fit
speaks for each model by its outcomes: of one that it has hardly seen the online model goes on speaking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelpilot.arrays import Floats, between
from modelpilot.learning.estimation.facts import Learnt, Prediction, RequestFacts
from modelpilot.learning.estimation.fitted import (
    COST,
    HEADS,
    LATENCY,
    OUTPUT_TOKENS,
    QUALITY,
    FittedPredictor,
    Standing,
    unfitted,
)
from modelpilot.learning.estimation.learner import COUNTED, NOTHING_LEARNT, TOKENS, Expected, Outlook
from modelpilot.learning.estimation.learner import LATENCY as LOG_LATENCY
from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec
from modelpilot.providers.pricing import call_costs_usd

# Outcomes of a model at which half of what a fit says of it is believed: of quality, and of length and latency.
PSEUDO_COUNT_QUALITY, PSEUDO_COUNT_MEASURED = 60.0, 3.0
_CARBON_RELATIVE_SD = 0.3  # of the energy per token itself: published ranges are about this wide
_LONGEST = 1e7


def predict_all(
    models: Sequence[ModelSpec],
    facts: RequestFacts,
    outlook: Outlook | None = None,
    fitted: FittedPredictor | None = None,
) -> list[Prediction]:
    """`predict` for models of which nobody keeps the columns."""
    return predict(CatalogueColumns.of(models), facts, outlook, fitted)


def predict(
    columns: CatalogueColumns,
    facts: RequestFacts,
    outlook: Outlook | None = None,
    fitted: FittedPredictor | None = None,
) -> list[Prediction]:
    """Expectations for every model, in order. `outlook` is what this router's learner makes of these columns (None: it
    has learnt nothing yet), `fitted` a fit of this router that was admitted."""
    if not columns.models:
        return []
    if outlook is None:
        outlook = NOTHING_LEARNT.of(columns)
    expected, words = outlook.expected(facts.vector), _words(columns, facts, fitted)
    learnt = expected.level + expected.prompt
    quality = words.over(between(0.0, outlook.listed + learnt, 1.0), QUALITY, PSEUDO_COUNT_QUALITY)
    believed = words.over(between(0.0, outlook.believed + learnt, 1.0), QUALITY, PSEUDO_COUNT_QUALITY)
    tokens = words.over(outlook.measures[TOKENS], OUTPUT_TOKENS, PSEUDO_COUNT_MEASURED)
    latency = words.over(outlook.measures[LOG_LATENCY], LATENCY, PSEUDO_COUNT_MEASURED)
    if facts.max_output_tokens is not None:
        latency = _cut_short(latency, tokens, facts.max_output_tokens, words.standing)
        tokens = np.minimum(tokens, facts.max_output_tokens)
    token_log_sd = outlook.variances[TOKENS] ** 0.5
    cost, cost_sd = _cost(columns, facts, outlook.measures[COUNTED], words, tokens, token_log_sd)
    carbon = columns.carbon_g_per_1k_tokens * tokens / 1000.0
    doubt = np.sqrt(outlook.variances[LOG_LATENCY] * PSEUDO_COUNT_MEASURED / (PSEUDO_COUNT_MEASURED + outlook.answers))
    rows = zip(
        _or_none(cost),
        latency.tolist(),
        quality.tolist(),
        _or_none(carbon),
        tokens.tolist(),
        np.rint(outlook.answers).astype(int).tolist(),
        expected.sd.tolist(),
        _or_none(cost_sd),
        (latency * doubt).tolist(),
        _or_none(carbon * (token_log_sd**2 + _CARBON_RELATIVE_SD**2) ** 0.5),
        believed.tolist(),
        _learnt(outlook, expected, words),
        strict=True,
    )
    return [Prediction(*row) for row in rows]


def _learnt(outlook: Outlook, expected: Expected, words: "_Words") -> list[Learnt]:
    """Where the quality of each candidate comes from."""
    fits = _or_none(np.where(words.weight[QUALITY] > 0.0, words.quality, np.nan))
    parts = (outlook.listed, expected.level, expected.prompt, expected.sd, outlook.graded)
    return list(map(Learnt, *(part.tolist() for part in parts), fits))


def _or_none(values: Floats) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


@dataclass(frozen=True, slots=True)
class _Words:
    """What a fit says of the candidates, [models]; `weight` is 0 where it says nothing, and the values are neutral."""

    standing: Standing
    weight: Floats  # [heads, models] in outcomes
    quality: Floats
    tokens: Floats
    latency_ms: Floats
    cost_usd: Floats  # NaN where unknown

    def over(self, otherwise: Floats, head: int, pseudo: float) -> Floats:
        """`otherwise`, as far as `pseudo` outcomes hold against those behind the fit's value of this head."""
        value = (self.quality, self.tokens, self.latency_ms)[head]
        share = self.weight[head] / (self.weight[head] + pseudo)
        found: Floats = otherwise + share * (value - otherwise)
        return found


def _words(columns: CatalogueColumns, facts: RequestFacts, fitted: FittedPredictor | None) -> _Words:
    count = len(columns.models)
    if fitted is None:
        nothing = np.zeros((len(HEADS), count))
        return _Words(unfitted(count), nothing, nothing[0], nothing[0], nothing[0], np.full(count, np.nan))
    standing = fitted.standing(columns.models)
    expected = fitted.forecast(facts.vector)[:, standing.places]
    known = (standing.weight > 0.0) & np.isfinite(expected)
    quality, tokens, latency, _ = np.where(known, np.minimum(expected, _LONGEST), 0.0)
    cost = np.where(known[COST], np.minimum(expected[COST], _LONGEST), np.nan)
    return _Words(standing, np.where(known, standing.weight, 0.0), quality, tokens, latency, cost)


def _cut_short(latency: Floats, tokens: Floats, limit: int, standing: Standing) -> Floats:
    """Latency of answers that the client's limit ends: time to first token plus the share that is still written. Only
    where the router has measured both; a catalogue's average is of nobody knows what length."""
    measured = (standing.weight[LATENCY] > 0.0) & np.isfinite(standing.ttft_ms)
    first = np.minimum(np.where(measured, standing.ttft_ms, 0.0), latency)
    share = np.minimum(limit / np.maximum(tokens, 1.0), 1.0)
    return np.where(measured, first + (latency - first) * share, latency)


def _cost(
    columns: CatalogueColumns, facts: RequestFacts, counted: Floats, words: _Words, tokens: Floats, log_sd: float
) -> tuple[Floats, Floats]:
    """Expected cost, and its standard deviation for answers of this spread in length; NaN where unknown."""
    factor = np.where(facts.counted, 1.0, counted)
    prompt_tokens, cached = factor * facts.prompt_tokens, factor * facts.cached_tokens
    cost = call_costs_usd(columns, np.rint(prompt_tokens), np.rint(tokens), np.rint(cached))
    spread = columns.output_price * tokens
    if facts.costs_from_history:
        unpriced = np.isnan(cost)
        cost, spread = np.where(unpriced, words.cost_usd, cost), np.where(unpriced, words.cost_usd, spread)
    return cost, spread * log_sd
