"""JSON Schemas in the dialect that a provider takes.

What a dialect has no word for goes into the description, where the model reads it; a schema that a dialect cannot say
at all raises `UnfitSchema`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump


class UnfitSchema(Exception):
    """The dialect cannot say this; the message says what."""


_COMMON = frozenset(
    {"type", "title", "description", "enum", "items", "properties", "required", "anyOf", "$ref", "$defs", "format"}
)
# https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
_CLAUDE = _COMMON | {"const", "allOf", "definitions", "additionalProperties", "default"}
_CLAUDE_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
# https://ai.google.dev/api/generate-content#FIELDS.response_json_schema
_GEMINI = _COMMON | {
    *("$id", "$anchor", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "oneOf"),
    *("additionalProperties", "propertyOrdering"),
}
# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
_OPENAI_UNKNOWN = frozenset(
    {"allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties"}
)
_COMBINING = ("anyOf", "oneOf", "allOf", "enum", "not")
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")


def claude_schema(schema: JsonObject) -> JsonObject:
    """A schema of answers for Claude: objects closed, bounds told in words. Raises UnfitSchema."""
    _refuse_recursion(schema)
    return _mapped(schema, _claude_node)


def gemini_schema(schema: JsonObject) -> JsonObject:
    """A schema of answers or parameters for Gemini."""
    return _mapped(schema, _gemini_node)


def openai_schema(schema: JsonObject) -> tuple[JsonObject, bool]:
    """A strict schema of answers for OpenAI, its objects closed; and whether it can be strict: where properties are
    optional, it cannot."""
    loose: list[JsonObject] = []

    def node(one: JsonObject) -> JsonObject:
        if _is_object(one):
            properties, required = as_object(one.get("properties")), one.get("required")
            if not properties or not isinstance(required, list) or not all(name in required for name in properties):
                loose.append(one)
                return one
            if one.get("additionalProperties") is not False:
                one = {**one, "additionalProperties": False}
        if not _OPENAI_UNKNOWN.isdisjoint(one):
            loose.append(one)
        return one

    closed = _mapped(schema, node)
    return (schema, False) if loose else (closed, True)


def parameters_schema(schema: Any) -> JsonObject:
    """A function's parameters with an object on top, as OpenAI and Anthropic demand: nothing that combines there."""
    given = as_object(schema)
    if given.get("type") == "object" and "properties" in given and not any(name in given for name in _COMBINING):
        return given
    merged = {**_of_branches(given), **as_object(given.get("properties"))}
    plain = {name: value for name, value in given.items() if name not in _COMBINING}
    told = {name: given[name] for name in _COMBINING if name in given}
    return _told({**plain, "type": "object", "properties": merged}, told)


def _of_branches(schema: JsonObject) -> JsonObject:
    """The properties of all branches of a combination: what may be given, if not what must."""
    branches = [branch for name in ("anyOf", "oneOf", "allOf") for branch in as_objects(schema.get(name))]
    return {name: value for branch in branches for name, value in as_object(branch.get("properties")).items()}


def _mapped(schema: JsonObject, node: Callable[[JsonObject], JsonObject]) -> JsonObject:
    """The schema with every schema in it mapped by `node`, the inner ones first; what stays as it is, is not copied."""
    changed: JsonObject = {}
    for name, value in schema.items():
        new: Any = value
        if name in _NAMED and isinstance(value, dict):
            new = {key: _mapped(as_object(one), node) if isinstance(one, dict) else one for key, one in value.items()}
        elif name in _LISTED and isinstance(value, list):
            new = [_mapped(one, node) if isinstance(one, dict) else one for one in value]
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            new = _mapped(value, node)
        if new is not value and new != value:
            changed[name] = new
    return node({**schema, **changed} if changed else schema)


def _is_object(schema: JsonObject) -> bool:
    kind = schema.get("type")
    return (
        kind == "object" or (isinstance(kind, list) and "object" in kind) or (kind is None and "properties" in schema)
    )


def _told(schema: JsonObject, further: Mapping[str, Any]) -> JsonObject:
    """The schema with `further` keywords in the words of its description."""
    if not further:
        return schema
    words = ", ".join(
        f"{name}: {value if isinstance(value, str) else dump(value).decode()}" for name, value in further.items()
    )
    description = schema.get("description")
    return {**schema, "description": f"{description}\n\n{{{words}}}" if description else f"{{{words}}}"}


def _claude_node(schema: JsonObject) -> JsonObject:
    if "$ref" in schema:
        return (
            schema
            if len(schema) == 1
            else {name: schema[name] for name in ("$ref", "$defs", "definitions") if name in schema}
        )
    kept = {name: value for name, value in schema.items() if name in _CLAUDE}
    further = {name: value for name, value in schema.items() if name not in _CLAUDE and not name.startswith("$")}
    if isinstance(variants := further.pop("oneOf", None), list):
        kept["anyOf"] = variants
    if kept.get("format") not in (None, *_CLAUDE_FORMATS):
        further["format"] = kept.pop("format")
    if further.get("minItems") in (0, 1):
        kept["minItems"] = further.pop("minItems")
    if _is_object(schema):
        if not as_object(kept.get("properties")) and kept.get("additionalProperties") is not False:
            raise UnfitSchema("an object whose properties it does not name")
        kept["additionalProperties"] = False
    return _told(kept, further) if kept != schema or further else schema


def _gemini_node(schema: JsonObject) -> JsonObject:
    if "const" in schema:
        schema = {**{name: value for name, value in schema.items() if name != "const"}, "enum": [schema["const"]]}
    if isinstance(alls := schema.get("allOf"), list) and len(alls) == 1 and isinstance(alls[0], dict):
        schema = {**alls[0], **{name: value for name, value in schema.items() if name != "allOf"}}
    if _GEMINI.issuperset(schema):
        return schema
    further = {name: value for name, value in schema.items() if name not in _GEMINI}
    for silent in ("$schema", "default", "examples", "definitions"):
        further.pop(silent, None)
    return _told({name: value for name, value in schema.items() if name in _GEMINI or name == "definitions"}, further)


def _refuse_recursion(schema: JsonObject) -> None:
    """Raise UnfitSchema where a definition leads to itself."""
    definitions = {f"#/{place}/{name}": one for place in ("$defs", "definitions")
                   for name, one in as_object(schema.get(place)).items()}  # fmt: skip
    leads_to = {name: set(_references(one)) for name, one in definitions.items()}
    leads_to["#"] = set(_references({name: value for name, value in schema.items() if name not in _NAMED[1:]}))
    for name, near in leads_to.items():
        seen: set[str] = set()
        ahead = set(near)
        while ahead:
            if name in ahead:
                raise UnfitSchema("a definition that contains itself")
            seen |= ahead
            ahead = {far for one in ahead for far in leads_to.get(one, ())} - seen


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
