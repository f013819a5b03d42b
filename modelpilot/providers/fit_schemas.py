"""Schemas of answers and of tools in the dialect that a model takes."""

from typing import Any

from modelpilot.providers.fields import ABSENT, Fitting
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects
from modelpilot.wire.schemas import UnfitSchema, claude_schema, gemini_schema, openai_schema, parameters_schema
from modelpilot.wire.support import NATIVE


def fit_response_format(fitting: Fitting, value: Any) -> None:
    """`response_format`, whose schema is fitted; types and combinations that the model lacks exclude it."""
    kind, manners = as_object(value).get("type"), fitting.manners
    if kind in (None, "text"):
        return
    if manners.response_formats is not None and kind not in manners.response_formats:
        fitting.say("response_format", "excluded", f"no {kind}")
    elif manners.tools_with_json is False and fitting.body.get("tools"):
        fitting.say("response_format", "excluded", "not beside tools")
    elif kind == "json_schema":
        _fit_answer_schema(fitting, as_object(value))


def _fit_answer_schema(fitting: Fitting, wanted: JsonObject) -> None:
    described = as_object(wanted.get("json_schema"))
    schema, dialect = described.get("schema"), fitting.manners.schema_dialect
    if not isinstance(schema, dict):
        return
    fitted, strict = schema, described.get("strict")
    try:
        if dialect == "claude":
            fitted = claude_schema(schema)
        elif dialect == "gemini":
            fitted = gemini_schema(schema)
        elif dialect == "openai" and strict is True:
            fitted, strict = openai_schema(schema)
    except UnfitSchema as error:
        fitting.say("response_format", "excluded", f"no {error}")
        return
    if fitted is not schema or strict is not described.get("strict"):
        rest = {**described, "schema": fitted, **({} if strict is None else {"strict": strict})}
        fitting.put("response_format", {**wanted, "json_schema": rest})
        said = "not strict, since the schema is not" if strict is not described.get("strict") else "the model's dialect"
        fitting.say("response_format", "translated", said)


def fit_tools(fitting: Fitting, value: Any) -> None:
    """The parameters of every tool, without what only Anthropic knows of one."""
    value = _without_natives(fitting, value)
    dialect = fitting.manners.schema_dialect
    if dialect in (None, "any") or fitting.content is not None:  # it always succeeds, and takes long
        return
    fitted = [_fitted_tool(tool, str(dialect)) if isinstance(tool, dict) else tool for tool in value]
    if dialect == "gemini" and any(as_object(tool.get("function")).get("strict") is True for tool in as_objects(value)):
        fitting.say("tools[].function.strict", "dropped", ABSENT)
    if any(new is not old for new, old in zip(fitted, value, strict=True)):
        fitting.put("tools", fitted)


def _without_natives(fitting: Fitting, tools: Any) -> Any:
    natives = [as_object(tool.get(NATIVE)) for tool in as_objects(tools)]
    if not any(natives) or fitting.manners.has(NATIVE):
        return tools
    bare = [{name: value for name, value in tool.items() if name != NATIVE} for tool in as_objects(tools)]
    fitting.put("tools", bare)
    for name in dict.fromkeys(name for native in natives for name in native):
        fitting.say(f"tools[].{name}", "dropped", ABSENT)
    return bare


def _fitted_tool(tool: JsonObject, dialect: str) -> JsonObject:
    function = tool.get("function")
    if not isinstance(function, dict) or (given := function.get("parameters")) is None:
        return tool
    fitted = gemini_schema(as_object(given)) if dialect == "gemini" else parameters_schema(given)
    changed: JsonObject = {} if fitted is given else {"parameters": fitted}
    if function.get("strict") is True and dialect != "gemini":
        changed |= _strict_parameters(fitted, dialect)
    return {**tool, "function": {**function, **changed}} if changed else tool


def _strict_parameters(schema: JsonObject, dialect: str) -> JsonObject:
    """A strict tool's parameters, closed; where the dialect cannot be strict about them, the tool is not."""
    try:
        closed, strict = (claude_schema(schema), True) if dialect == "claude" else openai_schema(schema)
    except UnfitSchema:
        strict = False
    return {"parameters": closed} if strict else {"strict": False}
