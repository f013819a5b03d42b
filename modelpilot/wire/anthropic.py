"""Anthropic's Messages API: an OpenAI chat request as a request to it. `anthropic_stream` reads the answer."""

import itertools
import re
from collections.abc import Mapping

from modelpilot.providers.manners import Manners, manners_of
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.cache_marks import MARK, bare, drop_surplus, mark_of, marked, tool_mark
from modelpilot.wire.formats import WireFormat, join_url, versioned_url
from modelpilot.wire.history import NO_TEXT, fitted_history, target_of
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, object_of
from modelpilot.wire.parts import Foreign, Media, Part, Text, foreign_parts, parts_of
from modelpilot.wire.support import (
    BETAS,
    NATIVE,
    THINKING_BUDGETS,
    is_anthropics,
    json_schema_of,
    output_limit,
    reasoning_effort,
    stop_sequences,
    untranslatable_messages,
    untranslatable_tools,
)
from modelpilot.wire.thinking import in_order, readable

_API_VERSION = "2023-06-01"
# Anthropic demands a limit. This one every model accepts; a thinking budget comes on top of it.
DEFAULT_MAX_TOKENS = 4_096
_MIN_THINKING_TOKENS = 1_024
_BETAS = re.compile(r"[\w.,: -]{1,2000}")
# Anthropic's own fields, for clients that know whom they talk to.
_NATIVE = ("cache_control", "container", "context_management", "inference_geo", "mcp_servers", "thinking", "top_k")
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_NAME_REFUSED = re.compile(r"[^a-zA-Z0-9_-]")
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


def messages_request(body: JsonObject, model: str, whole: bool = False, manners: Manners | None = None) -> JsonObject:
    """The Messages request for the client's `body`, streamed unless the answer is to be `whole`; see
    `unsupported_content` for what has no place in it."""
    manners = manners or manners_of("anthropic", "", model)
    target = target_of("anthropic", model, reasoning_fields=manners.reasoning_fields)
    system, messages = _conversation(fitted_history(as_objects(body.get("messages")), target), model, manners)
    native = {name: value for name, value in as_object(body.get(NATIVE)).items() if name != BETAS}
    request: JsonObject = {
        **native,
        "model": model,
        "messages": messages,
        "max_tokens": output_limit(body) or DEFAULT_MAX_TOKENS,
        "stream": not whole,
        "system": system,
        "tools": [_tool(tool) for tool in as_objects(body.get("tools"))],
        "tool_choice": _tool_choice(body),
        "stop_sequences": stop_sequences(body),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "metadata": _metadata(body),
        "output_config": _output_config(body),
        **{key: body[key] for key in _NATIVE if key in body},
    }
    _add_thinking(request, body, manners)
    drop_surplus(request)
    return {key: value for key, value in request.items() if value not in (None, [], {})}


def unsupported_content(body: JsonObject) -> list[str]:
    """The messages and tools of an OpenAI `body` that Anthropic has nothing for, in the client's spelling."""
    fields = [*untranslatable_tools(body, anthropics=True), *untranslatable_messages(body)]
    return fields + sorted({place for place, part in foreign_parts(body.get("messages")) if _block(part) is None})


def tool_use_block(call: JsonObject) -> JsonObject:
    """An OpenAI tool call as a content block."""
    function = as_object(call.get("function"))
    # A model may have written bad JSON; it is kept under one key.
    arguments = object_of(function.get("arguments"), "arguments")
    block = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments}
    return marked(block, tool_mark(call))


def _conversation(
    messages: list[JsonObject], model: str, manners: Manners
) -> tuple[list[JsonObject], list[JsonObject]]:
    """The system blocks, and the turns with adjacent ones of the same role merged: all results of parallel calls
    must be in the one user turn behind them. A system message behind a user's stays there where the model takes it."""
    system: list[JsonObject] = []
    turns: list[JsonObject] = []
    for message in messages:
        role = message.get("role")
        blocks = _message_blocks(message, model)
        wire_role = _WIRE_ROLES.get(str(role), "user")
        if wire_role == "system" and not (manners.system_turns and turns and turns[-1]["role"] != "assistant"):
            system += blocks
            continue
        if turns and turns[-1]["role"] == wire_role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": wire_role, "content": blocks})
    return _with_a_user(system, turns)


_WIRE_ROLES = {"assistant": "assistant", "system": "system", "developer": "system"}


def _with_a_user(system: list[JsonObject], turns: list[JsonObject]) -> tuple[list[JsonObject], list[JsonObject]]:
    """The same in Claude's rules: a user begins, no turn is empty, and an answer to go on with ends with no blank."""
    if not turns and system:
        return [], [{"role": "user", "content": system}]
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": []})
    for turn in turns:
        turn["content"] = turn["content"] or [{"type": "text", "text": NO_TEXT}]
    if turns and turns[-1]["role"] == "assistant" and (last := turns[-1]["content"][-1])["type"] == "text":
        turns[-1]["content"][-1] = {**last, "text": last["text"].rstrip()}
    return system, turns


