"""The input items of a Responses request as chat messages.

What a model wrote in one go (reasoning, texts, calls) comes as items of its own there, and is one message here.
Reasoning comes back as the provider gave it: the gateway sealed it into `encrypted_content`, which only it can open.
"""

from collections.abc import Callable, Sequence
from typing import Any

from modelpilot.errors import InvalidRequest
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump, required
from modelpilot.wire.merge import merge_object
from modelpilot.wire.responses_tools import LOCAL_SHELL, TOOL_SEARCH, function_name, toolbox_of

Opened = Callable[[str], JsonObject | None]
"""What was sealed into an `encrypted_content`; None where it was not sealed here."""

_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
# What OpenAI's tools did in earlier turns: whatever came of it is in the text behind it.
_DONE_ELSEWHERE = frozenset({"web_search_call", "file_search_call", "additional_tools"})


def messages_of(
    items: Sequence[JsonObject], instructions: str | None, opened: Opened, before: int = 0
) -> list[JsonObject]:
    """The chat messages of `items`, of which the first `before` are of earlier requests. Raises InvalidRequest."""
    conversation = _Conversation(opened)
    if instructions:
        conversation.system(instructions)
    for index, item in enumerate(items):
        conversation.take(item, f"input[{index - before}]")
    # A model that thought and said nothing has no message.
    return [each for each in conversation.messages if each.get("content") is not None or each.get("tool_calls")]


