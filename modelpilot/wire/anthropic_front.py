"""A request in Anthropic's Messages format as an OpenAI chat body, for clients that speak Anthropic's format to us.

What the chat body cannot say is refused and named, never dropped; only what changes no answer (caching hints, say) is
left out.
"""

from typing import Any

from modelpilot.errors import InvalidRequest
from modelpilot.wire.anthropic_front_blocks import chat_messages, checked, refuse, refuse_others, text_block
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects
from modelpilot.wire.support import THINKING_BUDGETS

_KNOWN = frozenset(
    {"model", "max_tokens", "messages", "system", "stream", "tools", "tool_choice", "stop_sequences", "temperature"}
    | {"top_p", "top_k", "metadata", "thinking", "output_config", "service_tier", "modelpilot"}
    | {"cache_control"}  # where to cache: the answer is the same
)
_TOOL_KNOWN = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control", "eager_input_streaming"}
)
_AS_IT_IS = ("model", "stream", "temperature", "top_p", "top_k", "modelpilot")
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# OpenAI has no "max"; this is the most it knows.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}


def chat_request_of(body: JsonObject) -> JsonObject:
    """The OpenAI chat body that says what the Messages `body` says (already checked as a `MessagesBody`).

    Raises InvalidRequest, whose `param` names what has no counterpart.
    """
    refuse_others(body, _KNOWN, "")
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(as_objects(body.get("tools")))]
    request: JsonObject = {
        **{name: body.get(name) for name in _AS_IT_IS},
        "messages": [*_system(body.get("system")), *chat_messages(as_objects(body["messages"]))],
        # Not `max_tokens`: OpenAI's reasoning models refuse that name.
        "max_completion_tokens": body["max_tokens"],
        "stop": body.get("stop_sequences") or None,
        "tools": tools or None,
        "user": _user(body.get("metadata")),
        "reasoning_effort": _effort(body),
        "response_format": _response_format(as_object(body.get("output_config"))),
        "service_tier": "default" if body.get("service_tier") == "standard_only" else None,
        **(_tool_choice(as_object(body.get("tool_choice"))) if tools else {}),
    }
    return {name: value for name, value in request.items() if value is not None}


def wants_thinking(body: JsonObject) -> bool:
    """Whether the client asked to see how the model thinks."""
    return as_object(body.get("thinking")).get("type") in ("enabled", "adaptive")


def _system(system: Any) -> list[JsonObject]:
    if not isinstance(system, list):
        return [{"role": "system", "content": system}] if system else []
    parts = [text_block(block, f"system[{index}]") for index, block in enumerate(as_objects(system))]
    return [{"role": "system", "content": parts}] if parts else []


def _tool(tool: JsonObject, place: str) -> JsonObject:
    if tool.get("type") not in (None, "custom"):
        raise refuse(f"{place}.type", "tools that Anthropic runs itself cannot be routed")
    refuse_others(tool, _TOOL_KNOWN, f"{place}.")
    function = {
        "name": checked(tool, "name", str, place),
        "description": tool.get("description"),
        "parameters": checked(tool, "input_schema", dict, place),
        "strict": tool.get("strict"),
    }
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def _tool_choice(choice: JsonObject) -> JsonObject:
    if not choice:
        return {}
    kind = choice.get("type")
    if kind == "tool":
        name = checked(choice, "name", str, "tool_choice")
        wanted: Any = {"type": "function", "function": {"name": name}}
    elif kind in _TOOL_CHOICES:
        wanted = _TOOL_CHOICES[kind]
    else:
        raise refuse("tool_choice.type", "auto, any, tool or none was expected")
    return {"tool_choice": wanted, "parallel_tool_calls": False if choice.get("disable_parallel_tool_use") else None}


def _user(metadata: Any) -> str | None:
    fields = as_object(metadata)
    refuse_others(fields, {"user_id"}, "metadata.")
    return None if fields.get("user_id") is None else str(checked(fields, "user_id", str, "metadata"))


def _effort(body: JsonObject) -> str | None:
    """The named effort, else the one whose thinking budget comes nearest to the client's."""
    thinking, config = as_object(body.get("thinking")), as_object(body.get("output_config"))
    named, kind = config.get("effort"), thinking.get("type")
    if named is not None and named not in _EFFORTS:
        raise refuse("output_config.effort", f"one of {', '.join(_EFFORTS)} was expected")
    if thinking and kind not in ("enabled", "adaptive", "disabled"):
        raise refuse("thinking.type", "enabled, adaptive or disabled was expected")
    if kind != "enabled":
        return _EFFORTS[named] if named else "high" if kind == "adaptive" else None  # Anthropic's own default
    budget = checked(thinking, "budget_tokens", int, "thinking")
    budgets = {effort: tokens for effort, tokens in THINKING_BUDGETS.items() if effort in ("low", "medium", "high")}
    return _EFFORTS[named] if named else min(budgets, key=lambda effort: abs((budgets[effort] or 0) - budget))


def _response_format(config: JsonObject) -> JsonObject | None:
    refuse_others(config, {"effort", "format"}, "output_config.")
    wanted = config.get("format")
    if wanted is None:
        return None
    if as_object(wanted).get("type") != "json_schema":
        raise InvalidRequest("output_config.format.type: json_schema was expected", param="output_config.format.type")
    schema = checked(as_object(wanted), "schema", dict, "output_config.format")
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": schema, "strict": True}}
