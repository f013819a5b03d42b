"""What one router has learnt online: its evidence, and what it makes of a catalogue with that.

The constants were measured on streams of recorded outcomes (docs/routing-quality.md). Standard deviations are small on
purpose: with few grades the catalogue decides, and it takes some hundred to move a model by a tenth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelpilot.arrays import Floats, Indices
from modelpilot.errors import InvalidRequest
from modelpilot.learning.estimation.basis import Basis
from modelpilot.learning.estimation.fitted import pack, unpack
from modelpilot.learning.estimation.gaussian import (
    Answers,
    Deviations,
    Evidence,
    Noise,
    Posterior,
    posterior,
    residual_variance,
)
from modelpilot.providers.catalogue import CatalogueColumns
from modelpilot.requests.records import Vector

GRADE_NOISE = Noise(own=0.14, shared=0.06)  # of right or wrong around its expectation, known the prompt
QUALITY = Deviations(offset=0.05, common=0.2, own=0.05)
LEVEL_SD = 0.05  # error of a catalogue's word on one model
UNLISTED_SD = 0.2  # of a model on which it has none
LEAST_KEPT = 0.3  # of the differences that a catalogue states
# Natural logarithms of output tokens, of input tokens against the gateway's own count, and of latency.
TOKENS, COUNTED, LATENCY = range(3)
# They do not look at the prompt: with the few answers there are, that chose worse.
MEASURES = (
    Deviations(offset=2.0, noise=1.0),
    Deviations(offset=0.5, noise=0.1),
    Deviations(offset=0.7, noise=0.5),
)
MEASURE_LEVEL_SD = (0.58, 0.18, 0.4)
NOISE_PSEUDO_ANSWERS = 20.0  # at these noises
DEFAULT_OUTPUT_TOKENS = 256.0
HALF_LIFE_S = 90.0 * 86_400.0  # providers change their models behind the same name
REPEAT_CAP = 5.0  # one prompt asked a thousand times is not a thousand pieces of evidence
_UNIT = Noise(own=1.0)
_LARGEST_LOG = 25.0
_MOST_HALF_LIVES = 30.0  # of a clock that is wrong: an outcome must not count for all others
_KEPT_OUTLOOKS = 8  # catalogues per state: a router has few between two states

Catalogue = tuple[tuple[str, ...], bytes, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of one model's answers to one prompt: means over `count` requests, the grade over those that have
    one (`weight` outcomes; 0: none). Times are Unix seconds; `prompt_tokens` the gateway's own count (0: unknown)."""

    model: str
    count: float
    quality: float
    weight: float
    input_tokens: float
    output_tokens: float
    latency_ms: float
    prompt_tokens: float
    timestamp: float


class Learner:
    """The evidence of one router. `began` (Unix s) is when an outcome counts as what it is; later ones count more, so
    that nothing has to be touched when older ones come to count less."""

    def __init__(
        self, basis: Basis | None, began: float, quality: Evidence | None = None, measured: Evidence | None = None
    ) -> None:
        width = basis.width if basis is not None else 1
        self.basis, self.began = basis, began
        self.quality = quality or Evidence(width, 1, GRADE_NOISE)
        self.measured = measured or Evidence(1, len(MEASURES), _UNIT)

    def learn(self, vector: Vector | None, outcomes: Sequence[Outcome], sign: float = 1.0) -> None:
        """Take all that is known of a prompt in, or, with sign -1, exactly this out again."""
        if not outcomes:
            return
        features, scale = prompt_features(self.basis, vector), self._scale(max(each.timestamp for each in outcomes))
        graded = [each for each in outcomes if each.weight > 0.0]
        if graded:
            values = np.array([[each.quality] for each in graded])
            weights = np.array([min(each.weight, REPEAT_CAP) for each in graded])
            self.quality.add(Answers(features, tuple(each.model for each in graded), values, weights, scale), sign)
        counts = np.array([min(each.count, REPEAT_CAP) for each in outcomes])
        logs = np.array([_logarithms(each) for each in outcomes])
        self.measured.add(Answers(np.ones(1), tuple(each.model for each in outcomes), logs, counts, scale), sign)

    @property
    def size_bytes(self) -> int:
        """Memory held by it and by an outlook, estimated."""
        numbers = (len(self.quality.blocks) + 4 * len(self.quality.models)) * self.quality.width**2
        return 8 * numbers + (self.basis.landmarks.nbytes if self.basis is not None else 0)

    def copy(self) -> "Learner":
        """One to go on learning with, while this one is used."""
        return Learner(self.basis, self.began, self.quality.scaled(1.0), self.measured.scaled(1.0))

    def merge(self, other: "Learner", share: float, now: float) -> None:
        """Take in what another one has learnt, at a share of its weight: what prompts say where both have the same
        features, else what holds for every prompt."""
        factor = share * self._scale(now) / other._scale(now)
        quality = other.quality if other.basis is self.basis else other.quality.levels(self.quality.width)
        self.quality.merge(quality.scaled(factor))
        self.measured.merge(other.measured.scaled(factor))

    def to_bytes(self) -> bytes:
        """The evidence, without the basis, as an archive without pickles."""
        return pack(_Sums.of(self.quality, self.measured), compress=False)  # written every second

    @classmethod
    def from_bytes(cls, data: bytes, basis: Basis | None, began: float) -> "Learner":
        """The learner again. Raises InvalidRequest for another format, another basis or a damaged archive."""
        sums, learner = unpack(_Sums, data), cls(basis, began)
        if sums.moment.shape[1] != learner.quality.width:
            raise InvalidRequest("this was learnt with another basis")
        _fill(learner.quality, sums.models, sums.pairs, sums.blocks, sums.moment, sums.weight, sums.squares)
        measured = (sums.measured_pairs, sums.measured_blocks, sums.measured_moment)
        _fill(learner.measured, sums.measured_models, *measured, sums.measured_weight, sums.measured_squares)
        return learner

    def outlook(self, columns: CatalogueColumns, now: float) -> "Outlook":
        """What is expected of a catalogue's models, as of `now` (Unix s)."""
        fresh = 1.0 / self._scale(now)
        for evidence in (self.quality, self.measured):
            evidence.meet(columns.models)
        return Outlook.of(columns, self.basis, self.quality.scaled(fresh), self.measured.scaled(fresh))

    def _scale(self, at: float) -> float:
        half_lives = (at - self.began) / HALF_LIFE_S
        return float(2.0 ** min(max(half_lives, -_MOST_HALF_LIVES), _MOST_HALF_LIVES))


