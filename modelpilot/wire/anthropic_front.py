"""A request in Anthropic's Messages format as an OpenAI chat body, for clients that speak Anthropic's format to us.

`MessagesBody` is checked where the translation relies on it. What the chat body cannot say is refused and named, never
dropped; marks for caches keep their name (`cache_marks`).
"""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelpilot.chat.body import MAX_MESSAGES, Objects, RequestOptions
from modelpilot.errors import InvalidRequest
from modelpilot.wire.cache_marks import MARK, bare, mark_of, marked
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump, required
from modelpilot.wire.support import BETAS, NATIVE, nearest_effort
from modelpilot.wire.thinking import placed, signed


def _refuse_others(fields: JsonObject, known: Collection[str], prefix: str) -> None:
    """Raise InvalidRequest for the first field that is set and not `known`."""
    for name, value in fields.items():
        if name not in known and value is not None:
            raise InvalidRequest.at(
                f"{prefix}{name}", "this field has no counterpart for the models behind this gateway"
            )


def _text_block(block: JsonObject, place: str) -> JsonObject:
    """A text block as a text part. Raises InvalidRequest for any other block."""
    if block.get("type") != "text":
        raise InvalidRequest.at(f"{place}.type", "only text is possible here")
    return marked({"type": "text", "text": required(block, "text", str, place)}, mark_of(block))


def _chat_messages(turns: list[JsonObject]) -> list[JsonObject]:
    """All turns. Results of tools become messages of their own, before the rest of their turn."""
    messages: list[JsonObject] = []
    for index, turn in enumerate(turns):
        content, place = turn.get("content"), f"messages[{index}].content"
        if isinstance(content, str):
            messages.append({"role": turn["role"], "content": content})
        elif turn["role"] == "system":
            messages += _system(content, place)
        elif turn["role"] == "assistant":
            messages.append(_assistant(as_objects(content), place))
        else:
            messages += _user(as_objects(content), place)
    return messages


def _user(blocks: list[JsonObject], place: str) -> list[JsonObject]:
    results: list[JsonObject] = []
    parts: list[JsonObject] = []
    for index, block in enumerate(blocks):
        here = f"{place}[{index}]"
        if block.get("type") == "tool_result":
            results.append(_tool_result(block, here))
        else:
            parts.append(_part(block, here))
    return [*results, {"role": "user", "content": parts or ""}] if parts or not results else results


def _tool_result(block: JsonObject, place: str) -> JsonObject:
    """The tool's message; its images stay in it, for the providers that take them there."""
    content = block.get("content")
    inner = [{"type": "text", "text": content}] if isinstance(content, str) else as_objects(content)
    parts = [_part(bare(item), f"{place}.content[{index}]") for index, item in enumerate(inner)]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if block.get("is_error"):
        text = f"Error: {text}"  # OpenAI has no flag for it
    mark = mark_of(block) or next((mark for item in reversed(inner) if (mark := mark_of(item))), None)
    media = [part for part in parts if part["type"] != "text"]
    message = {
        "role": "tool",
        "tool_call_id": required(block, "tool_use_id", str, place),
        "content": [{"type": "text", "text": text}, *media] if media else text,
    }
    return marked(message, mark)


def _part(block: JsonObject, place: str) -> JsonObject:
    match block.get("type"):
        case "text":
            return _text_block(block, place)
        case "image":
            image = {"url": _image_url(as_object(block.get("source")), place)}
            return marked({"type": "image_url", "image_url": image}, mark_of(block))
        case "document":
            return marked(_document(block, place), mark_of(block))
    raise InvalidRequest.at(f"{place}.type", f"blocks of type {block.get('type')!r} cannot be routed")


def _image_url(source: JsonObject, place: str) -> str:
    place = f"{place}.source"
    if source.get("type") == "url":
        return required(source, "url", str, place)
    if source.get("type") == "base64":
        return _data_url(source, place)
    raise InvalidRequest.at(f"{place}.type", "base64 or url was expected")


def _document(block: JsonObject, place: str) -> JsonObject:
    source, here = as_object(block.get("source")), f"{place}.source"
    if as_object(block.get("citations")).get("enabled"):
        raise InvalidRequest.at(f"{place}.citations", "citations cannot be routed")
    if source.get("type") == "text":
        return {"type": "text", "text": required(source, "data", str, here)}
    if source.get("type") not in ("base64", "url"):
        raise InvalidRequest.at(f"{here}.type", "base64, url or text was expected")
    name = block.get("title") or "document.pdf"
    data = required(source, "url", str, here) if source["type"] == "url" else _data_url(source, here)
    return {"type": "file", "file": {"filename": str(name), "file_data": data}}


