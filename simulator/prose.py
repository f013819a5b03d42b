"""JSON that is asked for in prose: by a schema, by keys or by an example, in the task or in the system prompt. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MOST_SEARCHED = 60_000  # characters, from the end: the wish and its schema stand near each other
_MOST_OBJECTS = 60
_VERBS = "answer|respond|reply|return|output|provide|produce|give|format|write|generate|emit|print|extract"
_WISH = re.compile(
    r"(?:^|[.!?:;\n\"]\s*|\b(?:and|but|please|then|must|should|only|always|task is to|provide)\s+)(?:" + _VERBS + r")\b"
    r"[^.\n]{0,80}?\bjson\b(?!\s+(?:parser|files?|library|apis?|into|from)\b)"
    r"|\bparsed objects in json\b|\bonly\b[^.\n]{0,30}\bjson\b|\bjson\b[^.\n]{0,20}\bonly\b"
    r"|\bjson (?:instance|object)s? that (?:conforms?|match(?:es)?)\b|\bjson schema to follow\b",
    re.IGNORECASE | re.MULTILINE,
)
_KEYS = re.compile(
    r"\b(?:(?:keys?|fields?|properties|attributes)\b(?: (?:are|being|named|called))?"
    r"|json(?: object)? (?:with|containing|having)\b"
    r"(?! (?:the )?(?:following|keys?|fields?|properties|these|two)\b))\s*:?",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"\s*(?:[-*]\s+|\d+\.\s+)?(?:(?:the|an?)\s+)?[\"'`]?(\w+)[\"'`]?(?:[ \t]*\(([^)\n]{1,60})\)|[ \t]*:([^\n,]{1,80}))?"
)
_NEXT_KEY = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+|[ \t]*\n(?=\s*(?:[-*]|\d+\.)\s)")
_MOST_KEYS = 50
_PAIR = re.compile(r"\"(\w+)\"\s*:\s*([^,}\n]+)")
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:to|-|\u2013|and)\s*(-?\d+(?:\.\d+)?)")
_ARRAY = re.compile(r"\bjson (?:array|list)\b(?: of (\d+))?", re.IGNORECASE)
_KINDS = {
    "int": "integer", "integer": "integer", "whole": "integer", "float": "number", "number": "number",
    "decimal": "number", "bool": "boolean", "boolean": "boolean", "true": "boolean", "list": "array", "array": "array",
}  # fmt: skip
_SCHEMA_WORDS = frozenset({"properties", "$defs", "$ref", "anyOf", "allOf"})
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Wish:
    """The JSON that is wanted: its schema (None: any object with an answer), and whether in a fenced block."""

    schema: Mapping[str, Any] | None
    fenced: bool = False

    def written(self, value: Any) -> str:
        """Write the JSON."""
        text = json.dumps(value, ensure_ascii=False)
        return f"```json\n{text}\n```" if self.fenced else text


def wished(asked: str, system: str, *, anyway: bool = False) -> Wish | None:
    """Return the JSON that the system prompt or the task asks for, or None. `anyway`: the request itself asks."""
    wishes = [text for text in (system[-_MOST_SEARCHED:], asked[-_MOST_SEARCHED:]) if "json" in text.lower()]
    found = [(text, match) for text in wishes if (match := _WISH.search(text))]
    if not found and not anyway:
        return None
    places = [(text, match.start()) for text, match in found] or [(text, 0) for text in wishes]
    schemas = (_schema(text, start) for text, start in places)
    return Wish(next(filter(None, schemas), None), "```json" in asked or "code block" in asked)


def _schema(text: str, start: int) -> Mapping[str, Any] | None:
    objects = list(_objects(text))
    schemas = [found for _, _, found in objects if _is_schema(found)]
    if schemas:
        return schemas[-1]
    if keys := _keys(text, start):
        return _of(keys)
    examples = [found for at, _, found in objects if at > start]
    if examples:
        return _example(examples[0])
    if pairs := _PAIR.findall(text[start:]):
        return _of(dict(pairs))
    if match := _ARRAY.search(text, start):
        return {"type": "array", "items": {"type": "string"}, "minItems": min(int(match[1] or 1), 20)}
    return None


def _is_schema(found: Mapping[str, Any]) -> bool:
    return bool(found.keys() & _SCHEMA_WORDS) or found.keys() >= {"type", "items"}


def without_examples(text: str) -> str:
    """Return `text` without the JSON that explains what is wanted: all of it beside a schema, else what comes after the
    order. What stands there is no value."""
    objects = list(_objects(text))
    match = _WISH.search(text) if objects else None
    explained = any(_is_schema(found) for _, _, found in objects)
    kept, start = [], 0
    for at, end, _ in objects:
        if explained or (match and at > match.start()):
            kept.append(text[start:at])
            start = end
    return "".join([*kept, text[start:]])


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The JSON objects in `text`, from where to where; braces that begin none are passed over, up to a number."""
    at = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if at < 0:
            return
        try:
            found, end = _DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            at = text.find("{", at + 1)
            continue
        if isinstance(found, dict) and found:
            yield at, end, found
        at = text.find("{", end)


def _keys(text: str, start: int) -> dict[str, str]:
    """The keys that are listed behind the wish, with what is said of each."""
    match = _KEYS.search(text, start)
    found: dict[str, str] = {}
    at = match.end() if match else -1
    while at >= 0 and len(found) < _MOST_KEYS and (key := _KEY.match(text, at)):
        found[key[1]] = key[2] or key[3] or ""
        following = _NEXT_KEY.match(text, key.end())
        at = following.end() if following else -1
    return found


def _of(kinds: Mapping[str, str]) -> dict[str, Any]:
    properties = {name: _kind(about) for name, about in kinds.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _kind(about: str) -> dict[str, Any]:
    """The schema of what a few words describe: `number from 0 to 1`, `list`, `"low" | "high"`."""
    words = re.findall(r"[a-z]+", about.lower())
    options = [option.strip(" \"'<>") for option in about.split("|")]
    if len(options) > 1 and all(options):
        return {"type": "boolean"} if set(options) == {"true", "false"} else {"enum": options}
    kind = next((_KINDS[word] for word in words if word in _KINDS), "string")
    span = _RANGE.search(about) if kind in ("integer", "number") else None
    limits = {"minimum": float(span[1]), "maximum": float(span[2])} if span else {}
    return {"type": kind, **limits}


def _example(value: Any) -> dict[str, Any]:
    """The schema of values like `value`."""
    match value:
        case dict():
            properties = {name: _example(inner) for name, inner in value.items()}
            return {"type": "object", "properties": properties, "required": list(properties)}
        case list():
            return {"type": "array", "items": _example(value[0]) if value else {"type": "string"}}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case None:
            return {"type": "null"}
    return _kind(str(value)) if len(str(value)) < 60 else {"type": "string"}