@dataclass(frozen=True)
class _Sums:
    """A learner's evidence as arrays."""

    models: tuple[str, ...]
    pairs: Indices
    blocks: Floats
    moment: Floats
    weight: Floats
    squares: Floats
    measured_models: tuple[str, ...]
    measured_pairs: Indices
    measured_blocks: Floats
    measured_moment: Floats
    measured_weight: Floats
    measured_squares: Floats

    @classmethod
    def of(cls, quality: Evidence, measured: Evidence) -> "_Sums":
        return cls(*_arrays(quality), *_arrays(measured))


def _arrays(evidence: Evidence) -> tuple[Any, ...]:
    pairs = np.array(list(evidence.blocks), np.int64).reshape(-1, 2)
    blocks = np.array(list(evidence.blocks.values()), np.float64).reshape(-1, evidence.width, evidence.width)
    return tuple(evidence.models), pairs, blocks, evidence.moment, evidence.weight, evidence.squares


def _fill(
    evidence: Evidence,
    models: tuple[str, ...],
    pairs: Indices,
    blocks: Floats,
    moment: Floats,
    weight: Floats,
    squares: Floats,
) -> None:
    evidence.meet(models)
    evidence.blocks = {(int(i), int(j)): block.copy() for (i, j), block in zip(pairs, blocks, strict=True)}
    evidence.moment, evidence.weight, evidence.squares = moment.copy(), weight.copy(), squares.copy()


def _logarithms(outcome: Outcome) -> list[float]:
    into = np.log(max(outcome.input_tokens, 1.0) / max(outcome.prompt_tokens, 1.0)) if outcome.prompt_tokens else 0.0
    return [float(np.log(max(outcome.output_tokens, 1.0))), float(into), float(np.log(max(outcome.latency_ms, 1.0)))]


@dataclass(frozen=True, slots=True)
class Expected:
    """Of the quality at a prompt, [models] each: what is added to the catalogue's at every prompt (`level`) and at this
    one (`prompt`), and the standard deviation."""

    level: Floats
    prompt: Floats
    sd: Floats