def _message_blocks(message: JsonObject, model: str) -> list[JsonObject]:
    blocks = [block for part in parts_of(message.get("content")) if (block := _block(part)) is not None]
    if message.get("role") == "assistant":
        calls = [_named(tool_use_block(call)) for call in as_objects(message.get("tool_calls"))]
        blocks = in_order([*map(bare, readable(message.get("thinking_blocks"), model))], blocks, calls)
    blocks = [block for block in blocks if block["type"] != "text" or block["text"].strip()]
    if message.get("role") == "tool":
        mark = mark_of(message) or next((mark for block in reversed(blocks) if (mark := mark_of(block))), None)
        content = [bare(block) for block in blocks]
        return [marked({"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}, mark)]
    # Claude takes no message that ends with thinking.
    while blocks and blocks[-1]["type"].endswith("thinking"):
        blocks.pop()
    if blocks:
        blocks[-1] = marked(blocks[-1], mark_of(message))
    return blocks


def _named(call: JsonObject) -> JsonObject:
    """The call under a name that Claude takes: a model may have called what does not exist."""
    return {**call, "name": _NAME_REFUSED.sub("_", str(call["name"] or ""))[:128] or "_"}


def _block(part: Part) -> JsonObject | None:
    block = _unmarked_block(part)
    return block and marked(block, part.mark)


def _unmarked_block(part: Part) -> JsonObject | None:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Media(mime_type, data, url) if mime_type in _IMAGE_TYPES or mime_type == "application/pdf":
            kind = "image" if mime_type in _IMAGE_TYPES else "document"
            if url is not None:
                return {"type": kind, "source": {"type": "url", "url": url}}
            return {"type": kind, "source": {"type": "base64", "media_type": mime_type, "data": data}}
        case Media() | Foreign():
            return None


def _tool(tool: JsonObject) -> JsonObject:
    if is_anthropics(tool):
        return tool
    function = as_object(tool.get("function"))
    wire = {
        **as_object(tool.get(NATIVE)),
        "name": function.get("name"),
        "description": function.get("description"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
        "strict": function.get("strict"),
        MARK: tool_mark(tool),
    }
    return {key: value for key, value in wire.items() if value is not None}


def _tool_choice(body: JsonObject) -> JsonObject | None:
    choice = body.get("tool_choice")
    if not body.get("tools"):
        return None
    if isinstance(choice, dict):
        wire: JsonObject = {"type": "tool", "name": as_object(choice.get("function")).get("name")}
    else:
        wire = {"type": {"required": "any", "none": "none"}.get(str(choice), "auto")}
    if body.get("parallel_tool_calls") is False and wire["type"] != "none":
        wire["disable_parallel_tool_use"] = True
    return wire if choice is not None or len(wire) > 1 else None


def _metadata(body: JsonObject) -> JsonObject | None:
    user = body.get("safety_identifier") or body.get("user")
    return {"user_id": user} if isinstance(user, str) else None


def _output_config(body: JsonObject) -> JsonObject:
    schema = json_schema_of(body)
    wanted = {} if schema is None else {"format": {"type": "json_schema", "schema": schema}}
    native = as_object(as_object(body.get(NATIVE)).get("output_config"))
    return {**native, **wanted, **as_object(body.get("output_config"))}


def _add_thinking(request: JsonObject, body: JsonObject, manners: Manners) -> None:
    effort = reasoning_effort(body) or "none"
    budget = THINKING_BUDGETS.get(effort)
    if "thinking" in body:
        if as_object(body["thinking"]).get("type") == "enabled" and _lacks_thinking_blocks(request["messages"]):
            request["thinking"] = None
        return
    if budget is None:
        return
    if manners.thinking == "adaptive":
        # It decides by itself whether to think, and goes on with what others called without thinking.
        request["thinking"] = {"type": "adaptive"}
        request["output_config"] = {"effort": _EFFORTS[effort], **request["output_config"]}
        return
    if _lacks_thinking_blocks(request["messages"]):
        return
    limit = output_limit(body)
    fewest, most = manners.thinking_budget or (_MIN_THINKING_TOKENS, budget)
    budget = min(budget, most)
    if limit is not None:
        # The budget counts against the limit, which stands, and a fifth of it is for the answer.
        budget = min(budget, max(limit * 4 // 5, fewest))
    if limit is None or limit > budget:
        request["max_tokens"] = limit or DEFAULT_MAX_TOKENS + budget
        request["thinking"] = {"type": "enabled", "budget_tokens": max(budget, fewest)}


def _lacks_thinking_blocks(turns: list[JsonObject]) -> bool:
    """Whether the last answer came without thinking where Anthropic would refuse that: another model made the tool
    calls, or the client did not send `thinking_blocks` back."""
    if turns and turns[-1]["role"] == "assistant":
        return True  # an answer that Claude is to go on with has none
    if len(turns) < 2 or not any(block["type"] == "tool_result" for block in turns[-1]["content"]):
        return False
    return not str(turns[-2]["content"][0].get("type")).endswith("thinking")


def _headers(base_url: str, key: str | None, request_id: str, body: JsonObject) -> Mapping[str, str]:
    del base_url, request_id
    betas = as_object(body.get(NATIVE)).get(BETAS)
    asked = {BETAS: betas} if isinstance(betas, str) and _BETAS.fullmatch(betas) else {}
    return {"anthropic-version": _API_VERSION, **asked, **({"x-api-key": key} if key else {})}


def _may_be_empty(body: JsonObject) -> bool:
    """Behind the results of tools Anthropic's models may have nothing to add, as its documents say, and a stop sequence
    may be the first that a model writes."""
    newest_first = reversed(as_objects(body.get("messages")))
    turn = itertools.takewhile(lambda message: message.get("role") != "assistant", newest_first)
    return bool(body.get("stop")) or any(message.get("role") == "tool" for message in turn)


WIRE = WireFormat(
    chat_url=lambda base_url, model, whole: join_url(versioned_url(base_url, "v1"), "messages"),
    headers=_headers,
    chat_request=messages_request,
    decoder=lambda body, request_id, now_s: AnthropicDecoder(now_s, may_be_empty=_may_be_empty(body)),
    unsupported_content=unsupported_content,
)
