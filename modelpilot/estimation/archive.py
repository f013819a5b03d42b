"""A dataclass of arrays, names and numbers as an npz archive, and back: no pickles, so that reading runs no code."""

import io
import zipfile
import zlib
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from modelpilot.errors import InvalidRequest

FORMAT_VERSION = 3
_FORMAT = "format"

T = TypeVar("T")


def pack(record: Any) -> bytes:
    """The fields of a dataclass: arrays, floats, or tuples of strings."""
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
