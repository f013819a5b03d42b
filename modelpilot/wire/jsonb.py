"""JSON to and from bytes, fast, and still right for the few values that orjson refuses."""

import json
import math
from dataclasses import asdict, is_dataclass
from typing import Any, NoReturn, TypeVar

import orjson

from modelpilot.errors import InvalidRequest

JsonObject = dict[str, Any]
T = TypeVar("T", str, int, JsonObject)

# The lower-case start of an escaped surrogate: the only valid JSON that orjson refuses and the standard library reads.
_SURROGATE_ESCAPE = b"\\ud"
_TYPE_NAMES: dict[type, str] = {str: "text", dict: "an object", int: "a whole number"}


def dump(value: Any) -> bytes:
    """JSON of `value` (plain data or a dataclass), exact for any text. NaN and infinity become null."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # orjson refuses integers beyond 64 bits and lone surrogates. The standard library writes the latter, which
        # UTF-8 cannot carry, as the `\\ud800` escapes that they came in as.
        plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        return json.dumps(finite_json(plain), allow_nan=False, separators=(",", ":")).encode("ascii")


def load(data: bytes) -> Any:
    """The value in JSON `data`, escaped lone surrogates included. Raises ValueError, RecursionError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if _SURROGATE_ESCAPE not in data.lower():
            raise
    # Numbers through orjson, so that both readers agree on what is too large.
    return json.loads(
        data.decode("utf-8"), parse_constant=_refuse_constant, parse_int=orjson.loads, parse_float=orjson.loads
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_object(data: bytes | str) -> JsonObject:
    """The JSON object in `data`. Raises ValueError for anything else."""
    value = orjson.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def as_object(value: Any) -> JsonObject:
    """`value` where it is an object, else an empty one: for reading optional parts of foreign JSON."""
    return value if isinstance(value, dict) else {}


def as_objects(value: Any) -> list[JsonObject]:
    """The objects in `value` where it is a list, else nothing."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def required(fields: JsonObject, name: str, kind: type[T], place: str) -> T:
    """The field `name`, which must be there and of this kind: for what a client sent. Raises InvalidRequest, whose
    `param` is the field in `place`."""
    value = fields.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidRequest.at(f"{place}.{name}", f"{_TYPE_NAMES[kind]} was expected")
    return value


def object_of(text: Any, key: str) -> JsonObject:
    """The object in `text` ({} where it is empty). Any other text is kept, as the value of `key`."""
    if not text:
        return {}
    try:
        return parse_object(text)
    except ValueError:
        return {key: text}


def finite_json(value: Any) -> Any:
    """`value` (plain data) with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
