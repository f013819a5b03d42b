"""How Google writes things in JSON: names in two spellings, numbers as text, and schemas of its own."""

import math
from typing import Any

from pydantic.alias_generators import to_camel

from modelpilot.errors import InvalidRequest
from modelpilot.wire.jsonb import JsonObject, as_object

_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_RENAMED = {"defs": "$defs", "ref": "$ref"}
_NO_SCHEMA = frozenset({"nullable", "propertyOrdering", "example"})


def camel(value: Any) -> JsonObject:
    """The object `value` (anything else: an empty one) with its own names in camelCase; what is in it stays."""
    fields = as_object(value)
    if not any("_" in name for name in fields):
        return fields
    return {to_camel(name) if "_" in name else name: inner for name, inner in fields.items()}


def number(
    fields: JsonObject,
    name: str,
    place: str,
    least: float | None = None,
    most: float | None = None,
    *,
    whole: bool = False,
) -> Any:
    """The number `name`, which may be written as text, within its bounds; None where it is not there.

    Raises InvalidRequest, whose `param` is the field in `place`.
    """
    value = fields.get(name)
    if value is None:
        return None
    read = _read(value)
    if whole and isinstance(read, float):
        read = int(read) if read.is_integer() else None
    if read is None or (least is not None and read < least) or (most is not None and read > most):
        kind = "a whole number" if whole else "a number"
        bounds = "" if least is None else f" from {least:g} on" if most is None else f" from {least:g} to {most:g}"
        raise InvalidRequest.at(f"{place}.{name}", f"{kind}{bounds} was expected")
    return read


def _read(value: Any) -> int | float | None:
    try:
        if isinstance(value, str):
            value = int(value) if value.removeprefix("-").isdecimal() else float(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except (ValueError, OverflowError):
        return None
    return value if is_number else None


def json_schema(schema: Any) -> Any:
    """Google's Schema as JSON Schema: types in lower case, `nullable` as a type, counts as numbers."""
    if not isinstance(schema, dict):
        return schema
    fields = camel(schema)
    made = {_RENAMED.get(name, name): _keyword(name, value) for name, value in fields.items() if name not in _NO_SCHEMA}
    if made.get("type") == "type_unspecified":
        del made["type"]
    if isinstance(order := fields.get("propertyOrdering"), list) and isinstance(made.get("properties"), dict):
        known: JsonObject = made["properties"]
        made["properties"] = {name: known[name] for name in order if isinstance(name, str) and name in known} | known
    return _nullable(made) if fields.get("nullable") is True else made


def _keyword(name: str, value: Any) -> Any:
    if name == "type":
        return value.lower() if isinstance(value, str) else value
    if name in ("properties", "defs", "$defs"):
        return {key: json_schema(inner) for key, inner in as_object(value).items()}
    if name in ("items", "additionalProperties"):
        return json_schema(value)
    if name in ("anyOf", "prefixItems"):
        return [json_schema(inner) for inner in value] if isinstance(value, list) else value
    return int(value) if name in _COUNTS and isinstance(value, str) and value.isdecimal() else value


def _nullable(schema: JsonObject) -> JsonObject:
    if isinstance(kind := schema.get("type"), str):
        schema["type"] = [kind, "null"]
    elif isinstance(kinds := schema.get("anyOf"), list):
        schema["anyOf"] = [*kinds, {"type": "null"}]
    if isinstance(values := schema.get("enum"), list):
        schema["enum"] = [*values, None]
    return schema