def _data_url(source: JsonObject, place: str) -> str:
    media_type, data = required(source, "media_type", str, place), required(source, "data", str, place)
    return f"data:{media_type};base64,{data}"


def _assistant(blocks: list[JsonObject], place: str) -> JsonObject:
    parts: list[JsonObject] = []
    calls: list[JsonObject] = []
    thinking: list[JsonObject] = []
    for index, block in enumerate(blocks):
        here = f"{place}[{index}]"
        match block.get("type"):
            case "tool_use":
                calls.append(_tool_call(block, here))
            case "thinking" | "redacted_thinking":
                characters = sum(len(part["text"]) for part in parts)
                thinking.append(placed(block, len(thinking), characters, len(calls)))
            case _:
                parts.append(_text_block(block, here))
    message = {
        "role": "assistant",
        "content": _assistant_content(parts),
        "tool_calls": calls,
        # Thinking without a signature came from a model that makes none: it goes where its text is wanted.
        "reasoning_content": "".join(str(block.get("thinking") or "") for block in thinking),
        "thinking_blocks": signed(thinking),
    }
    return {key: value for key, value in message.items() if value or key in ("role", "content")}


def _assistant_content(parts: list[JsonObject]) -> Any:
    # One text as a plain string: not every server that speaks OpenAI's format takes an assistant's parts.
    return parts[0]["text"] if len(parts) == 1 and MARK not in parts[0] else parts or None


def _tool_call(block: JsonObject, place: str) -> JsonObject:
    arguments = dump(required(block, "input", dict, place)).decode()
    function = {"name": required(block, "name", str, place), "arguments": arguments}
    call = {"id": required(block, "id", str, place), "type": "function", "function": function}
    extra = {"extra_content": block["extra_content"]} if block.get("extra_content") else {}
    return marked({**call, **extra}, mark_of(block))


_KNOWN = frozenset(
    {"model", "max_tokens", "messages", "system", "stream", "tools", "tool_choice", "stop_sequences", "temperature"}
    | {"top_p", "top_k", "metadata", "thinking", "output_config", "service_tier", "modelpilot", "container"}
    | {"mcp_servers", MARK}
)
_CONFIG_KNOWN = frozenset({"effort", "format"})
_ITS_OWN = ("container", "mcp_servers")
_TOOL_KNOWN = frozenset({"type", "name", "description", "input_schema", "strict", MARK})
_AS_IT_IS = ("model", "stream", "temperature", "top_p", "top_k", "modelpilot", MARK)
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# OpenAI has no "max"; this is the most it knows.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}


def chat_request_of(body: JsonObject, betas: str = "") -> JsonObject:
    """The OpenAI chat body that says what the Messages `body` says (already checked as a `MessagesBody`).

    Fields that only Anthropic knows, and the features that its header asks for (`betas`), are in one field of their own
    (`NATIVE`), which reaches Anthropic and nobody else.

    Raises InvalidRequest, whose `param` names what has no counterpart.
    """
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(as_objects(body.get("tools")))]
    request: JsonObject = {
        **{name: body.get(name) for name in _AS_IT_IS},
        "messages": [*_system(body.get("system")), *_chat_messages(as_objects(body["messages"]))],
        # Not `max_tokens`: OpenAI's reasoning models refuse that name.
        "max_completion_tokens": body["max_tokens"],
        "stop": body.get("stop_sequences") or None,
        "tools": tools or None,
        "user": _user_name(body.get("metadata")),
        "reasoning_effort": _effort(body),
        # The budget itself, for the providers that take one; to the others the effort says it.
        "thinking": body["thinking"] if as_object(body.get("thinking")).get("type") == "enabled" else None,
        "response_format": _response_format(as_object(body.get("output_config"))),
        "service_tier": "default" if body.get("service_tier") == "standard_only" else None,
        **(_tool_choice(as_object(body.get("tool_choice"))) if tools else {}),
        # With a meaning that only Anthropic's own servers have.
        **{name: body.get(name) for name in _ITS_OWN},
        NATIVE: _native(body, betas) or None,
    }
    return {name: value for name, value in request.items() if value is not None}


