"""Reading an OpenAI body for the other wire formats, and what of its messages and tools they have nothing for."""

import re
from collections.abc import Iterator, Mapping

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects

# What of a Messages request only Anthropic knows: in a chat body, and in a tool of one. `BETAS` in it is the header.
NATIVE = "anthropic"
BETAS = "anthropic-beta"
_ANTHROPICS = re.compile(r"_20\d{6}$|^mcp_toolset$")


def anthropics_tools(body: JsonObject) -> Iterator[str]:
    """Tools that Anthropic runs itself or has taught its models."""
    for index, tool in enumerate(as_objects(body.get("tools"))):
        if is_anthropics(tool):
            yield f"tools[{index}].type"


def is_anthropics(tool: JsonObject) -> bool:
    """Whether the tool is one of Anthropic's own: their types end with a date."""
    return _ANTHROPICS.search(str(tool.get("type"))) is not None


def untranslatable_tools(body: JsonObject, *, anthropics: bool = False) -> Iterator[str]:
    """Tools and tool choices that are no functions: those exist at OpenAI only, or, where they are Anthropic's, there
    (`anthropics`)."""
    for index, tool in enumerate(as_objects(body.get("tools"))):
        if tool.get("type") != "function" and not (anthropics and is_anthropics(tool)):
            yield f"tools[{index}].type"
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") != "function":
        yield "tool_choice.type"


def untranslatable_messages(body: JsonObject) -> Iterator[str]:
    """What messages can hold at OpenAI only: spoken answers, and the calls that came before tools."""
    for index, message in enumerate(as_objects(body.get("messages"))):
        if message.get("role") == "function" or message.get("function_call"):
            yield f"messages[{index}].function_call"
        if (audio := as_object(message.get("audio"))) and "transcript" not in audio:
            yield f"messages[{index}].audio"
        for call in as_objects(message.get("tool_calls")):
            if "function" not in call:
                yield f"messages[{index}].tool_calls"


def json_schema_of(body: JsonObject) -> JsonObject | None:
    """The schema of `response_format: json_schema`, or None."""
    wanted = as_object(body.get("response_format"))
    if wanted.get("type") != "json_schema":
        return None
    return as_object(as_object(wanted.get("json_schema")).get("schema"))


def output_limit(body: JsonObject) -> int | None:
    """The most tokens the client wants, under either of its two names."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return limit if isinstance(limit, int) else None


def choice_count(body: JsonObject) -> int:
    """How many choices the client wants (`n`)."""
    wanted = body.get("n")
    return wanted if isinstance(wanted, int) and wanted > 0 else 1


def stop_sequences(body: JsonObject) -> list[str]:
    """`stop` as a list."""
    stop = body.get("stop")
    return [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []


# Effort → thinking tokens, as Google's own OpenAI-compatible endpoint maps them; None leaves thinking off.
THINKING_BUDGETS: Mapping[str, int | None] = {
    "none": None,
    "minimal": 1_024,
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 32_768,
}


def nearest_effort(budget: int) -> str:
    """Of low, medium and high the effort whose thinking budget is nearest."""
    return min(("low", "medium", "high"), key=lambda effort: abs((THINKING_BUDGETS[effort] or 0) - budget))


def reasoning_effort(body: JsonObject) -> str | None:
    """The asked-for effort in lower case, also in OpenRouter's spelling (`reasoning.effort`)."""
    effort = body.get("reasoning_effort") or as_object(body.get("reasoning")).get("effort")
    return effort.lower() if isinstance(effort, str) else None
