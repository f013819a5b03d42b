"""A fitted predictor: small arrays that turn a prompt's vector into expectations for every model it has seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelpilot.estimation.archive import pack, unpack
from modelpilot.estimation.arrays import Floats
from modelpilot.estimation.kernel import Kernel
from modelpilot.records import Vector

Singles = NDArray[np.float32]

HEADS = ("quality", "output_tokens", "latency_ms", "cost_usd")
QUALITY, OUTPUT_TOKENS, LATENCY, COST = range(len(HEADS))
_LARGEST_LOG = 25.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expectations for a prompt, [models] each. NaN where a model has no history of that kind.

    `quality_sd` is that of the expectation; `*_log_sd` are those of a single answer, in natural logarithms.
    """

    quality: Floats
    quality_sd: Floats
    output_tokens: Floats
    output_tokens_log_sd: Floats
    latency_ms: Floats
    latency_log_sd: Floats
    cost_usd: Floats


@dataclass(frozen=True)
class FittedPredictor:
    """Regressions of one router. Deterministic. Arrays over heads (see HEADS) and models are [4, models].

    A head's value is `base`, plus the kernel columns times `coefficients`, plus `constant`; all but quality are
    logarithms, `smear` turning exp of them to means. The request type helps only where there is no vector: next to the
    kernel it measurably hurts.
    """

    models: tuple[str, ...]
    request_types: tuple[str, ...]
    fitted_at: float  # Unix seconds
    surface_middle: Floats
    surface_spread: Floats
    landmarks: Singles  # [M, d]
    coefficients: Singles  # [M, 4 * models]
    constant: Floats  # [4, models]
    base: Floats  # [4, models]
    type_offset: Floats  # [types + 1, models] of quality
    smear: Floats  # [4, models]
    noise: Floats  # [4, models] variance of a single outcome around its expectation
    signal: Floats  # [models] variance of what the regression says of quality
    contrast: Floats  # [models] weight of the graded outcomes that tell the model from the others
    rows: Floats  # [4, models] weight of the outcomes behind it
    ttft_ms: Floats  # [models], NaN where unknown
    input_factor: Floats  # [models] tokens that a model counts in a prompt, against the models' mean

    @property
    def dimension(self) -> int:
        """Length of the vectors that it was fitted on."""
        return int(self.landmarks.shape[1])

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Where each model stands."""
        return {model: place for place, model in enumerate(self.models)}

    @cached_property
    def _kernel(self) -> Kernel:
        return Kernel(self.surface_middle, self.surface_spread, self.landmarks)

    def forecast(self, vector: Vector | None, request_type: str = "") -> Forecast:
        """What to expect of every model. Without a vector: the means, by request type."""
        shape = (len(HEADS), len(self.models))
        learnt, novelty = np.zeros(shape), 1.0
        if vector is not None and vector.shape == (self.dimension,):
            near = self._kernel.columns(self._kernel.scaled(vector))
            learnt = (near @ self.coefficients).astype(np.float64).reshape(shape) + self.constant
            novelty = 1.0 - float(near.max())
        else:
            learnt[QUALITY] = self.type_offset[self._type(request_type)]
        value = self.base + learnt
        with np.errstate(invalid="ignore"):
            means = np.exp(np.minimum(value, _LARGEST_LOG)) * self.smear
        spread = self.noise[QUALITY] / np.maximum(self.rows[QUALITY], 1.0) + self.signal * novelty
        return Forecast(
            quality=np.clip(value[QUALITY], 0.0, 1.0),
            quality_sd=np.sqrt(spread),
            output_tokens=means[OUTPUT_TOKENS],
            output_tokens_log_sd=np.sqrt(self.noise[OUTPUT_TOKENS]),
            latency_ms=means[LATENCY],
            latency_log_sd=np.sqrt(self.noise[LATENCY]),
            cost_usd=means[COST],
        )

    def to_bytes(self) -> bytes:
        """A self-contained npz archive without pickles."""
        return pack(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FittedPredictor":
        """The predictor again. Raises InvalidRequest for another format or a damaged archive."""
        return unpack(cls, data)

    def _type(self, request_type: str) -> int:
        known = self.request_types
        return known.index(request_type) if request_type in known else len(known)