def _native(body: JsonObject, betas: str) -> JsonObject:
    fields = {name: value for name, value in body.items() if name not in _KNOWN and value is not None}
    more = {name: value for name, value in as_object(body.get("output_config")).items() if name not in _CONFIG_KNOWN}
    return fields | ({"output_config": more} if more else {}) | ({BETAS: betas} if betas else {})


def wants_thinking(body: JsonObject) -> bool:
    """Whether the client asked to see how the model thinks."""
    return as_object(body.get("thinking")).get("type") in ("enabled", "adaptive")


def _system(system: Any, place: str = "system") -> list[JsonObject]:
    if not isinstance(system, list):
        return [{"role": "system", "content": system}] if system else []
    parts = [_text_block(block, f"{place}[{index}]") for index, block in enumerate(as_objects(system))]
    return [{"role": "system", "content": parts}] if parts else []


def _tool(tool: JsonObject, place: str) -> JsonObject:
    if tool.get("type") not in (None, "custom"):
        return tool  # Anthropic's own: models of others are not asked
    function = {
        "name": required(tool, "name", str, place),
        "description": tool.get("description"),
        "parameters": required(tool, "input_schema", dict, place),
        "strict": tool.get("strict"),
    }
    wire = {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}
    more = {name: value for name, value in tool.items() if name not in _TOOL_KNOWN and value is not None}
    return marked({**wire, NATIVE: more} if more else wire, mark_of(tool))


def _tool_choice(choice: JsonObject) -> JsonObject:
    if not choice:
        return {}
    kind = choice.get("type")
    if kind == "tool":
        name = required(choice, "name", str, "tool_choice")
        wanted: Any = {"type": "function", "function": {"name": name}}
    elif kind in _TOOL_CHOICES:
        wanted = _TOOL_CHOICES[kind]
    else:
        raise InvalidRequest.at("tool_choice.type", "auto, any, tool or none was expected")
    return {"tool_choice": wanted, "parallel_tool_calls": False if choice.get("disable_parallel_tool_use") else None}


def _user_name(metadata: Any) -> str | None:
    fields = as_object(metadata)
    _refuse_others(fields, {"user_id"}, "metadata.")
    return None if fields.get("user_id") is None else required(fields, "user_id", str, "metadata")


def _effort(body: JsonObject) -> str | None:
    """The named effort, else the one whose thinking budget comes nearest to the client's."""
    thinking, config = as_object(body.get("thinking")), as_object(body.get("output_config"))
    named, kind = config.get("effort"), thinking.get("type")
    if named is not None and named not in _EFFORTS:
        raise InvalidRequest.at("output_config.effort", f"one of {', '.join(_EFFORTS)} was expected")
    if thinking and kind not in ("enabled", "adaptive", "disabled"):
        raise InvalidRequest.at("thinking.type", "enabled, adaptive or disabled was expected")
    if kind != "enabled":
        return _EFFORTS[named] if named else "high" if kind == "adaptive" else None  # Anthropic's own default
    budget = required(thinking, "budget_tokens", int, "thinking")
    return _EFFORTS[named] if named else nearest_effort(budget)


def _response_format(config: JsonObject) -> JsonObject | None:
    wanted = config.get("format")
    if wanted is None:
        return None
    if as_object(wanted).get("type") != "json_schema":
        raise InvalidRequest.at("output_config.format.type", "json_schema was expected")
    schema = required(as_object(wanted), "schema", dict, "output_config.format")
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": schema, "strict": True}}


class _Open(BaseModel):
    """Anthropic keeps its snake_case names; the translation names the fields that it does not know."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)


class InputMessage(_Open):
    """One turn; `content` is text or a list of blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | Objects


class CountTokensBody(_Open):
    """What a Messages request says, with `model: router/{routerId}` or a model of the catalogue."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[InputMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    system: str | Objects | None = None
    stream: bool | None = None
    tools: Objects | None = None
    tool_choice: dict[str, Any] | None = None
    stop_sequences: Annotated[list[str], Field(fail_fast=True)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    metadata: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    modelpilot: RequestOptions | None = None


class MessagesBody(CountTokensBody):
    """A Messages request."""

    max_tokens: Annotated[int, Field(ge=1)]
