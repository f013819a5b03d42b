"""Agents whose calls are text, as in smolagents: code between `<code>` and `</code>`, and observations. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from simulator.request import OWN_ROLES, Called, Tool, Turn

_OBSERVED = "Observation:"
_CALLED = re.compile(r"'name': '([\w.-]+)'")
_RUN = re.compile(r"^(?:print\()?(\w+)\(", re.MULTILINE)
_TOOL = re.compile(r"^def (\w+)\((.*?)\) -> .*?:\n\s+\"\"\"(.*?)\n", re.MULTILINE)
_TYPES = {"integer": "integer", "number": "number", "boolean": "boolean", "array": "array", "object": "object"}


def wants_code(system: str) -> bool:
    """Whether the system prompt asks for code that ends in `final_answer`."""
    return "'<code>'" in system and "final_answer" in system


def translated(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return the turns with observations as results, and what the turn before says as their calls."""
    if not any(turn.role == "user" and turn.text.startswith(_OBSERVED) for turn in turns):
        return turns
    return tuple(_turn(turn) for turn in turns)


def _turn(turn: Turn) -> Turn:
    if turn.role in OWN_ROLES:
        names = _CALLED.findall(turn.text) if turn.text.startswith("Calling tools:") else _RUN.findall(turn.text)
        return replace(turn, calls=tuple(Called("", name) for name in names))
    if turn.role == "user" and turn.text.startswith(_OBSERVED):
        text = turn.text.removeprefix(_OBSERVED).partition("Last output from code snippet:")[0]
        shown = text.replace("Execution logs:", "").strip()
        return replace(turn, text="", results=(Called("", "", shown),))
    return turn


def tools_in(system: str) -> tuple[Tool, ...]:
    """Return the tools that a system prompt declares as Python functions."""
    found = (Tool(name, dict(_parameters(arguments)), about) for name, arguments, about in _TOOL.findall(system))
    return tuple(tool for tool in found if tool.name != "final_answer")


def _parameters(arguments: str) -> Iterator[tuple[str, Any]]:
    listed = [each.partition(":") for each in arguments.split(",") if ":" in each]
    properties = {name.strip(): {"type": _TYPES.get(kind.strip(), "string")} for name, _, kind in listed}
    yield from {"type": "object", "properties": properties, "required": list(properties)}.items()


def written(calls: list[tuple[str, Mapping[str, Any]]], answer: str) -> str:
    """Write the calls as code that prints what they return; without any, the final answer."""
    lines = [f"print({name}({_arguments(arguments)}))" for name, arguments in calls]
    thought = f"I will use {calls[0][0]}." if calls else "I know the answer."
    code = "\n".join(lines) or f"final_answer({_literal(answer)})"
    return f"Thought: {thought}\n<code>\n{code}\n</code>"


def _arguments(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_literal(value)}" for name, value in arguments.items())


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
