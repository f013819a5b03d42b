"""Thompson sampling: how often each candidate would win if every prediction were drawn from its own uncertainty.

The drawn values are scored exactly as predictions are. Quality is drawn from a normal distribution cut to [0, 1]; cost,
latency and carbon from log-normal ones, since they cannot be negative. The draws are a fixed table of antithetic
normals: the shares are then a function of the request alone, so the logged propensity is exactly the probability with
which the model was chosen, and inverse-propensity estimates are valid whatever the number of draws. A uniform part
keeps evidence coming about models that the objective would never try, and the estimates of other objectives possible
(reference: Russo et al. 2018, "A Tutorial on Thompson Sampling").
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats
from modelpilot.routing.scoring import lower_is_better_draws

DRAWS = 64  # even, since half of them mirror the other half
UNIFORM_PART = 0.2
_SEED = 20_260_101
_COST, _, _QUALITY, _CARBON = range(4)


def winning_shares(mean: Floats, sd: Floats, weights: Floats, evidence: Floats) -> Floats:
    """[m] shares that sum to 1, each at least UNIFORM_PART / m.

    `mean` and `sd` are [m, 4] predictions of cost, latency, quality and carbon with their finite standard deviations; a
    NaN mean is an unknown value, which stays unknown. `weights` [4] are the shares of the objective, `evidence` [m] the
    numbers of outcomes behind the predictions. Candidates have to come in an order of their own (not the caller's), so
    that the same candidates always meet the same draws.
    """
    count = len(mean)
    if count == 1:
        return np.ones(1)
    wins = np.bincount(_totals(mean.T, _doubt(sd, evidence).T, weights).argmax(axis=1), minlength=count)
    shares: Floats = (1.0 - UNIFORM_PART) * wins / DRAWS + UNIFORM_PART / count
    return shares


def _doubt(sd: Floats, evidence: Floats) -> Floats:
    """How far the expectations may be off: the spread of a single answer's length, which is in the standard deviations
    of cost and carbon, is no reason to try a model again, and no number of outcomes would make it smaller."""
    doubt = sd.copy()
    doubt[:, (_COST, _CARBON)] /= np.sqrt(1.0 + evidence)[:, None]
    return doubt


def _totals(mean: Floats, sd: Floats, weights: Floats) -> Floats:
    """[DRAWS, m] total scores of drawn predictions; `mean` and `sd` are [4, m]."""
    count = mean.shape[1]
    normals = _normals(1 << (count - 1).bit_length())[:, :, :count]
    totals = np.zeros((DRAWS, count))
    for part in np.flatnonzero(weights > 0.0):
        if part == _QUALITY:
            scores = (mean[part] + sd[part] * normals[part]).clip(0.0, 1.0)
        else:
            known = mean[part] == mean[part]
            scores = lower_is_better_draws(_log_normal(mean[part], sd[part], normals[part], known), int(known.sum()))
        totals += weights[part] * scores
    return totals


def _log_normal(mean: Floats, sd: Floats, normal: Floats, known: NDArray[np.bool_]) -> Floats:
    """Draws with this mean and standard deviation; a mean of 0 is sure, an unknown one (NaN) is inf."""
    positive = mean > 0.0
    variance = np.zeros(len(mean))
    np.divide(sd, mean, out=variance, where=positive & (sd > 0.0))
    variance = np.log1p(variance * variance)
    drawn: Floats = np.where(positive, mean, 0.0) * np.exp(np.sqrt(variance) * normal - variance / 2.0)
    drawn[:, ~known] = np.inf
    return drawn


@cache
def _normals(candidates: int) -> Floats:
    """[4, DRAWS, candidates] standard normals, the same in every process."""
    half = np.random.default_rng(_SEED).standard_normal((4, DRAWS // 2, candidates))
    return np.concatenate([half, -half], axis=1)