@dataclass(frozen=True)
class Outlook:
    """A learner's posterior for the models of one catalogue, [models] where nothing else is said."""

    basis: Basis | None
    listed: Floats  # the catalogue's quality
    believed: Floats  # the same with its differences as far as they are believed
    quality: Posterior
    measures: Floats  # [measures, models] means of one answer
    variances: Floats  # [measures] of its logarithm
    graded: Floats  # outcomes with a grade, by their weights
    answers: Floats

    @classmethod
    def of(cls, columns: CatalogueColumns, basis: Basis | None, quality: Evidence, measured: Evidence) -> "Outlook":
        """Exact; takes the inversion of a matrix of (models with outcomes + 1) * width."""
        believed, sd = believed_quality(columns)
        graded, answered = quality.places(columns.models), measured.places(columns.models)
        prior, level = np.full(len(quality.models), _mean(believed)), np.full(len(quality.models), UNLISTED_SD)
        prior[graded], level[graded] = believed, sd
        measures, variances = [], []
        for target, deviations in enumerate(MEASURES):
            logs = np.full(len(measured.models), _mean(_log_prior(columns, target)))
            logs[answered] = _log_prior(columns, target)
            found = posterior(measured, logs, np.full(len(logs), MEASURE_LEVEL_SD[target]), deviations, target)
            variances.append(residual_variance(measured, found, logs, deviations.noise, NOISE_PSEUDO_ANSWERS, target))
            middle = (logs + found.common[0] + found.own[:, 0])[answered]
            measures.append(np.exp(np.minimum(middle + variances[-1] / 2.0, _LARGEST_LOG)))
        found = posterior(quality, prior, level, QUALITY)
        return cls(
            basis,
            columns.quality,
            believed,
            Posterior(found.common, found.own[graded], found.covariance[graded]),
            np.array(measures),
            np.array(variances),
            quality.weight[graded],
            measured.weight[answered],
        )

    def expected(self, vector: Vector | None) -> Expected:
        """What to expect of every model for the prompt with this vector; without one, of prompts in general."""
        features = prompt_features(self.basis, vector)
        coefficients = self.quality.common + self.quality.own
        variance = np.einsum("mfg,f,g->m", self.quality.covariance, features, features)
        prompt = coefficients[:, 1:] @ features[1:]
        return Expected(coefficients[:, 0], prompt, np.sqrt(np.maximum(variance, 0.0)))


class Outlooks:
    """What a learner, as it is now (Unix s), makes of the catalogues that it is asked about, each worked out once."""

    def __init__(self, learner: Learner, now: float) -> None:
        self.learner, self.now = learner, now
        self._found: dict[Catalogue, Outlook] = {}
        self._asked: dict[Catalogue, CatalogueColumns] = {}

    def of(self, columns: CatalogueColumns) -> Outlook:
        """The outlook for this catalogue."""
        key = (columns.models, columns.quality.tobytes(), columns.latency_ms.tobytes())  # whatever the prices are
        found = self._found.get(key)
        if found is None:
            while len(self._found) >= _KEPT_OUTLOOKS:
                oldest = next(iter(self._found))
                del self._found[oldest], self._asked[oldest]
            found = self._found[key] = self.learner.outlook(columns, self.now)
            self._asked[key] = columns
        return found

    def prepare(self, before: "Outlooks | None") -> "Outlooks":
        """Work out what was asked of the state `before`, so that no request waits for it."""
        for columns in list(before._asked.values()) if before is not None else ():
            self.of(columns)
        return self


def prompt_features(basis: Basis | None, vector: Vector | None) -> Floats:
    """[width] of a prompt; of one without a usable vector, those of no prompt in particular."""
    if basis is None:
        return np.ones(1)
    if vector is None or vector.shape != (basis.dimension,):
        return basis.plain()
    return basis.features(vector)


def believed_quality(columns: CatalogueColumns) -> tuple[Floats, Floats]:
    """The catalogue's qualities with their differences shrunk by the part that is error, and what is left of the error:
    whoever is said to be the best of many has mostly been lucky with what was said."""
    listed, quality = columns.quality_listed, columns.quality
    kept = 1.0
    middle = _mean(quality[listed])
    if int(listed.sum()) > 1:
        variance = math.fsum(((quality[listed] - middle) ** 2).tolist()) / (int(listed.sum()) - 1)
        kept = max(1.0 - LEVEL_SD**2 / variance, LEAST_KEPT) if variance > 0.0 else LEAST_KEPT
    believed = np.where(listed, middle + kept * (quality - middle), quality)
    return believed, np.where(listed, LEVEL_SD * kept**0.5, UNLISTED_SD)


def _mean(values: Floats) -> float:
    # Exact, so that the order of the candidates changes nothing, not even the last bit.
    return math.fsum(values.tolist()) / max(len(values), 1)


def _log_prior(columns: CatalogueColumns, target: int) -> Floats:
    """[models] the expected logarithm: its mean is what the catalogue, or nobody, says."""
    means = {TOKENS: np.full(len(columns.models), DEFAULT_OUTPUT_TOKENS), LATENCY: columns.latency_ms}
    logs: Floats = np.log(means.get(target, np.ones(len(columns.models))))
    return logs - MEASURES[target].noise / 2.0


NOTHING_LEARNT = Outlooks(Learner(None, 0.0), 0.0)
