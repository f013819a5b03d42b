"""JSON to and from bytes, fast, and still right for the few values that orjson refuses."""

import json
import math
from typing import Any

import orjson

JsonObject = dict[str, Any]


def dump(value: Any) -> bytes:
    """JSON text of `value`. Raises ValueError for what JSON cannot say (NaN, infinity in a value orjson refuses)."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # orjson refuses integers beyond 64 bits and lone surrogates; a client's body may hold both.
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


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


def object_of(text: Any, key: str) -> JsonObject:
    """The object in `text` ({} where it is empty). Any other text is kept, as the value of `key`."""
    if not text:
        return {}
    try:
        return parse_object(text)
    except ValueError:
        return {key: text}


# Numbers for JSON, which has neither NaN nor infinity.


def finite_json(value: Any) -> Any:
    """`value` (plain data) with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
