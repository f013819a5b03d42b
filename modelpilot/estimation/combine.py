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

from modelpilot.catalogue import NEUTRAL_LATENCY_MS, NEUTRAL_QUALITY, ModelSpec
from modelpilot.estimation.arrays import Floats
from modelpilot.estimation.fitted import COST, HEADS, LATENCY, OUTPUT_TOKENS, QUALITY, FittedPredictor, Forecast
from modelpilot.estimation.heads import REPEAT_CAP
from modelpilot.estimation.neighbours import Evidence, weigh
from modelpilot.estimation.prediction import Prediction, RequestFacts
from modelpilot.outcome import Usage
from modelpilot.pricing import call_cost_usd
from modelpilot.records import Neighbours

__all__ = ["DEFAULT_OUTPUT_TOKENS", "REPEAT_CAP", "predict_all"]


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
_LOG_SD = 0.8  # of one answer's length and time, where nothing has been measured
_CARBON_RELATIVE_SD = 0.3  # of the energy per token itself: published ranges are about this wide
_LONGEST = 1e7


@dataclass(frozen=True, slots=True)
class _Estimate:
    """[models] a mean, and the weight in outcomes that it stands for."""

    mean: Floats
    weight: Floats

    def joined(self, sums: Floats, weight: Floats) -> "_Estimate":
        """With `weight` more outcomes whose values add up to `sums`."""
        total = self.weight + weight
        return _Estimate((self.mean * self.weight + sums) / total, total)


def predict_all(
    models: Sequence[ModelSpec],
    facts: RequestFacts,
    neighbours: Neighbours,
    fitted: FittedPredictor | None = None,
) -> list[Prediction]:
    """Expectations for every model, in order; the caller gives neighbours and fit of this router only."""
    if not models:
        return []
    names = [model.id for model in models]
    known = _Known.of(names, facts, fitted)
    evidence = weigh(neighbours, names, facts.now, known.fitted_at)
    quality, sd = _quality(models, known, neighbours, evidence)
    tokens = _tokens(names, known, neighbours, evidence)
    latency = _latency(models, known, neighbours, evidence)
    if facts.max_output_tokens is not None:
        latency = _cut_short(latency, tokens.mean, facts.max_output_tokens, known)
        tokens = _Estimate(np.minimum(tokens.mean, facts.max_output_tokens), tokens.weight)
    columns = zip(
        models,
        tokens.mean.tolist(),
        known.token_log_sd.tolist(),
        latency.mean.tolist(),
        (latency.mean * _relative(latency, known.latency_log_sd)).tolist(),
        quality.tolist(),
        sd.tolist(),
        evidence.used().tolist(),
        known.cost_usd.tolist(),
        (known.input_factor * facts.prompt_tokens).tolist(),
        strict=True,
    )
    return [_prediction(facts, *column) for column in columns]