def as_items(given: Any) -> list[JsonObject]:
    """`input` as items: a text is a message of the user."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return as_objects(given)


class _Conversation:
    """Builds the messages item by item."""

    def __init__(self, opened: Opened) -> None:
        self.messages: list[JsonObject] = []
        self._opened = opened
        self._answer: JsonObject | None = None  # the model's message while it goes on
        self._thought = False  # whether reasoning came last
        self._called: set[str] = set()
        self._of_calls: JsonObject = {}  # further fields of this message's calls, by their ids

    def take(self, item: JsonObject, place: str) -> None:
        """The next item. Raises InvalidRequest."""
        kind = item.get("type") or ("message" if "role" in item else None)
        thought, self._thought = self._thought, kind == "reasoning"
        match kind:
            case "message":
                self._message(item, place, behind_thought=thought)
            case "reasoning":
                self._reasoning(item)
            case "function_call" | "custom_tool_call" | "local_shell_call" | "tool_search_call":
                self._call(_call_of(item, place))
            case "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" | "tool_search_output":
                self._result(item, place)
            case _ if kind not in _DONE_ELSEWHERE:
                raise InvalidRequest.at(f"{place}.type", f"items of type {str(kind)[:60]!r} cannot be routed")

    def system(self, text: str) -> None:
        """Words of the developer. Those that follow each other are one message: many chat templates know but one."""
        self._answer = None
        if self.messages and self.messages[-1]["role"] == "system":
            self.messages[-1]["content"] += f"\n\n{text}"
        else:
            self.messages.append({"role": "system", "content": text})

    def _message(self, item: JsonObject, place: str, *, behind_thought: bool) -> None:
        role, content = item.get("role"), _content(item.get("content"), f"{place}.content")
        if role == "assistant":
            self._said(_text(content, place), behind_thought=behind_thought)
        elif role in ("system", "developer"):
            self.system(_text(content, place))
        elif role == "user":
            self._answer = None
            # One text as a plain string: not every server takes parts.
            alone = isinstance(content, list) and len(content) == 1 and content[0]["type"] == "text"
            self.messages.append({"role": "user", "content": content[0]["text"] if alone else content or ""})
        else:
            raise InvalidRequest.at(f"{place}.role", "user, assistant, system or developer was expected")

    def _said(self, text: str, *, behind_thought: bool) -> None:
        # Nothing may stand between calls and their results; and what thought interrupts is one answer all the same.
        answer = self._answer
        if answer is not None and (behind_thought or answer.get("tool_calls") or answer["content"] is None):
            answer["content"] = (answer["content"] or "") + text
        else:
            self._answer = None
            self._turn()["content"] = text

    def _turn(self) -> JsonObject:
        if self._answer is None:
            self._answer, self._of_calls = {"role": "assistant", "content": None}, {}
            self.messages.append(self._answer)
        return self._answer

    def _reasoning(self, item: JsonObject) -> None:
        sealed = item.get("encrypted_content")
        known = self._opened(sealed) if isinstance(sealed, str) else None
        if known is None:
            texts = as_objects(item.get("content")) or as_objects(item.get("summary"))
            text = "".join(str(part.get("text") or "") for part in texts)
            known = {"message": {"reasoning_content": text}} if text else {}
        turn = self._turn()
        merge_object(turn, as_object(known.get("message")))
        # What belongs to single calls (signatures) may come before them or after.
        self._of_calls |= as_object(known.get("calls"))
        for call in as_objects(turn.get("tool_calls")):
            call.update(as_object(self._of_calls.get(call["id"])))

    def _call(self, call: JsonObject) -> None:
        self._turn().setdefault("tool_calls", []).append({**call, **as_object(self._of_calls.get(call["id"]))})
        self._called.add(call["id"])

    def _result(self, item: JsonObject, place: str) -> None:
        self._answer = None
        output = _output(item, place)
        if item.get("call_id") is None and item.get("name"):
            # Codex tells the model of results that it did not ask for.
            self._told(".".join(str(item[key]) for key in ("namespace", "name") if item.get(key)), output)
            return
        # Only the local shell's results name their call by `id`.
        name = "id" if item["type"] == "local_shell_call_output" and item.get("call_id") is None else "call_id"
        call_id = required(item, name, str, place)
        if call_id not in self._called:
            raise InvalidRequest.at(f"{place}.{name}", f"there is no tool call {call_id[:80]!r} before this result")
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": output})

    def _told(self, name: str, output: Any) -> None:
        head = f"Output of {name}:\n"
        content = head + output if isinstance(output, str) else [{"type": "text", "text": head}, *output]
        self.messages.append({"role": "user", "content": content})


def _call_of(item: JsonObject, place: str) -> JsonObject:
    match item["type"]:
        case "function_call":
            name = function_name(required(item, "name", str, place), item.get("namespace"))
            arguments = required(item, "arguments", str, place)
        case "custom_tool_call":
            name = function_name(required(item, "name", str, place), item.get("namespace"))
            arguments = dump({"input": required(item, "input", str, place)}).decode()
        case "local_shell_call":
            action = {key: value for key, value in as_object(item.get("action")).items() if key != "type"}
            name, arguments = LOCAL_SHELL, dump(action).decode()
        case _:
            name, arguments = TOOL_SEARCH, dump(as_object(item.get("arguments"))).decode()
    call_id = required(item, "call_id", str, place)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _output(item: JsonObject, place: str) -> Any:
    """A result as text; one with images or files keeps its parts, for the models that take them there."""
    if item["type"] == "tool_search_output":
        # The tools themselves are offered like all others.
        return f"Tools found: {', '.join(toolbox_of(None, [item]).by_name) or 'none'}"
    content = _content(item.get("output"), f"{place}.output")
    if isinstance(content, str) or any(part["type"] != "text" for part in content):
        return content
    return _text(content, place)


def _content(content: Any, place: str) -> Any:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest.at(place, "text or a list of parts was expected")
    return [_part(part, f"{place}[{index}]") for index, part in enumerate(as_objects(content))]


def _text(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    for index, part in enumerate(content):
        if part["type"] != "text":
            raise InvalidRequest.at(f"{place}.content[{index}].type", "only text is possible here")
    return "".join(part["text"] for part in content)


def _part(part: JsonObject, place: str) -> JsonObject:
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": required(part, "text", str, place)}
    match kind:
        case "refusal":
            return {"type": "text", "text": required(part, "refusal", str, place)}
        case "input_image":
            return _image(part, place)
        case "input_file":
            return _file(part, place)
        case "input_audio":
            return {"type": "input_audio", "input_audio": as_object(part.get("input_audio"))}
    raise InvalidRequest.at(f"{place}.type", f"content of type {str(kind)[:60]!r} cannot be routed")


def _image(part: JsonObject, place: str) -> JsonObject:
    _refuse_file_id(part, place)
    image: JsonObject = {"url": required(part, "image_url", str, place)}
    if detail := part.get("detail"):
        image["detail"] = "high" if detail == "original" else detail  # chat completions have no "original"
    return {"type": "image_url", "image_url": image}


def _file(part: JsonObject, place: str) -> JsonObject:
    _refuse_file_id(part, place)
    data = part.get("file_data") or part.get("file_url")
    if not isinstance(data, str):
        raise InvalidRequest.at(f"{place}.file_data", "file_data or file_url was expected")
    name = part.get("filename")
    return {"type": "file", "file": {"file_data": data, **({"filename": name} if name else {})}}


def _refuse_file_id(part: JsonObject, place: str) -> None:
    if part.get("file_id"):
        raise InvalidRequest.at(
            f"{place}.file_id", "files stored at OpenAI cannot be read from here; send the data or a URL"
        )
