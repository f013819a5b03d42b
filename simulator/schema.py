"""Values made from a JSON schema, with what stands in the prompt. Pure.

Understood: type, enum, const, default, anyOf/oneOf/allOf, local $ref, properties, items, ranges, lengths and the common
formats, in JSON Schema's and in Gemini's spelling (`STRING`). `pattern`, `not` and conditionals are ignored.
"""

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.values import Values, is_answer, kind_of

_FORMATS = {
    "date": "2025-06-01",
    "date-time": "2025-06-01T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "user@example.com",
    "uuid": "8c2f3b52-4a0e-4d8e-9a55-2f0f9a3d6c11",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_WORDS = ("amber", "basil", "cedar", "delta", "ember", "fable", "grove", "harbor")
_SCORE_NAMES = frozenset({"score", "quality", "rating", "grade"})
_READ = {  # the formats whose values are found in texts
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "date-time": re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?"),
    "email": re.compile(r"\S+@\S+"),
    "uri": re.compile(r"\w+:\S+"),
}
_SAFE = {"path": "notes.txt", "command": "true", "url": "https://example.com/"}  # what an agent may do without harm
_MAX_DEPTH = 6  # Below it only required properties are made, so that recursive schemas end.
_HARD_DEPTH = 40
_MAX_ITEMS = 1000


@dataclass
class Maker:
    """Makes values for schemas under `root`, from `values` where they have some, else from `rng`.

    Numbers called score, quality, rating or grade are near their maximum, or near their minimum if `low_scores`: a
    simulated judge gives good answers good marks. `answer` is what the text answer would be, for properties
    called answer, result, response and so on. `sparse` makes the arguments of a call: what the schema does not require
    is left out, or null, unless the text says it, and defaults hold.
    """

    rng: random.Random
    root: Mapping[str, Any] = field(default_factory=dict)
    values: Values = field(default_factory=Values)
    answer: str = ""
    low_scores: bool = False
    sparse: bool = False

    def make(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """Return a value valid under `schema`; `name` is the property it is for."""
        if not isinstance(schema, Mapping) or depth > _HARD_DEPTH:
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if options := schema.get("enum"):
            return self._option(list(options), name)
        plain = "default" in schema and (self.sparse or schema["default"] is None)
        if plain and not self._said(schema, name):
            return schema["default"]
        for key in ("anyOf", "oneOf"):
            if branches := schema.get(key):
                if self.sparse and _nullable(schema) and not self._said(schema, name):
                    return None
                return self.make(_smallest(branches) if depth > _MAX_DEPTH else _first(branches), name, depth + 1)
        return self._typed(schema, name, depth)

    def _option(self, options: list[Any], name: str) -> Any:
        given = self.values.named(name)
        said = [each for each in options if str(each) == given] or [each for each in options if self.values.says(each)]
        return said[0] if said else self.rng.choice(options)

    def _said(self, schema: Mapping[str, Any], name: str) -> bool:
        branches = [schema, *(schema.get("anyOf") or schema.get("oneOf") or ())]
        wanted = next((str(each["format"]) for each in branches if isinstance(each, Mapping) and "format" in each), "")
        return self.values.has(name, wanted)

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(_HARD_DEPTH):  # A $ref may point to a $ref; a circle must still end.
            target = schema.get("$ref")
            if not isinstance(target, str):
                break
            found: Any = self.root
            for step in target.removeprefix("#").strip("/").split("/"):
                found = found.get(step, {}) if step and isinstance(found, Mapping) else found
            schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
        merged = dict(schema)
        for part in schema.get("allOf", ()):
            inner = self._resolve(part)
            properties = {**merged.get("properties", {}), **inner.get("properties", {})}
            merged |= {**inner, **({"properties": properties} if properties else {})}
        return merged

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if self.sparse and _nullable(schema) and not self._said(schema, name):
            return None
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        match str(kind).lower():
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return self._integer(schema, name)
            case "number":
                return self._number(schema, name)
            case "boolean":
                return self._boolean(name)
            case "null":
                return None
        return self._string(schema, name)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        needed = set(schema.get("required") or ())
        wanted = [key for key in properties if key in needed or self._wanted(schema, key, depth)]
        wanted += [key for key in needed if key not in properties]
        return {key: self.make(properties.get(key, {"type": "string"}), key, depth + 1) for key in wanted}

    def _wanted(self, schema: Mapping[str, Any], key: str, depth: int) -> bool:
        """Whether a property that is not required is made."""
        if not self.sparse:
            return depth <= _MAX_DEPTH
        inner = schema["properties"][key]
        free = "required" not in schema and not (isinstance(inner, Mapping) and "default" in inner)
        return depth <= _MAX_DEPTH and (free or self.values.named(key) is not None)

    def _boolean(self, name: str) -> bool:
        given = (self.values.named(name) or "").lower()
        return given == "true" or (given != "false" and not self.sparse and self.rng.random() < 0.5)

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        least = min(int(schema.get("minItems", 0 if depth > _MAX_DEPTH else 1)), _MAX_ITEMS)
        most = int(schema.get("maxItems", _MAX_ITEMS))
        items = self._resolve(schema.get("items") or {"type": "string"})
        found = self._listed(items, name)[:most]
        return found + [self.make(items, name, depth + 1) for _ in range(least - len(found))]

    def _listed(self, items: Mapping[str, Any], name: str) -> list[Any]:
        """What the text has for a list: its numbers, or its names, paths or addresses."""
        kind = str(items.get("type", "")).lower()
        if "enum" in items or "format" in items or kind not in ("string", "integer", "number"):
            return []
        if kind == "string":
            command = self.values.text(name) if kind_of(name) == "command" else None
            return ["bash", "-lc", command] if command else self.values.all_of(name)
        found: list[Any] = []
        while (number := self._given(items, "", whole=kind == "integer")) is not None:
            found.append(number)
        return found

    def _given(self, schema: Mapping[str, Any], name: str, *, whole: bool) -> float | None:
        """A number of the text that the schema takes."""
        if name.lower() in _SCORE_NAMES or "multipleOf" in schema:
            return None
        low = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
        high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
        source = Values(self.answer) if self.answer and is_answer(name) else self.values
        found = source.number(name, whole=whole, low=low, high=high, last=source is not self.values)
        if found in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")):
            return None
        return int(found) if found is not None and found.is_integer() else found

    def _range(self, schema: Mapping[str, Any], step: float) -> tuple[float, float]:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        low = low if low is not None else (0 if high is None else min(0, high - 10))
        high = high if high is not None else low + 10
        return low + step * ("exclusiveMinimum" in schema), high - step * ("exclusiveMaximum" in schema)

    def _share(self, name: str) -> float:
        share = self.rng.random()
        if name.lower() not in _SCORE_NAMES:
            return share
        return 0.1 + 0.1 * share if self.low_scores else 0.85 + 0.1 * share

    def _number(self, schema: Mapping[str, Any], name: str) -> float:
        if (given := self._given(schema, name, whole=False)) is not None:
            return given
        low, high = self._range(schema, 1e-3)
        if step := schema.get("multipleOf"):
            return float(-(-low // step) * step)
        return round(min(max(low + (high - low) * self._share(name), low), high), 3)

    def _integer(self, schema: Mapping[str, Any], name: str) -> int:
        if (given := self._given(schema, name, whole=True)) is not None:
            return int(given)
        low, high = self._range(schema, 1)
        step = int(schema.get("multipleOf", 1)) or 1
        value = round(low + (high - low) * self._share(name))
        return min(-(-value // step) * step, int(high // step) * step)

    def _string(self, schema: Mapping[str, Any], name: str) -> str:
        wanted = str(schema.get("format", ""))
        found = self.answer if self.answer and is_answer(name) else self.values.text(name, wanted)
        if found is None or (wanted in _FORMATS and not (wanted in _READ and _READ[wanted].fullmatch(found))):
            found = _FORMATS.get(wanted) or _SAFE.get(kind_of(name)) or self.rng.choice(_WORDS)
        text = found.ljust(int(schema.get("minLength", 0)), "x")
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _first(branches: Any) -> Any:
    """The first branch that is more than null."""
    return next((each for each in branches if not (isinstance(each, Mapping) and each.get("type") == "null")), None)


def _nullable(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    branches = schema.get("anyOf") or schema.get("oneOf") or ()
    listed = [each.get("type") for each in branches if isinstance(each, Mapping)]
    return "null" in (kind if isinstance(kind, list) else listed) or schema.get("nullable") is True


def _smallest(branches: Any) -> Any:
    """Return the branch that ends a recursion: null if there is one, else the one without properties."""
    return min(branches, key=lambda branch: (branch.get("type") != "null", "$ref" in branch, "properties" in branch))
