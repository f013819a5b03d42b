"""Strict mode: what the real providers refuse in the messages of earlier turns, in their own words. Pure.

Sources: the providers' API references, and the errors that their users report.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from simulator.faults import SimError

_SECRET = b"the simulator's own"
SERVERS = ("openai", "compatible", "mistral", "moonshot", "openrouter")  # of OpenAI's format

Json = Mapping[str, Any]


def check(dialect: str, server: str, body: Json, model: str) -> None:
    """Raise `SimError` 400 for the first thing in the history of `body` that the real provider of this `dialect` (of
    OpenAI's: this `server`) refuses."""
    if dialect == "openai" and server and server not in SERVERS:
        raise SimError(400, f"strict must be one of {', '.join(SERVERS)}", param="faults")
    try:
        if dialect == "anthropic":
            _check_anthropic(body, model)
        elif dialect == "gemini":
            _check_gemini(body, model)
        else:
            _check_openai(body, server or "openai")
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        # A client may send anything; whatever is wrong with it, real providers answer 400.
        raise _refuse("Invalid type in messages", "messages") from None


def signature(*about: Any) -> str:
    """What a provider signs its thoughts with, so that it knows when one was changed or moved."""
    return hmac.new(_SECRET, orjson.dumps(about), hashlib.sha256).hexdigest()


def _refuse(message: str, param: str | None = None) -> SimError:
    return SimError(400, message, param=param)


def _only(value: Json, allowed: Iterable[str], place: str) -> None:
    for key in value:
        if key not in allowed:
            raise _refuse(f"{place}: property '{key}' is unsupported", place)


# --- OpenAI's format

_PLAIN = frozenset({"role", "content", "name"})
_TOOL = frozenset({"role", "content", "tool_call_id", "name"})
# Server → the properties of an assistant's message.
_ANSWER: dict[str, frozenset[str]] = {
    "openai": frozenset({*_PLAIN, "refusal", "tool_calls", "function_call", "audio"}),
    "compatible": frozenset({*_PLAIN, "tool_calls"}),
    "mistral": frozenset({*_PLAIN, "tool_calls", "prefix"}),
    "moonshot": frozenset({*_PLAIN, "tool_calls", "partial", "reasoning_content"}),
    "openrouter": frozenset({*_PLAIN, "refusal", "tool_calls", "reasoning", "reasoning_details", "annotations"}),
}
_ROLES = {"openai": {"system", "developer", "user"}, "openrouter": {"system", "developer", "user"}}
# Server → the parts of an assistant's content; else it is text.
_PARTS = {"openai": ("text", "refusal"), "openrouter": ("text", "refusal"), "mistral": ("text", "thinking")}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _check_openai(body: Json, server: str) -> None:
    open_ids: list[str] = []
    seen: set[str] = set()
    for index, message in enumerate(body["messages"]):
        place, role = f"messages[{index}]", message.get("role")
        if role == "tool":
            _only(message, _TOOL, place)
            _check_result(message, open_ids, place)
            continue
        _check_answered(open_ids, place)
        if role == "assistant":
            open_ids = _check_answer(message, server, place)
            if len(seen | {*open_ids}) < len(seen) + len(open_ids):
                raise _refuse(f"Duplicate value for 'tool_call_id' in {place}", place)
            seen |= {*open_ids}
        elif role in _ROLES.get(server, {"system", "user"}):
            _only(message, _PLAIN, place)
            _check_content(message, place)
        else:
            raise _refuse(f"Invalid value: '{role}' for {place}.role", place)
    _check_answered(open_ids, "messages")


def _check_answered(open_ids: list[str], place: str) -> None:
    if open_ids:
        text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        raise _refuse(f"{text}'tool_call_id'. The following did not have response messages: {open_ids}", place)


def _check_result(message: Json, open_ids: list[str], place: str) -> None:
    call_id, content = message.get("tool_call_id"), message.get("content")
    if call_id not in open_ids:
        raise _refuse(f"{place}: 'tool' must be a response to a preceding message with 'tool_calls'", place)
    open_ids.remove(call_id)
    parts = content if isinstance(content, list) else []
    if content is None or any(part.get("type") != "text" for part in parts):
        raise _refuse(f"Invalid '{place}'. Image URLs are only allowed for messages with role 'user'", place)


def _check_content(message: Json, place: str) -> None:
    content = message.get("content")
    if not isinstance(content, str) and not (isinstance(content, list) and content):
        raise _refuse(f"Invalid value for '{place}.content': expected a string, got {content!r}", place)


def _check_answer(message: Json, server: str, place: str) -> list[str]:
    _only(message, _ANSWER[server], place)
    content, calls = message.get("content"), message.get("tool_calls")
    parts = content if isinstance(content, list) else []
    if "tool_calls" in message and not (isinstance(calls, list) and calls):
        raise _refuse(f"Invalid '{place}.tool_calls': expected a non-empty array", place)
    if any(part.get("type") not in _PARTS.get(server, ()) for part in parts):
        raise _refuse(f"{place}.content: Supported values are: {_PARTS.get(server, 'a string')}", place)
    if not calls and not (message.get("refusal") or message.get("audio")):
        _check_content(message, place)
    if server in ("compatible", "mistral") and not calls and not (parts or str(content or "").strip()):
        raise _refuse(f"{place}: Assistant message must have either content or tool_calls", place)
    if server == "moonshot" and calls and not str(message.get("reasoning_content") or "").strip():
        raise _refuse(f"thinking is enabled but reasoning_content is missing in assistant tool call {place}", place)
    return [_check_call(call, server, f"{place}.tool_calls[{index}]") for index, call in enumerate(calls or ())]


def _check_call(call: Json, server: str, place: str) -> str:
    _only(call, ("id", "type", "function"), place)
    call_id, function = call.get("id"), call.get("function")
    if not isinstance(call_id, str) or not 0 < len(call_id) <= 40:
        raise _refuse(f"Invalid '{place}.id': expected a string with maximum length 40", place)
    if server == "mistral" and not re.fullmatch(r"[a-zA-Z0-9]{9}", call_id):
        raise _refuse(f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9.", place)
    if call.get("type") != "function" or not isinstance(function, dict):
        raise _refuse(f"Missing required parameter: '{place}.function'", place)
    _only(function, ("name", "arguments"), f"{place}.function")
    if not _NAME.fullmatch(str(function.get("name"))) or not isinstance(function.get("arguments"), str):
        raise _refuse(f"Invalid '{place}.function'", place)
    if server != "openai" and not isinstance(_parsed(function["arguments"]), dict):
        raise _refuse(f"{place}.function.arguments must be a JSON object", place)
    return call_id


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


# --- Anthropic's format

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BLOCKS: dict[str, dict[str, frozenset[str]]] = {
    "user": {
        "text": frozenset({"text"}),
        "image": frozenset({"source"}),
        "document": frozenset({"source", "title", "context", "citations"}),
        "tool_result": frozenset({"tool_use_id", "content", "is_error"}),
    },
    "assistant": {
        "text": frozenset({"text", "citations"}),
        "thinking": frozenset({"thinking", "signature"}),
        "redacted_thinking": frozenset({"data"}),
        "tool_use": frozenset({"id", "name", "input"}),
    },
}


def thought(text: str, before: Iterable[Json], model: str) -> dict[str, Any]:
    """A thinking block as `model` signs it; `before` are the blocks of the answer that come before it."""
    return {"type": "thinking", "thinking": text, "signature": _signed(text, list(before), model)}


def redacted(before: Iterable[Json], model: str) -> dict[str, Any]:
    """A redacted thinking block, likewise."""
    return {"type": "redacted_thinking", "data": _signed("", list(before), model)}


def _signed(text: str, before: list[Json], model: str) -> str:
    # Blank texts are no part of it: Claude writes some, and takes none back.
    said = "".join(str(block.get("text", "")) for block in before if block.get("type") == "text")
    thoughts = sum(str(block.get("type")).endswith("thinking") for block in before)
    calls = sum(block.get("type") == "tool_use" for block in before)
    return signature(model, text, thoughts, "".join(said.split()), calls)


def _check_anthropic(body: Json, model: str) -> None:
    messages = body["messages"]
    if messages[0].get("role") != "user":
        raise _refuse('messages: first message must use the "user" role')
    _check_texts(body.get("system"), "system")
    open_ids: list[str] = []
    seen: set[str] = set()
    for index, message in enumerate(messages):
        place, role = f"messages.{index}", str(message.get("role"))
        _only(message, ("role", "content"), place)
        blocks = _blocks(message, role, model, place)
        results = [block.get("tool_use_id") for block in blocks if block["type"] == "tool_result"]
        if sorted(map(str, results)) != sorted(open_ids):
            text = "`tool_use` ids were found without `tool_result` blocks immediately after, or the other way round"
            raise _refuse(f"{place}: {text}: {open_ids} and {results}")
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            raise _refuse(f"{place}: tool_result blocks must come first")
        open_ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(seen | {*open_ids}) < len(seen) + len(open_ids):
            raise _refuse(f"{place}: `tool_use` ids must be unique")
        seen |= {*open_ids}
    if open_ids:
        raise _refuse(f"messages: `tool_use` ids were found without `tool_result` blocks immediately after: {open_ids}")
    _check_end(body, messages)


def _blocks(message: Json, role: str, model: str, place: str) -> list[Json]:
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    if role not in _BLOCKS:
        raise _refuse(f'{place}.role: Unexpected role "{role}"')
    if not blocks:
        raise _refuse(f"{place}: {role} messages must have non-empty content")
    for index, block in enumerate(blocks):
        here, kind = f"{place}.content.{index}", str(block.get("type"))
        if kind not in _BLOCKS[role]:
            raise _refuse(f"{here}: blocks of type '{kind}' are not permitted in the role {role}")
        _only(block, _BLOCKS[role][kind] | {"type", "cache_control"}, here)
        _check_block(block, blocks[:index], model, here)
    if str(blocks[-1]["type"]).endswith("thinking"):
        raise _refuse(f"{place}: The final block in an assistant message cannot be `thinking`.")
    return blocks


def _check_block(block: Json, before: list[Json], model: str, here: str) -> None:
    kind = block["type"]
    if kind == "text":
        _check_texts([block], here)
    elif kind == "tool_result":
        _check_texts(block.get("content"), here)
    elif kind == "tool_use":
        if not _ID.fullmatch(str(block.get("id"))) or not isinstance(block.get("input"), dict):
            raise _refuse(f"{here}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not _NAME.fullmatch(str(block.get("name"))):
            raise _refuse(f"{here}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    elif kind.endswith("thinking"):
        text = str(block.get("thinking"))
        wanted = thought(text, before, model) if kind == "thinking" else redacted(before, model)
        if dict(block) != wanted:
            raise _refuse(f"{here}: `thinking` blocks cannot be modified. They must remain as they were")


def _check_texts(content: Any, place: str) -> None:
    for block in content if isinstance(content, list) else ():
        if block.get("type") == "text" and not str(block.get("text") or "").strip():
            raise _refuse(f"{place}: text content blocks must contain non-whitespace text")


def _check_end(body: Json, messages: list[Json]) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    blocks = answers[-1]["content"] if answers else []
    last = blocks[-1] if isinstance(blocks, list) and blocks else {"text": blocks}
    prefilled = messages[-1]["role"] == "assistant"
    if prefilled and str(last.get("text", "")) != str(last.get("text", "")).rstrip():
        raise _refuse("messages: final assistant content cannot end with trailing whitespace")
    thinks = (body.get("thinking") or {}).get("type") == "enabled"
    called = answers and any(block["type"] == "tool_result" for block in _listed(messages[-1].get("content")))
    if thinks and (prefilled or called) and not str(_listed(blocks)[0].get("type")).endswith("thinking"):
        raise _refuse("messages: When `thinking` is enabled, a final `assistant` message must start with it")


def _listed(content: Any) -> list[Json]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


# --- Gemini's format

_PART_KINDS = frozenset({"text", "inlineData", "fileData", "functionCall", "functionResponse"})
_DUMMIES = frozenset({"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})
_SIGNS = re.compile(r"gemini-(?:[3-9]|[1-9]\d)")


def call_signature(call: Json) -> str:
    """The signature of the thought behind a function call."""
    return signature(call.get("name"), call.get("args"))


def _check_gemini(body: Json, model: str) -> None:
    calls: list[Json] = []
    for index, content in enumerate(body["contents"]):
        place, role = f"contents[{index}]", content.get("role")
        parts = content.get("parts")
        if role not in ("user", "model") or not parts or (index == 0 and role != "user"):
            raise _refuse(f"* GenerateContentRequest.{place}: a user's turn comes first, and has parts", place)
        for part in parts:
            _check_part(part, place)
        responses = [part["functionResponse"] for part in parts if "functionResponse" in part]
        _check_responses(calls, responses, place)
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        if calls and role != "model":
            raise _refuse(f"{place}: function calls are the model's", place)
        _check_signatures([part for part in parts if "functionCall" in part], model, place)
    _check_responses(calls, [], "contents")


def _check_part(part: Json, place: str) -> None:
    _only(part, _PART_KINDS | {"thoughtSignature", "thought"}, place)
    if len(_PART_KINDS & part.keys()) != 1 or part.get("text") == "":
        raise _refuse(f"{place}.parts: required oneof field 'data' must have one initialized field", place)
    if not isinstance(part.get("functionResponse", {}).get("response", {}), dict):
        raise _refuse(f"{place}: functionResponse.response must be a Struct", place)
    if not isinstance(part.get("functionCall", {}).get("args", {}), dict):
        raise _refuse(f"{place}: functionCall.args must be a Struct", place)


def _check_responses(calls: list[Json], responses: list[Json], place: str) -> None:
    wanted = [(call.get("name"), call.get("id")) for call in calls]
    if wanted != [(response.get("name"), response.get("id")) for response in responses]:
        text = "the number of function response parts is equal to the number of function call parts"
        raise _refuse(f"Please ensure that {text} of the function call turn, and that they agree.", place)


def _check_signatures(parts: list[Json], model: str, place: str) -> None:
    for part in parts:
        given = part.get("thoughtSignature")
        if given is not None and given not in _DUMMIES and given != call_signature(part["functionCall"]):
            raise _refuse("Corrupted thought signature.", place)
    if parts and _SIGNS.search(model) and not parts[0].get("thoughtSignature"):
        raise _refuse(f"Function call in {place} is missing a thought_signature", place)
