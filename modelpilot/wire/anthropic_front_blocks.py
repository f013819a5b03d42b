"""The turns and content blocks of a Messages request as OpenAI messages and parts."""

from collections.abc import Collection
from typing import Any

from modelpilot.errors import InvalidRequest
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump

_TYPE_NAMES = {str: "text", dict: "an object", int: "a whole number"}


def refuse(place: str, reason: str) -> InvalidRequest:
    """The error that names a field which cannot be translated."""
    return InvalidRequest(f"{place}: {reason}", param=place)


def refuse_others(fields: JsonObject, known: Collection[str], prefix: str) -> None:
    """Raise InvalidRequest for the first field that is set and not `known`."""
    for name, value in fields.items():
        if name not in known and value is not None:
            raise refuse(f"{prefix}{name}", "this field has no counterpart for the models behind this gateway")


def checked(fields: JsonObject, name: str, kind: type, place: str) -> Any:
    """The field `name`, which must be there. Raises InvalidRequest."""
    value = fields.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise refuse(f"{place}.{name}", f"{_TYPE_NAMES[kind]} was expected")
    return value


def text_block(block: JsonObject, place: str) -> JsonObject:
    """A text block as a text part. Raises InvalidRequest for any other block."""
    if block.get("type") != "text":
        raise refuse(f"{place}.type", "only text is possible here")
    return {"type": "text", "text": checked(block, "text", str, place)}


def chat_messages(turns: list[JsonObject]) -> list[JsonObject]:
    """All turns. Results of tools become messages of their own, before the rest of their turn."""
    messages: list[JsonObject] = []
    for index, turn in enumerate(turns):
        content, place = turn.get("content"), f"messages[{index}].content"
        if isinstance(content, str):
            messages.append({"role": turn["role"], "content": content})
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
            message, media = _tool_result(block, here)
            results.append(message)
            parts += media
        else:
            parts.append(_part(block, here))
    return [*results, {"role": "user", "content": parts}] if parts or not results else results


def _tool_result(block: JsonObject, place: str) -> tuple[JsonObject, list[JsonObject]]:
    """The tool's message, and its images: OpenAI takes those from users only, so they follow in the user's message."""
    content = block.get("content")
    inner = [{"type": "text", "text": content}] if isinstance(content, str) else as_objects(content)
    parts = [_part(item, f"{place}.content[{index}]") for index, item in enumerate(inner)]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if block.get("is_error"):
        text = f"Error: {text}"  # OpenAI has no flag for it
    message = {"role": "tool", "tool_call_id": checked(block, "tool_use_id", str, place), "content": text}
    return message, [part for part in parts if part["type"] != "text"]


def _part(block: JsonObject, place: str) -> JsonObject:
    match block.get("type"):
        case "text":
            return text_block(block, place)
        case "image":
            return {"type": "image_url", "image_url": {"url": _image_url(as_object(block.get("source")), place)}}
        case "document":
            return _document(block, place)
    raise refuse(f"{place}.type", f"blocks of type {block.get('type')!r} cannot be routed")


def _image_url(source: JsonObject, place: str) -> str:
    place = f"{place}.source"
    if source.get("type") == "url":
        return str(checked(source, "url", str, place))
    if source.get("type") == "base64":
        return _data_url(source, place)
    raise refuse(f"{place}.type", "base64 or url was expected")


def _document(block: JsonObject, place: str) -> JsonObject:
    source, here = as_object(block.get("source")), f"{place}.source"
    if as_object(block.get("citations")).get("enabled"):
        raise refuse(f"{place}.citations", "citations cannot be routed")
    if source.get("type") == "text":
        return {"type": "text", "text": checked(source, "data", str, here)}
    if source.get("type") != "base64":
        raise refuse(f"{here}.type", "base64 or text was expected")
    name = block.get("title") or "document.pdf"
    return {"type": "file", "file": {"filename": str(name), "file_data": _data_url(source, here)}}


def _data_url(source: JsonObject, place: str) -> str:
    media_type, data = checked(source, "media_type", str, place), checked(source, "data", str, place)
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
                thinking.append(block)
            case _:
                parts.append(text_block(block, here))
    message: JsonObject = {"role": "assistant", "content": _assistant_content(parts)}
    # Thinking without a signature came from a model that makes none, and no provider could check it.
    signed = [block for block in thinking if block.get("signature") or block["type"] == "redacted_thinking"]
    return message | ({"tool_calls": calls} if calls else {}) | ({"thinking_blocks": signed} if signed else {})


def _assistant_content(parts: list[JsonObject]) -> Any:
    # One text as a plain string: not every server that speaks OpenAI's format takes an assistant's parts.
    return parts[0]["text"] if len(parts) == 1 else parts or None


def _tool_call(block: JsonObject, place: str) -> JsonObject:
    arguments = dump(checked(block, "input", dict, place)).decode()
    function = {"name": checked(block, "name", str, place), "arguments": arguments}
    return {"id": checked(block, "id", str, place), "type": "function", "function": function}
