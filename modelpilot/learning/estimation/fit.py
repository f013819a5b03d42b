"""Fitting the predictor of one router to its stored outcomes, and refusing a fit that is no use."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats, sums
from modelpilot.learning.estimation.admission import Choices, Rival, compare
from modelpilot.learning.estimation.facts import TrainingRows
from modelpilot.learning.estimation.fitted import COST, HEADS, LATENCY, OUTPUT_TOKENS, QUALITY, FittedPredictor
from modelpilot.learning.estimation.heads import Head, measured_head, quality_head, row_weights
from modelpilot.learning.estimation.kernel import choose_kernel, shuffled, whitening
from modelpilot.learning.estimation.sharing import Design

Mask = NDArray[np.bool_]

MIN_ROWS = 50
_HELD_OUT_EVERY = 5
NO_BETTER_CHOICES = "its choices are not better than the online model's on outcomes that neither has seen"


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a fit was made from and how good it is. Errors are mean squared errors of quality on the held-out slice.

    `refused_because` is None exactly where there is a predictor. `quality_left_out_because`: the predictor is about
    length, latency and cost only, since too few answers were graded to judge a regression of quality. `choices`: how
    they compare with the online model's, where there was one to compare with.
    """

    rows: int
    prompts: int
    models: int
    held_out_rows: int = 0
    error: float | None = None
    global_mean_error: float | None = None
    refused_because: str | None = None
    quality_left_out_because: str | None = None
    choices: Choices | None = None
    parameters: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fit:
    """A predictor, or the reason why there is none."""

    predictor: FittedPredictor | None
    report: FitReport


def fit(rows: TrainingRows, now: float, rival: Rival | None = None) -> Fit:
    """Fit all models of a router at once; `now` is Unix seconds. Refuses what is worse than the global means, and what
    does not choose better than the online model, where that is the `rival`."""
    report = FitReport(len(rows), len(rows.vectors), len(rows.models))
    if len(rows) < MIN_ROWS:
        return Fit(None, replace(report, refused_because=f"fewer than {MIN_ROWS} outcomes"))
    everything = np.ones(len(rows), bool)
    known = np.isfinite(rows.quality) & (rows.quality_weight > 0.0)
    if int(known.sum()) < MIN_ROWS:
        if rival is not None:
            return Fit(None, replace(report, refused_because=f"fewer than {MIN_ROWS} outcomes have a known quality"))
        measured = _fit(rows, everything, now, heads=(OUTPUT_TOKENS, LATENCY, COST))
        report = replace(report, parameters=_parameters(measured, known))
        because = f"fewer than {MIN_ROWS} outcomes have a known quality"
        return Fit(measured, replace(report, quality_left_out_because=because))
    held_prompts = np.zeros(len(rows.vectors), bool)
    held_prompts[shuffled(rows.vectors, 2)[::_HELD_OUT_EVERY]] = True
    held = known & held_prompts[rows.prompt]
    trial = _fit(rows, ~held_prompts[rows.prompt], now, heads=(QUALITY,))
    error, plain = _errors(trial, rows, held)
    report = replace(report, held_out_rows=int(held.sum()), error=error, global_mean_error=plain)
    if not error < plain:
        return Fit(None, replace(report, refused_because="worse than the global means on a held-out slice"))
    if rival is not None:
        choices = compare(rows, rival, now, lambda used: _fit(rows, used, now, heads=range(len(HEADS))))
        report = replace(report, choices=choices)
        if not choices.better:
            return Fit(None, replace(report, refused_because=NO_BETTER_CHOICES))
    predictor = _fit(rows, everything, now, heads=range(len(HEADS)))
    return Fit(predictor, replace(report, parameters=_parameters(predictor, known)))


def _parameters(predictor: FittedPredictor, graded: Mask) -> dict[str, float]:
    return {"landmarks": float(len(predictor.landmarks)), "gradedRows": float(graded.sum())}


def _errors(trial: FittedPredictor, rows: TrainingRows, held: Mask) -> tuple[float, float]:
    """Mean squared error of the trial's and of the global means' expectations of the held-out rows."""
    prompts = np.unique(rows.prompt[held])
    expected = np.zeros((len(rows.vectors), len(rows.models)))
    for prompt in prompts:
        expected[prompt] = trial.forecast(rows.vectors[prompt])[QUALITY]
    # A model without a single graded row has no mean either: both are asked about the others only.
    asked = held & np.isfinite(trial.base[QUALITY][rows.model])
    truth, weight = rows.quality[asked], rows.quality_weight[asked]
    if not asked.any():
        return 0.0, 0.0
    errors = (expected[rows.prompt[asked], rows.model[asked]] - truth) ** 2
    plain = (trial.base[QUALITY][rows.model[asked]] - truth) ** 2
    return float(np.average(errors, weights=weight)), float(np.average(plain, weights=weight))


def _fit(rows: TrainingRows, used: Mask, now: float, heads: Collection[int]) -> FittedPredictor:
    kernel = choose_kernel(rows.vectors[np.unique(rows.prompt[used])])
    white = whitening(kernel)
    scaled = kernel.scaled(rows.vectors)
    design = Design(kernel.columns(scaled).astype(np.float64) @ white)
    weight = row_weights(rows, now)
    found = [_fit_head(head if head in heads else None, design, rows, used, weight) for head in range(len(HEADS))]
    return FittedPredictor(
        models=rows.models,
        fitted_at=now,
        surface_middle=kernel.surface_middle,
        surface_spread=kernel.surface_spread,
        surface_range=kernel.surface_range,
        landmarks=kernel.landmarks,
        coefficients=np.hstack([white @ head.coefficients for head in found]).astype(np.float32),
        constant=np.stack([head.constant for head in found]),
        base=np.stack([head.base for head in found]),
        smear=np.stack([head.smear for head in found]),
        rows=np.stack([head.rows for head in found]),
        ttft_ms=_ttft(rows, used, weight),
    )


def _fit_head(head: int | None, design: Design, rows: TrainingRows, used: Mask, weight: Floats) -> Head:
    if head == QUALITY:
        places = np.flatnonzero(used & np.isfinite(rows.quality) & (rows.quality_weight > 0.0))
        return quality_head(design, rows, places, (weight * rows.quality_weight)[places])
    values = {OUTPUT_TOKENS: rows.output_tokens, LATENCY: rows.latency_ms, COST: rows.cost_usd}
    known = np.full(len(rows), np.nan) if head is None else values[head]
    places = np.flatnonzero(used & np.isfinite(known) & (known >= 0.0))
    return measured_head(design, rows, known, places, weight[places])


def _ttft(rows: TrainingRows, used: Mask, weight: Floats) -> Floats:
    places = np.flatnonzero(used & np.isfinite(rows.ttft_ms))
    model, mass = rows.model[places], weight[places]
    total = sums(model, mass, len(rows.models))
    totals = sums(model, mass * rows.ttft_ms[places], len(rows.models))
    means: Floats = np.where(total > 0.0, totals / np.maximum(total, 1e-9), np.nan)
    return means