@dataclass(frozen=True, slots=True)
class _Known:
    """The fit's forecast for the candidates in their order; weights are 0 and values neutral where it has none."""

    fitted_at: float | None
    quality: Floats
    quality_base: Floats  # of the model over all prompts
    quality_sd: Floats
    tokens: Floats
    latency: Floats
    cost_usd: Floats  # NaN where unknown
    token_log_sd: Floats
    latency_log_sd: Floats
    ttft_ms: Floats  # NaN where unknown
    input_factor: Floats
    contrast: Floats
    weight: Floats  # [heads, models]

    @classmethod
    def of(cls, names: Sequence[str], facts: RequestFacts, fitted: FittedPredictor | None) -> "_Known":
        none, unknown = np.zeros(len(names)), np.full(len(names), np.nan)
        usual = np.full(len(names), _LOG_SD)
        if fitted is None:
            return cls(
                fitted_at=None,
                quality=none,
                quality_base=none,
                quality_sd=np.full(len(names), _NEUTRAL_SD),
                tokens=none,
                latency=none,
                cost_usd=unknown,
                token_log_sd=usual,
                latency_log_sd=usual,
                ttft_ms=unknown,
                input_factor=np.ones(len(names)),
                contrast=none,
                weight=np.zeros((len(HEADS), len(names))),
            )
        places = np.array([fitted.places.get(name, -1) for name in names])
        forecast = fitted.forecast(facts.vector, facts.request_type)
        weight = np.where(places >= 0, fitted.rows[:, places], 0.0)
        return cls._placed(fitted, forecast, places, weight)

    @classmethod
    def _placed(cls, fitted: FittedPredictor, forecast: Forecast, places: Floats, weight: Floats) -> "_Known":
        def column(values: Floats, head: int, otherwise: float) -> Floats:
            taken = values[places]
            return np.where((weight[head] > 0.0) & np.isfinite(taken), taken, otherwise)

        return cls(
            fitted_at=fitted.fitted_at,
            quality=column(forecast.quality, QUALITY, 0.0),
            quality_base=column(fitted.base[QUALITY], QUALITY, 0.0),
            quality_sd=column(forecast.quality_sd, QUALITY, _NEUTRAL_SD),
            tokens=np.minimum(column(forecast.output_tokens, OUTPUT_TOKENS, 0.0), _LONGEST),
            latency=np.minimum(column(forecast.latency_ms, LATENCY, 0.0), _LONGEST),
            cost_usd=column(forecast.cost_usd, COST, np.nan),
            token_log_sd=column(forecast.output_tokens_log_sd, OUTPUT_TOKENS, _LOG_SD),
            latency_log_sd=column(forecast.latency_log_sd, LATENCY, _LOG_SD),
            ttft_ms=column(fitted.ttft_ms, LATENCY, np.nan),
            input_factor=np.where(places >= 0, fitted.input_factor[places], 1.0),
            contrast=np.where(places >= 0, fitted.contrast[places], 0.0),
            weight=weight,
        )


def _quality(
    models: Sequence[ModelSpec], known: _Known, neighbours: Neighbours, evidence: Evidence
) -> tuple[Floats, Floats]:
    """Expected quality and its standard deviation."""
    prior = np.array([NEUTRAL_QUALITY if model.quality_score is None else model.quality_score for model in models])
    listed = np.array([model.quality_score is not None for model in models])
    prior_sd = np.where(listed, _PRIOR_SD, _NEUTRAL_SD)
    weight = known.weight[QUALITY]
    fitted = weight > 0.0
    seen, outcomes, contrast = np.where(fitted, _reliable(known, weight), 0.0), weight, known.contrast
    if neighbours.totals:
        totals = [neighbours.totals.get(model.id) for model in models]
        graded = np.array([total.graded if total and total.graded else 0.0 for total in totals])
        means = np.array([total.quality if total and total.graded else 0.0 for total in totals])
        # The fit has them already.
        seen, outcomes = np.where(fitted, seen, means), np.where(fitted, outcomes, graded)
        contrast = np.where(fitted, contrast, graded * (1.0 - graded / max(_total(graded), 1e-9)))
    level = np.clip(prior + _offset(prior, seen, outcomes), 0.0, 1.0)
    general = _Estimate(level, np.where(listed, PSEUDO_COUNT_LEVEL, _PSEUDO_COUNT_UNKNOWN)).joined(
        contrast * seen, contrast
    )
    near, sums = evidence.sums(neighbours.quality)
    # Against what those models' outcomes are elsewhere, not against the general expectation: that has the catalogue's
    # word in it, which a few outcomes would otherwise overrule twice.
    excess = sums - near * np.where(outcomes > 0.0, seen, general.mean)
    common = _total(excess) / (_total(near) + PSEUDO_COUNT_COMMON)
    own = (excess - near * common) / (near + PSEUDO_COUNT_QUALITY)
    mean = np.clip(general.mean + common + own, 0.0, 1.0)
    variance = np.maximum(mean * (1.0 - mean), _LEAST_VARIANCE)
    level_variance = 1.0 / (prior_sd**-2.0 + contrast / variance)
    offset_variance = _OFFSET_SD**2 / (1.0 + _total(outcomes) / PSEUDO_COUNT_LEVEL)
    # What all prompts together say is about this one within the spread between prompts only.
    own_precision = _OWN_SD**-2.0 + np.where(fitted, np.maximum(known.quality_sd, 1e-3) ** -2.0, 0.0)
    own_variance = 1.0 / (own_precision * (1.0 + near / PSEUDO_COUNT_QUALITY))
    return mean, np.sqrt(level_variance + offset_variance + own_variance)


