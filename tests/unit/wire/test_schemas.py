"""JSON Schemas in the dialects of the providers."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelpilot.wire.schemas import UnfitSchema, claude_schema, gemini_schema, openai_schema, parameters_schema

TEXT = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object of these properties and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "fitted"),
    [
        (closed(a=TEXT), closed(a=TEXT)),
        ({"type": "object", "properties": {"a": TEXT}}, closed(a=TEXT)),
        ({"type": "object", "properties": {"a": TEXT}, "additionalProperties": True}, closed(a=TEXT)),
        ({"type": "integer", "minimum": 0}, {"type": "integer", "description": "{minimum: 0}"}),
        (
            {"type": "string", "minLength": 2, "format": "zip", "description": "A code."},
            {"type": "string", "description": "A code.\n\n{minLength: 2, format: zip}"},
        ),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "array", "items": TEXT, "minItems": 1}, {"type": "array", "items": TEXT, "minItems": 1}),
        (
            {
                "type": "array",
                "items": {"type": "object", "properties": {}, "additionalProperties": False},
                "maxItems": 3,
            },
            {"type": "array", "items": closed(), "description": "{maxItems: 3}"},
        ),
        (
            {"oneOf": [TEXT, {"type": "number", "maximum": 1}]},
            {"anyOf": [TEXT, {"type": "number", "description": "{maximum: 1}"}]},
        ),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"b": TEXT}}}},
            {"$ref": "#/$defs/A", "$defs": {"A": closed(b=TEXT)}},
        ),
        ({**closed(a=TEXT), "$schema": "https://json-schema.org/draft/2020-12/schema"}, closed(a=TEXT)),
    ],
)
def test_claude(schema: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Objects are closed, and bounds are told in the description."""
    assert claude_schema(schema) == fitted


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": TEXT},
        {"$ref": "#/$defs/A", "$defs": {"A": closed(next={"$ref": "#/$defs/A"})}},
        closed(next={"$ref": "#"}),
        {"$ref": "#/$defs/A", "$defs": {"A": closed(b={"$ref": "#/$defs/B"}), "B": closed(a={"$ref": "#/$defs/A"})}},
    ],
)
def test_what_claude_cannot_say(schema: dict[str, Any]) -> None:
    """Maps of any keys, and definitions that contain themselves."""
    with pytest.raises(UnfitSchema):
        claude_schema(schema)


@pytest.mark.parametrize(
    ("schema", "fitted"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 9}, {"type": "integer", "minimum": 0, "maximum": 9}),
        ({"const": "x"}, {"enum": ["x"]}),
        ({"allOf": [TEXT], "title": "T"}, {"type": "string", "title": "T"}),
        ({"type": "string", "pattern": "^a", "default": "a"}, {"type": "string", "description": "{pattern: ^a}"}),
        (
            {"type": "object", "$schema": "x", "properties": {"a": {"const": 1}}},
            {"type": "object", "properties": {"a": {"enum": [1]}}},
        ),
    ],
)
def test_gemini(schema: dict[str, Any], fitted: dict[str, Any]) -> None:
    """Bounds are known; constants become enumerations."""
    assert gemini_schema(schema) == fitted


@pytest.mark.parametrize(
    ("schema", "fitted", "strict"),
    [
        ({"type": "object", "properties": {"a": TEXT}, "required": ["a"]}, {**closed(a=TEXT), "required": ["a"]}, True),
        (closed(a=TEXT), closed(a=TEXT), False),
        ({"type": "object"}, {"type": "object"}, False),
        ({**closed(), "oneOf": []}, {**closed(), "oneOf": []}, False),
    ],
)
def test_openai(schema: dict[str, Any], fitted: dict[str, Any], strict: bool) -> None:
    """Strictness needs closed objects whose properties are all required."""
    assert openai_schema(schema) == (fitted, strict)


@pytest.mark.parametrize(
    ("schema", "fitted"),
    [
        (closed(a=TEXT), closed(a=TEXT)),
        ({}, {"type": "object", "properties": {}}),
        (None, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        (
            {"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
            {
                "type": "object",
                "properties": {"a": {}, "b": {}},
                "description": '{anyOf: [{"properties":{"a":{}}},{"properties":{"b":{}}}]}',
            },
        ),
    ],
)
def test_parameters(schema: Any, fitted: dict[str, Any]) -> None:
    """There is an object on top, and nothing that combines."""
    assert parameters_schema(schema) == fitted


WORDS = [
    "type",
    "properties",
    "items",
    "anyOf",
    "allOf",
    "oneOf",
    "required",
    "enum",
    "$ref",
    "$defs",
    "const",
    "format",
]
VALUES = st.recursive(
    st.sampled_from([None, True, 1, "object", "string", "#/$defs/a", "a", ["a", {}]]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*WORDS, "additionalProperties", "minItems", "description", "a"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=5))
@example({"properties": {"a": {}}, "required": 1})
@example({"type": ["object"], "properties": {"a": 1}, "required": [{}]})
def test_what_is_no_schema_breaks_nothing(schema: dict[str, Any]) -> None:
    """Whatever a client sends as a schema is fitted, or refused as unfit."""
    for fit in (claude_schema, gemini_schema, openai_schema, parameters_schema):
        try:
            fit(schema)
        except UnfitSchema:
            assert fit is claude_schema
