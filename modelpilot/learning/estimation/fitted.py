"""A fitted predictor: small arrays that turn a prompt's vector into expectations for every model it has seen."""

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats, Indices, between
from modelpilot.errors import InvalidRequest
from modelpilot.learning.estimation.kernel import Kernel
from modelpilot.requests.records import Vector

FORMAT_VERSION = 3
_FORMAT = "format"

T = TypeVar("T")


def pack(record: Any) -> bytes:
    """The fields of a dataclass (arrays, floats, tuples of strings) as an npz archive: no pickles, which run code."""
    buffer = io.BytesIO()
    columns: dict[str, Any] = {field.name: _array(getattr(record, field.name)) for field in fields(record)}
    columns[_FORMAT] = np.array(FORMAT_VERSION)
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def unpack(kind: type[T], data: bytes) -> T:
    """The record again. Raises InvalidRequest for another format or a damaged archive."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidRequest(f"this is not a fitted predictor: {error}") from error
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    found = columns.pop(_FORMAT, None)
    if found is None or int(found) != FORMAT_VERSION or set(columns) != names:
        raise InvalidRequest("this predictor has the format of another version: fit again")
    return kind(**{name: _value(column) for name, column in columns.items()})


def _array(value: Any) -> Any:
    return np.array(value, np.str_) if isinstance(value, tuple) else np.asarray(value)


def _value(column: Any) -> Any:
    if column.dtype.kind == "U":
        return tuple(map(str, column))
    return float(column) if column.ndim == 0 else column


Singles = NDArray[np.float32]

HEADS = ("quality", "output_tokens", "latency_ms", "cost_usd")
QUALITY, OUTPUT_TOKENS, LATENCY, COST = range(len(HEADS))
LOG_SD = 0.8  # of one answer's length and time, where nothing has been measured
_LARGEST_LOG = 25.0
_KEPT_STANDINGS = 8  # lists of models per fit: a router has few between two fits


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expectations for a prompt, [models] each. NaN where a model has no history of that kind.

    `quality_sd` is that of the expectation, not of a single outcome.
    """

    expected: Floats  # [heads, models] of one answer: see HEADS; quality in [0, 1], latency that of the whole answer
    quality_sd: Floats


@dataclass(frozen=True, slots=True)
class Standing:
    """What a fit knows of some models before it is told the prompt, [models] each.

    `weight` is 0 where it knows nothing, and all else is neutral there. The spreads are those of a single answer, in
    natural logarithms.
    """

    places: Indices  # in the fit's own arrays; -1: it has not seen the model
    weight: Floats  # [heads, models] in outcomes
    quality_base: Floats  # of the model over all prompts
    token_log_sd: Floats
    latency_log_sd: Floats
    ttft_ms: Floats  # NaN where unknown
    input_factor: Floats
    contrast: Floats


@cache
def unfitted(count: int) -> Standing:
    """That of so many models where there is no fit."""
    none, usual = np.zeros(count), np.full(count, LOG_SD)
    return Standing(
        places=np.full(count, -1),
        weight=np.zeros((len(HEADS), count)),
        quality_base=none,
        token_log_sd=usual,
        latency_log_sd=usual,
        ttft_ms=np.full(count, np.nan),
        input_factor=np.ones(count),
        contrast=none,
    )


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

    @cached_property
    def standing(self) -> Callable[[tuple[str, ...]], Standing]:
        """What it knows of these models whatever the prompt. Worked out once: a router's candidates seldom change."""
        return lru_cache(_KEPT_STANDINGS)(self._standing)

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
            expected = np.exp(np.minimum(value, _LARGEST_LOG)) * self.smear
        expected[QUALITY] = between(0.0, value[QUALITY], 1.0)
        spread = self.noise[QUALITY] / np.maximum(self.rows[QUALITY], 1.0) + self.signal * novelty
        return Forecast(expected, np.sqrt(spread))

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

    def _standing(self, models: tuple[str, ...]) -> Standing:
        places = np.array([self.places.get(model, -1) for model in models], np.int64)
        weight = np.where(places >= 0, self.rows[:, places], 0.0)

        def column(values: Floats, known: NDArray[np.bool_], otherwise: float) -> Floats:
            taken = values[places]
            return np.where(known & np.isfinite(taken), taken, otherwise)

        return Standing(
            places=places,
            weight=weight,
            quality_base=column(self.base[QUALITY], weight[QUALITY] > 0.0, 0.0),
            token_log_sd=column(np.sqrt(self.noise[OUTPUT_TOKENS]), weight[OUTPUT_TOKENS] > 0.0, LOG_SD),
            latency_log_sd=column(np.sqrt(self.noise[LATENCY]), weight[LATENCY] > 0.0, LOG_SD),
            ttft_ms=column(self.ttft_ms, weight[LATENCY] > 0.0, np.nan),
            input_factor=column(self.input_factor, places >= 0, 1.0),
            contrast=column(self.contrast, places >= 0, 0.0),
        )
