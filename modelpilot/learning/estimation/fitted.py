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

FORMAT_VERSION = 4
_FORMAT = "format"

T = TypeVar("T")


def pack(record: Any, *, compress: bool = True) -> bytes:
    """The fields of a dataclass (arrays, floats, tuples of strings) as an npz archive: no pickles, which run code."""
    buffer = io.BytesIO()
    columns: dict[str, Any] = {field.name: _array(getattr(record, field.name)) for field in fields(record)}
    columns[_FORMAT] = np.array(FORMAT_VERSION)
    (np.savez_compressed if compress else np.savez)(buffer, **columns)
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
_LARGEST_LOG = 25.0
_KEPT_STANDINGS = 8  # lists of models per fit: a router has few between two fits


@dataclass(frozen=True, slots=True)
class Standing:
    """What a fit knows of some models before it is told the prompt, [models] each.

    `weight` is 0 where it knows nothing, and all else is neutral there.
    """

    places: Indices  # in the fit's own arrays; -1: it has not seen the model
    weight: Floats  # [heads, models] in outcomes
    ttft_ms: Floats  # NaN where unknown


@cache
def unfitted(count: int) -> Standing:
    """That of so many models where there is no fit."""
    return Standing(np.full(count, -1), np.zeros((len(HEADS), count)), np.full(count, np.nan))


@dataclass(frozen=True)
class FittedPredictor:
    """Regressions of one router. Deterministic. Arrays over heads (see HEADS) and models are [4, models].

    A head's value is `base`, plus the kernel columns times `coefficients`, plus `constant`; all but quality are
    logarithms, `smear` turning exp of them to means.
    """

    models: tuple[str, ...]
    fitted_at: float  # Unix seconds
    surface_middle: Floats
    surface_spread: Floats
    surface_range: Floats
    landmarks: Singles  # [M, d]
    coefficients: Singles  # [M, 4 * models]
    constant: Floats  # [4, models]
    base: Floats  # [4, models]
    smear: Floats  # [4, models]
    rows: Floats  # [4, models] weight of the outcomes behind it
    ttft_ms: Floats  # [models], NaN where unknown

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
        return Kernel(self.surface_middle, self.surface_spread, self.surface_range, self.landmarks)

    @cached_property
    def standing(self) -> Callable[[tuple[str, ...]], Standing]:
        """What it knows of these models whatever the prompt. Worked out once: a router's candidates seldom change."""
        return lru_cache(_KEPT_STANDINGS)(self._standing)

    def forecast(self, vector: Vector | None) -> Floats:
        """[heads, models] what to expect of one answer (see HEADS; quality in [0, 1], latency of the whole answer), NaN
        where a model has no history of that kind. Without a vector: the means."""
        learnt = np.zeros((len(HEADS), len(self.models)))
        if vector is not None and vector.shape == (self.dimension,):
            near = self._kernel.columns(self._kernel.scaled(vector))
            learnt = (near @ self.coefficients).astype(np.float64).reshape(learnt.shape) + self.constant
        value = self.base + learnt
        with np.errstate(invalid="ignore"):
            expected = np.exp(np.minimum(value, _LARGEST_LOG)) * self.smear
        expected[QUALITY] = between(0.0, value[QUALITY], 1.0)
        return expected

    def to_bytes(self) -> bytes:
        """A self-contained npz archive without pickles."""
        return pack(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FittedPredictor":
        """The predictor again. Raises InvalidRequest for another format or a damaged archive."""
        return unpack(cls, data)

    def _standing(self, models: tuple[str, ...]) -> Standing:
        places = np.array([self.places.get(model, -1) for model in models], np.int64)
        weight = np.where(places >= 0, self.rows[:, places], 0.0)

        measured = (weight[LATENCY] > 0.0) & np.isfinite(self.ttft_ms[places])
        return Standing(places, weight, np.where(measured, self.ttft_ms[places], np.nan))