def _reliable(known: _Known, weight: Floats) -> Floats:
    """The fit's quality at this prompt, with what it says of one model against the others shrunk by its outcomes.

    How hard a prompt is shows in every model's outcomes, and which model is the better one there only in its own:
    with few of them the largest of many such differences is mostly noise, and would be chosen for it.
    """
    deviation = known.quality - known.quality_base
    common = _total(weight * deviation) / max(_total(weight), 1e-9)
    # Squared: little with a few outcomes, nearly all with a hundred.
    own = known.contrast**2 / (known.contrast**2 + PSEUDO_COUNT_OWN**2)
    return known.quality_base + common + own * (deviation - common)


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


def _tokens(names: Sequence[str], known: _Known, neighbours: Neighbours, evidence: Evidence) -> _Estimate:
    # How long an answer gets is mostly a matter of the prompt: other models' answers to similar ones tell, too.
    typical = evidence.mean_of_all(neighbours.output_tokens, DEFAULT_OUTPUT_TOKENS, PSEUDO_COUNT_MEASURED)
    prior = _Estimate(np.full(len(names), typical), np.full(len(names), PSEUDO_COUNT_MEASURED))
    return _measured(prior, known.tokens, known.weight[OUTPUT_TOKENS], neighbours.output_tokens, evidence)


def _latency(models: Sequence[ModelSpec], known: _Known, neighbours: Neighbours, evidence: Evidence) -> _Estimate:
    usual = [NEUTRAL_LATENCY_MS if model.avg_latency_ms is None else model.avg_latency_ms for model in models]
    prior = _Estimate(np.array(usual), np.full(len(usual), PSEUDO_COUNT_MEASURED))
    return _measured(prior, known.latency, known.weight[LATENCY], neighbours.latency_ms, evidence)


def _measured(
    prior: _Estimate, fitted: Floats, weight: Floats, values: NDArray[np.float32], evidence: Evidence
) -> _Estimate:
    general = prior.joined(weight * fitted, weight)
    near, sums = evidence.sums(values)
    local = _Estimate(general.mean, prior.weight).joined(sums, near)
    return _Estimate(local.mean, general.weight + near)


def _cut_short(latency: _Estimate, tokens: Floats, limit: int, known: _Known) -> _Estimate:
    """Latency of answers that the client's limit ends: time to first token plus the share that is still written. Only
    where the router has measured both; a catalogue's average is of nobody knows what length."""
    measured = (known.weight[LATENCY] > 0.0) & np.isfinite(known.ttft_ms)
    first = np.minimum(np.where(measured, known.ttft_ms, 0.0), latency.mean)
    share = np.minimum(limit / np.maximum(tokens, 1.0), 1.0)
    return _Estimate(np.where(measured, first + (latency.mean - first) * share, latency.mean), latency.weight)


def _relative(estimate: _Estimate, log_sd: Floats) -> Floats:
    """Relative standard deviation of an expectation that rests on so many answers of this spread."""
    return log_sd * np.sqrt(PSEUDO_COUNT_MEASURED / estimate.weight)


def _prediction(
    facts: RequestFacts,
    model: ModelSpec,
    tokens: float,
    token_log_sd: float,
    latency_ms: float,
    latency_sd_ms: float,
    quality: float,
    quality_sd: float,
    evidence: int,
    history_cost_usd: float,
    prompt_tokens: float,
) -> Prediction:
    usage = Usage(round(prompt_tokens), round(tokens), facts.cached_tokens)
    cost, spread = call_cost_usd(model, usage), (model.cost_per_output_token or 0.0) * tokens * token_log_sd
    if cost is None and facts.costs_from_history and history_cost_usd == history_cost_usd:
        cost, spread = history_cost_usd, history_cost_usd * token_log_sd
    unit = model.carbon_g_per_1k_tokens
    carbon = None if unit is None else unit * tokens / 1000.0
    return Prediction(
        cost_usd=cost,
        latency_ms=latency_ms,
        quality=quality,
        carbon_g=carbon,
        output_tokens=tokens,
        evidence=evidence,
        quality_sd=quality_sd,
        cost_sd_usd=None if cost is None else spread,
        latency_sd_ms=latency_sd_ms,
        carbon_sd_g=None if carbon is None else carbon * (token_log_sd**2 + _CARBON_RELATIVE_SD**2) ** 0.5,
    )
