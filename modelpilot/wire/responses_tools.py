"""The tools of a Responses request as chat functions, and back: which of them a model's call means.

Tools that the client carries out itself (functions, also in namespaces; custom tools with free text; the local shell; a
search of its own) become functions. Tools that only OpenAI carries out are refused; a web search that is merely offered
beside other tools, as coding agents do by default, is left out, and the answer says so.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modelpilot.errors import InvalidRequest
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, object_of, required

Kind = Literal["function", "custom", "local_shell", "tool_search"]

LOCAL_SHELL, TOOL_SEARCH = "local_shell", "tool_search"
_MAX_NAME = 64  # OpenAI's limit
_OFFERED = ("web_search", "tool_search")  # and their dated names
_SHELL_PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments"},
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["command"],
}


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that the client carries out, as it calls it."""

    kind: Kind
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Toolbox:
    """`functions` are the chat body's tools, `by_name` the client's own by the functions' names; `left_out` says which
    fields were left out and why."""

    functions: list[JsonObject] = field(default_factory=list)
    by_name: dict[str, ClientTool] = field(default_factory=dict)
    left_out: list[JsonObject] = field(default_factory=list)


def function_name(name: str, namespace: Any = None) -> str:
    """The chat function's name of a tool, the same in every request."""
    if not isinstance(namespace, str) or not namespace:
        return name
    full = f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
    if len(full) <= _MAX_NAME:
        return full
    return f"{full[: _MAX_NAME - 9]}_{hashlib.sha256(full.encode('utf-8', 'replace')).hexdigest()[:8]}"


def toolbox_of(tools: Any, items: Sequence[JsonObject] = ()) -> Toolbox:
    """The tools of a request, with those that its input `items` add. Raises InvalidRequest."""
    box, offered = Toolbox(), []
    for place, tool in _all_tools(tools, items):
        if _is_offered(tool):
            offered.append((place, tool))
        else:
            _add(box, tool, place, None)
    for place, tool in offered:
        if not box.functions:
            raise _hosted(tool, place)
        reason = f"{tool['type']} runs at OpenAI; the model was not offered it, only the other tools"
        box.left_out.append({"field": place, "action": "dropped", "reason": reason})
    return box


def _all_tools(tools: Any, items: Sequence[JsonObject]) -> Iterator[tuple[str, JsonObject]]:
    for index, tool in enumerate(as_objects(tools)):
        yield f"tools[{index}]", tool
    for index, item in enumerate(items):
        if item.get("type") in ("additional_tools", "tool_search_output"):
            for inner, tool in enumerate(as_objects(item.get("tools"))):
                yield f"input[{index}].tools[{inner}]", tool


def _is_offered(tool: JsonObject) -> bool:
    kind = str(tool.get("type"))
    return kind.startswith(_OFFERED) and not (kind == TOOL_SEARCH and tool.get("execution") == "client")


def _hosted(tool: JsonObject, place: str) -> InvalidRequest:
    kind = str(tool.get("type"))[:60]
    return InvalidRequest.at(
        f"{place}.type", f"tools of type {kind!r} run at OpenAI, and no model here has them; give a function"
    )


def _add(box: Toolbox, tool: JsonObject, place: str, namespace: str | None) -> None:
    match tool.get("type"):
        case "namespace":
            inner = required(tool, "name", str, place)
            for index, each in enumerate(as_objects(tool.get("tools"))):
                _add(box, each, f"{place}.tools[{index}]", inner)
        case "function" | "custom" as kind:
            name = required(tool, "name", str, place)
            function = _function(tool) if kind == "function" else _custom(tool)
            _put(box, ClientTool(kind, name, namespace), function, place)
        case "local_shell":
            told = {"description": "Run a command on the user's machine.", "parameters": _SHELL_PARAMETERS}
            _put(box, ClientTool("local_shell", LOCAL_SHELL), told, place)
        case "tool_search":
            _put(box, ClientTool("tool_search", TOOL_SEARCH), _function(tool), place)
        case _:
            raise _hosted(tool, place)


def _put(box: Toolbox, tool: ClientTool, function: JsonObject, place: str) -> None:
    name = function_name(tool.name, tool.namespace)
    if name in box.by_name:
        if place.startswith("input"):
            return  # what was found once may be found again
        raise InvalidRequest.at(f"{place}.name", f"there are two tools of the name {name!r}")
    box.by_name[name] = tool
    function = {key: value for key, value in function.items() if value is not None}
    box.functions.append({"type": "function", "function": {"name": name, **function}})


def _function(tool: JsonObject) -> JsonObject:
    return {key: tool.get(key) for key in ("description", "parameters", "strict")}


def _custom(tool: JsonObject) -> JsonObject:
    """Free text as the one argument of a function. No other model is held to a grammar, so it is told of it."""
    told, wanted = str(tool.get("description") or ""), as_object(tool.get("format"))
    if wanted.get("type") == "grammar":
        told += f"\n\nThe input must match this grammar ({wanted.get('syntax')}):\n{wanted.get('definition')}"
    parameters = {
        "type": "object",
        "properties": {"input": {"type": "string", "description": "The whole input of the tool, as plain text"}},
        "required": ["input"],
        "additionalProperties": False,
    }
    return {"description": told.strip() or None, "parameters": parameters}


def custom_input(arguments: str) -> str:
    """The free text in the arguments of a custom tool's function."""
    found = object_of(arguments, "input").get("input", arguments)
    return found if isinstance(found, str) else arguments


def choose(box: Toolbox, choice: Any) -> tuple[list[JsonObject], Any]:
    """The chat body's `tools` and `tool_choice` for a Responses `tool_choice`. Raises InvalidRequest."""
    if choice is None or isinstance(choice, str):
        if choice not in (None, "auto", "none", "required"):
            raise InvalidRequest.at("tool_choice", "auto, none, required or an object was expected")
        return box.functions, choice if box.functions else None
    wanted = as_object(choice)
    if wanted.get("type") == "allowed_tools":
        return _allowed(box, wanted)
    return box.functions, {"type": "function", "function": {"name": _chosen(box, wanted, "tool_choice")}}


def _allowed(box: Toolbox, wanted: JsonObject) -> tuple[list[JsonObject], Any]:
    mode = wanted.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise InvalidRequest.at("tool_choice.mode", "auto or required was expected")
    names = {
        _chosen(box, tool, f"tool_choice.tools[{index}]") for index, tool in enumerate(as_objects(wanted.get("tools")))
    }
    functions = [function for function in box.functions if function["function"]["name"] in names]
    return functions, mode if functions else None


def _chosen(box: Toolbox, tool: JsonObject, place: str) -> str:
    kind = tool.get("type")
    if kind in (LOCAL_SHELL, TOOL_SEARCH):
        name = str(kind)
    elif kind in ("function", "custom"):
        name = function_name(required(tool, "name", str, place), tool.get("namespace"))
    else:
        raise _hosted(tool, place)
    if name not in box.by_name:
        raise InvalidRequest.at(place, f"{name[:80]!r} is not among the tools")
    return name
