"""What the real providers refuse in any request: roles, tools, choices, numbers out of range, calls without results and
results without calls. In their own words, each in its dialect. Pure.

Sources: the providers' API references, and the errors that their users report. `strict` has what some servers refuse.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulator import request as fields
from simulator.faults import SimError
from simulator.request import Tool, Turn

Json = Mapping[str, Any]

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_GEMINI_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_OPENAI_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_CHOICES = ("none", "auto", "required")
_FORMATS = ("json_object", "json_schema", "text")


def refused(message: str, param: str | None = None, code: str | None = None) -> SimError:
    """A 400 with the provider's words."""
    return SimError(400, message, code, param)


def _repeated(names: Sequence[str]) -> str | None:
    return None if len(set(names)) == len(names) else Counter(names).most_common(1)[0][0]


# --- OpenAI's format


def openai(body: Json, turns: Sequence[Turn], tools: Sequence[Tool]) -> None:
    """Raise `SimError` for what OpenAI refuses in a chat completion request."""
    for at, turn in enumerate(turns):
        if turn.role not in _OPENAI_ROLES:
            raise refused(_one_of(turn.role, _OPENAI_ROLES), f"messages[{at}].role", "invalid_value")
    _openai_pairs(turns)
    for name, most in (("temperature", 2), ("top_p", 1)):
        _openai_decimal(body, name, 0, most)
    for name in ("presence_penalty", "frequency_penalty"):
        _openai_decimal(body, name, -2, 2)
    _openai_tools(body, tools)
    wanted = fields.mapping(body.get("response_format"), "response_format")
    if body.get("response_format") is not None and wanted.get("type") not in _FORMATS:
        raise refused(_one_of(wanted.get("type"), _FORMATS), "response_format.type", "invalid_value")
    if wanted.get("type") == "json_schema" and not wanted.get("json_schema"):
        param = "response_format.json_schema"
        raise refused(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _one_of(value: Any, options: Sequence[str]) -> str:
    listed = ", ".join(f"'{option}'" for option in options[:-1])
    return f"Invalid value: '{value}'. Supported values are: {listed}, and '{options[-1]}'."


def _openai_pairs(turns: Sequence[Turn]) -> None:
    open_ids: list[str] = []
    for at, turn in enumerate(turns):
        if turn.role == "tool":
            (result,) = turn.results
            if result.id not in open_ids:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
                raise refused(f"Invalid parameter: {text}.", f"messages[{at}].role")
            open_ids.remove(result.id)
            continue
        _openai_answered(open_ids, at)
        open_ids = [call.id for call in turn.calls]
    _openai_answered(open_ids, len(turns))


def _openai_answered(open_ids: Sequence[str], at: int) -> None:
    if open_ids:
        text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        missing = f"The following tool_call_ids did not have response messages: {', '.join(open_ids)}"
        raise refused(f"{text}'tool_call_id'. {missing}", f"messages[{at}].role")


def _openai_decimal(body: Json, name: str, least: int, most: int) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        kind = f"expected a decimal, but got a {type(value).__name__} instead"
        raise refused(f"Invalid type for '{name}': {kind}.", name, "invalid_type")
    if value > most:
        text = f"decimal above maximum value. Expected a value <= {most}, but got {value} instead"
        raise refused(f"Invalid '{name}': {text}.", name, "decimal_above_max_value")
    if not value >= least:
        text = f"decimal below minimum value. Expected a value >= {least}, but got {value} instead"
        raise refused(f"Invalid '{name}': {text}.", name, "decimal_below_min_value")


def _openai_tools(body: Json, tools: Sequence[Tool]) -> None:
    names = [tool.name for tool in tools]
    for at, name in enumerate(names):
        place = f"tools[{at}].function.name"
        if len(name) > 64:
            text = (
                f"string too long. Expected a string with maximum length 64, but got a string with length {len(name)}"
            )
            raise refused(f"Invalid '{place}': {text} instead.", place, "string_above_max_length")
        if not _NAME.fullmatch(name):
            text = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'"
            raise refused(f"Invalid '{place}': {text}.", place, "invalid_value")
    if (twice := _repeated(names)) is not None:
        raise refused(f"Invalid 'tools': the function name '{twice}' is not unique.", "tools", "invalid_value")
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not body.get("tools"):
        text = "'tool_choice' is only allowed when 'tools' are specified"
        raise refused(f"Invalid value for 'tool_choice': {text}.", "tool_choice")
    if isinstance(choice, Mapping):
        wanted = fields.mapping(choice.get("function"), "tool_choice.function").get("name")
        if choice.get("type", "function") == "function" and wanted not in names:
            raise refused(f"Tool choice '{wanted}' not found in 'tools' parameter.", "tool_choice")
    elif choice not in _CHOICES:
        raise refused(_one_of(choice, _CHOICES), "tool_choice", "invalid_value")


# --- Anthropic's format


def anthropic(body: Json, turns: Sequence[Turn], tools: Sequence[Tool]) -> None:
    """Raise `SimError` for what Anthropic refuses in a messages request."""
    for at, turn in enumerate(turns):
        # Claude takes instructions behind a user's turn since Opus 4.8; Claude Code sends them.
        if turn.role == "system" and (not at or turns[at - 1].role == "assistant"):
            text = 'The Messages API accepts a top-level `system` parameter, not "system" as an input message role.'
            raise refused(f'messages: Unexpected role "system". {text}')
        if turn.role not in ("user", "assistant", "system"):
            raise refused(f"messages.{at}.role: Input should be 'user' or 'assistant'")
    _anthropic_pairs(turns)
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise refused(f"{name}: Input should be a valid number")
        if value is not None and not 0 <= value <= 1:
            raise refused(f"{name}: range: 0..1")
    names = [tool.name for tool in tools]
    for at, name in enumerate(names):
        if not _NAME.fullmatch(name) or len(name) > 128:
            raise refused(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if _repeated(names) is not None:
        raise refused("tools: Tool names must be unique.")
    _anthropic_choice(body, names)


def _anthropic_pairs(turns: Sequence[Turn]) -> None:
    """Calls and their results stand in neighbouring turns; turns of one speaker in a row count as one."""
    open_ids: list[str] = []
    for at, turn in enumerate(turns):
        for result in turn.results:
            if result.id not in open_ids:
                text = "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                place = f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks"
                raise refused(f"{place}: {result.id}. {text}")
            open_ids.remove(result.id)
        ends = at + 1 == len(turns) or turns[at + 1].role != turn.role
        if turn.role == "assistant":
            open_ids += [call.id for call in turn.calls]
        elif ends:
            _anthropic_answered(open_ids, at - 1)
    _anthropic_answered(open_ids, len(turns) - 1)


def _anthropic_answered(open_ids: Sequence[str], at: int) -> None:
    if open_ids:
        text = "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        found = f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after"
        raise refused(f"{found}: {', '.join(open_ids)}. {text}")


def _anthropic_choice(body: Json, names: Sequence[str]) -> None:
    choice = fields.mapping(body.get("tool_choice"), "tool_choice")
    if not choice:
        return
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        tags = "does not match any of the expected tags: 'auto', 'any', 'tool', 'none'"
        raise refused(f"tool_choice: Input tag '{kind}' found using 'type' {tags}")
    if not body.get("tools"):
        raise refused("tool_choice: may only be specified while providing tools")
    if kind == "tool" and choice.get("name") not in names:
        raise refused(f"Tool '{choice.get('name')}' not found in provided tools")


# --- Gemini's format

_RESPONSES = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of "
)


def gemini(body: Json, turns: Sequence[Turn], tools: Sequence[Tool]) -> None:
    """Raise `SimError` for what Gemini refuses in a generateContent request."""
    for turn in turns:
        if turn.role not in ("user", "model", "function"):
            raise refused("Please use a valid role: user, model.")
    _gemini_pairs(turns)
    config = fields.mapping(body.get("generationConfig"), "generationConfig")
    for name, most in (("temperature", 2), ("topP", 1)):
        value = config.get(name)
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise refused(f"Invalid value at 'generation_config.{name}' (TYPE_FLOAT)", f"generation_config.{name}")
        if value is not None and not 0 <= value <= most:
            place = f"GenerateContentRequest.generation_config.{name}"
            raise refused(f"* {place}: {name} must be in the range [0.0, {most}.0].", place)
    names = [tool.name for tool in tools]
    for at, name in enumerate(names):
        if not _GEMINI_NAME.fullmatch(name):
            text = (
                "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), "
            )
            more = "underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
            raise refused(f"* GenerateContentRequest.tools[0].function_declarations[{at}].name: {text}{more}", "tools")
    if (twice := _repeated(names)) is not None:
        raise refused(f"Duplicate function declaration found: {twice}", "tools")
    _gemini_choice(body, names)


def _gemini_pairs(turns: Sequence[Turn]) -> None:
    """Responses stand right behind their calls, as many of them; a call at the end waits for its response."""
    waiting = 0
    for last, group in _grouped(turns):
        calls, responses = sum(len(turn.calls) for turn in group), sum(len(turn.results) for turn in group)
        if responses and not waiting:
            raise refused("Please ensure that function response turn comes immediately after a function call turn.")
        if responses != waiting or (calls and last):
            raise refused(f"{_RESPONSES}the function call turn.")
        waiting = calls


def _grouped(turns: Sequence[Turn]) -> Iterator[tuple[bool, list[Turn]]]:
    """Turns of one speaker in a row, each group with whether it is the last."""
    group: list[Turn] = []
    for turn in turns:
        if group and (group[-1].role == "model") != (turn.role == "model"):
            yield False, group
            group = []
        group.append(turn)
    yield True, group


def _gemini_choice(body: Json, names: Sequence[str]) -> None:
    config = fields.mapping(body.get("toolConfig"), "toolConfig").get("functionCallingConfig")
    calling = fields.mapping(config, "functionCallingConfig")
    place = "GenerateContentRequest.tool_config.function_calling_config"
    mode = str(calling.get("mode") or "AUTO").upper()
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        raise refused(f"Invalid value at 'tool_config.function_calling_config.mode': \"{mode}\"", place)
    allowed = fields.strings(calling.get("allowedFunctionNames"), "allowedFunctionNames")
    if calling and not names:
        raise refused(f"* {place}: Function calling config is set without function_declarations.", place)
    if unknown := [name for name in allowed if name not in names]:
        raise refused(f"* {place}.allowed_function_names: {unknown[0]} is not among the function_declarations.", place)
