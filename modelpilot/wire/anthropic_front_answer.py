"""An OpenAI completion as the Message that a client of Anthropic's format expects."""

from collections.abc import Collection
from typing import Any

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, object_of
from modelpilot.wire.parts import text_of
from modelpilot.wire.usage import parse_usage, token_count

# OpenAI says `stop` for a stop sequence as well; some servers name the sequence in the choice's `stop_reason`.
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def message_of(completion: JsonObject, *, with_thinking: bool, stop_sequences: Collection[str] = ()) -> JsonObject:
    """The Message that says what the first choice of `completion` says; `stop_sequences` are the client's.

    Thinking is left out unless asked for: clients that did not ask take the first block for the text.
    """
    choice = next(iter(as_objects(completion.get("choices"))), {})
    message = as_object(choice.get("message"))
    thinking = _thinking(message) if with_thinking else []
    texts = [text for text in (text_of(message.get("content")), message.get("refusal")) if text]
    calls = as_objects(message.get("tool_calls"))
    return {
        "id": completion.get("id"),
        "type": "message",
        "role": "assistant",
        "model": completion.get("model"),
        "content": [*thinking, *({"type": "text", "text": text} for text in texts), *map(_tool_use, calls)],
        **ending(choice, stop_sequences),
        "usage": usage_of(completion.get("usage")),
    }


def ending(choice: JsonObject, stop_sequences: Collection[str]) -> JsonObject:
    """Why the answer ended, in Anthropic's words; a stop sequence only where the provider named one of the client's."""
    finish, stopped_by = choice.get("finish_reason"), choice.get("stop_reason")
    if finish == "stop" and isinstance(stopped_by, str) and stopped_by in stop_sequences:
        return {"stop_reason": "stop_sequence", "stop_sequence": stopped_by}
    return {"stop_reason": _STOP_REASONS.get(str(finish), "end_turn"), "stop_sequence": None}


def usage_of(usage: Any) -> JsonObject:
    """Token counts: Anthropic counts cached input beside the rest, OpenAI within it."""
    counts = parse_usage(usage)
    written = token_count(as_object(as_object(usage).get("prompt_tokens_details")).get("cache_write_tokens"))
    return {
        "input_tokens": max(counts.input_tokens - counts.cached_tokens - written, 0),
        "output_tokens": counts.output_tokens,
        "cache_read_input_tokens": counts.cached_tokens,
        "cache_creation_input_tokens": written,
    }


def reasoning_of(message: JsonObject) -> str:
    """The visible reasoning in a message or delta, under either of its two names."""
    text = message.get("reasoning_content") or message.get("reasoning")
    return text if isinstance(text, str) else ""


def _thinking(message: JsonObject) -> list[JsonObject]:
    blocks = as_objects(message.get("thinking_blocks"))
    reasoning = reasoning_of(message)
    return blocks or ([{"type": "thinking", "thinking": reasoning, "signature": ""}] if reasoning else [])


def _tool_use(call: JsonObject) -> JsonObject:
    function = as_object(call.get("function"))
    # A model may have written bad JSON; it is kept under one key.
    arguments = object_of(function.get("arguments"), "arguments")
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments}
