"""Cache marks (`cache_control`): where a client wants its prompt cached, and for how long.

Clients set them on content parts, messages, tool calls, tools and functions, or on the whole body (where Anthropic
itself then chooses the place); these are the spellings of Anthropic, OpenRouter, LiteLLM and Portkey. OpenAI's own
(`prompt_cache_breakpoint` on parts, `prompt_cache_options`) came with GPT-5.6; older models refuse it. They are hints:
whoever does not know them is sent none.
"""

import re
from typing import Any

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects

MARK = "cache_control"
OPTIONS = "prompt_cache_options"
_BREAKPOINT = "prompt_cache_breakpoint"
Names = frozenset[str]
_ALL = frozenset({MARK, OPTIONS, _BREAKPOINT})
_BUT_OPENAIS = frozenset({MARK})
_KNOWS_BREAKPOINTS = re.compile(r"gpt-(5\.([6-9]|\d\d)|[6-9]|1\d)")
_MOST_MARKS = 4  # Anthropic refuses more, the one on the body included


def mark_of(item: JsonObject) -> JsonObject | None:
    """The mark on a part, message, call or tool; OpenAI's as Anthropic's usual one."""
    return as_object(item.get(MARK)) or ({"type": "ephemeral"} if item.get(_BREAKPOINT) else None)


def marked(item: JsonObject, mark: JsonObject | None) -> JsonObject:
    """The item with this mark, where it is one and the item has none."""
    return item if mark is None or MARK in item else {**item, MARK: mark}


def bare(item: JsonObject, names: Names = _ALL) -> JsonObject:
    """The item without its marks."""
    return {key: value for key, value in item.items() if key not in names}


def without_marks(body: JsonObject, model: str) -> JsonObject:
    """The chat body as it would be if its client had never marked anything; itself where there is no mark. OpenAI's
    own marks stay where the model knows them."""
    names = _BUT_OPENAIS if _KNOWS_BREAKPOINTS.search(model) else _ALL
    changed: JsonObject = {}
    messages, tools = as_objects(body.get("messages")), as_objects(body.get("tools"))
    if any(_is_marked(message, names) for message in messages):
        changed["messages"] = [_unmarked(each, names) if _is_marked(each, names) else each for each in messages]
    if any(map(_is_marked_tool, tools)):
        changed["tools"] = [_unmarked_tool(tool) for tool in tools]
    return bare({**body, **changed}, names) if changed or not names.isdisjoint(body) else body


def has_marks(body: JsonObject) -> bool:
    """Whether anything in the chat body is marked."""
    messages, tools = as_objects(body.get("messages")), as_objects(body.get("tools"))
    return any(_is_marked(each, _BUT_OPENAIS) for each in messages) or any(map(_is_marked_tool, tools))


def marks_on_parts(body: JsonObject) -> JsonObject:
    """The chat body with the marks of messages on their last parts and those of functions on their tools, which are the
    places that OpenRouter knows; itself where there is no mark."""
    changed: JsonObject = {}
    messages, tools = as_objects(body.get("messages")), as_objects(body.get("tools"))
    if any(_is_marked(message, _BUT_OPENAIS) for message in messages):
        changed["messages"] = [_on_parts(each) if _is_marked(each, _BUT_OPENAIS) else each for each in messages]
    if any(map(_is_marked_tool, tools)):
        changed["tools"] = [marked(_unmarked_tool(tool), tool_mark(tool)) for tool in tools]
    return {**body, **changed} if changed else body


def tool_mark(tool: JsonObject) -> JsonObject | None:
    """The mark on a tool or tool call, or on the function in it."""
    return mark_of(tool) or mark_of(as_object(tool.get("function")))


def drop_surplus(request: JsonObject) -> None:
    """Leave at most four marks in a request to Anthropic, which refuses more: the last one of tools and system, which
    other conversations share, and else the last ones, since a later mark covers what an earlier one does."""
    shared = [item for name in ("tools", "system") for item in request[name] if MARK in item]
    places = [*shared[:-1], *(block for turn in request["messages"] for block in turn["content"] if MARK in block)]
    kept = _MOST_MARKS - len(shared[-1:]) - (1 if request.get(MARK) else 0)
    for item in places[: max(len(places) - kept, 0)]:
        del item[MARK]


def _is_marked(message: JsonObject, names: Names) -> bool:
    content = message.get("content")
    return (
        MARK in message
        or (isinstance(content, list) and not all(names.isdisjoint(part) for part in as_objects(content)))
        or ("tool_calls" in message and any(map(_is_marked_tool, as_objects(message["tool_calls"]))))
    )


def _is_marked_tool(tool: JsonObject) -> bool:
    return MARK in tool or MARK in as_object(tool.get("function"))


def _unmarked_tool(tool: JsonObject) -> JsonObject:
    plain = bare(tool)
    return plain | {"function": bare(tool["function"])} if isinstance(tool.get("function"), dict) else plain


def _unmarked(message: JsonObject, names: Names) -> JsonObject:
    plain = bare(message)
    if isinstance(message.get("content"), list):
        plain["content"] = _plain_content([bare(part, names) for part in as_objects(message["content"])])
    if message.get("tool_calls"):
        plain["tool_calls"] = [_unmarked_tool(call) for call in as_objects(message["tool_calls"])]
    return plain


def _plain_content(parts: list[JsonObject]) -> Any:
    # A text is put into a part for the sake of its mark; not every server takes parts from everybody.
    alone = len(parts) == 1 and parts[0].get("type") == "text" and parts[0].keys() <= {"type", "text"}
    return parts[0].get("text", "") if alone else parts


def _on_parts(message: JsonObject) -> JsonObject:
    content, mark = message.get("content"), mark_of(message)
    parts = [{"type": "text", "text": content}] if isinstance(content, str) and mark else as_objects(content)
    settled: list[JsonObject] = []
    for part in parts:
        if part.get("type") != "text" or part.get("text"):
            settled.append(part)
        elif settled:  # Anthropic refuses a mark on nothing
            settled[-1] = marked(settled[-1], mark_of(part))
    if settled:
        content = [*settled[:-1], marked(settled[-1], mark)]
    elif isinstance(content, list):
        content = [bare(part) for part in parts]
    return {**bare(message), "content": content}
