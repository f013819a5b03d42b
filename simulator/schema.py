"""A value that satisfies a JSON schema: structured output and tool arguments. Pure and deterministic.

Understands type, enum, const, anyOf/oneOf/allOf, local $ref, properties, items, ranges, lengths and the common formats,
in JSON Schema's and in Gemini's spelling (`STRING`). `pattern`, `not` and conditionals are ignored.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
_MAX_DEPTH = 6  # Below it only required properties are made, so that recursive schemas end.
_HARD_DEPTH = 40
_MAX_ITEMS = 1000


@dataclass
class Maker:
    """Makes values for schemas under `root`; strings take words from `hints` first.

    Numbers called score, quality, rating or grade are near their maximum, or near their minimum if `low_scores`: a
    simulated judge gives good answers good marks.
    """

    rng: random.Random
    root: Mapping[str, Any] = field(default_factory=dict)
    hints: Iterable[str] = ()
    low_scores: bool = False

    def __post_init__(self) -> None:
        self._hints = iter(self.hints)

    def make(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """Return a value valid under `schema`; `name` is the property it is for."""
        if not isinstance(schema, Mapping) or depth > _HARD_DEPTH:
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if options := schema.get("enum"):
            return self.rng.choice(list(options))
        for key in ("anyOf", "oneOf"):
            if branches := schema.get(key):
                return self.make(_smallest(branches) if depth > _MAX_DEPTH else branches[0], name, depth + 1)
        return self._typed(schema, name, depth)

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
                return self.rng.random() < 0.5
            case "null":
                return None
        return self._string(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        needed = set(schema.get("required") or ())
        wanted = [key for key in properties if depth <= _MAX_DEPTH or key in needed]
        wanted += [key for key in needed if key not in properties]
        return {key: self.make(properties.get(key, {"type": "string"}), key, depth + 1) for key in wanted}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        least = min(int(schema.get("minItems", 0 if depth > _MAX_DEPTH else 1)), _MAX_ITEMS)
        return [self.make(schema.get("items", {"type": "string"}), name, depth + 1) for _ in range(least)]

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
        low, high = self._range(schema, 1e-3)
        if step := schema.get("multipleOf"):
            return float(-(-low // step) * step)
        return round(min(max(low + (high - low) * self._share(name), low), high), 3)

    def _integer(self, schema: Mapping[str, Any], name: str) -> int:
        low, high = self._range(schema, 1)
        step = int(schema.get("multipleOf", 1)) or 1
        value = round(low + (high - low) * self._share(name))
        return min(-(-value // step) * step, int(high // step) * step)

    def _string(self, schema: Mapping[str, Any]) -> str:
        if (known := _FORMATS.get(str(schema.get("format")))) is not None:
            return known
        text = next(self._hints, None) or self.rng.choice(_WORDS)
        text = text.ljust(int(schema.get("minLength", 0)), "x")
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _smallest(branches: Any) -> Any:
    """Return the branch that ends a recursion: null if there is one, else the one without properties."""
    return min(branches, key=lambda branch: (branch.get("type") != "null", "$ref" in branch, "properties" in branch))
