"""Earlier turns, fitted to the provider that is asked now: a conversation may change its provider at every turn.

What one provider put into the history (reasoning, signatures, ids, annotations, a refusal, sound) is carried to those
that take it, translated where another has a word for it, and left out elsewhere. What the client itself wrote on its
own messages is left as it is. `tool_turns` puts calls and their results in order.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump, object_of
from modelpilot.wire.parts import REASONING_PARTS, reasoning_of
from modelpilot.wire.thinking import readable
from modelpilot.wire.tool_turns import CallIds, in_pairs, joined

Format = Literal["openai", "openrouter", "anthropic", "gemini"]

# Of an assistant's message, what every server of OpenAI's format knows, and what clients of some write themselves.
_COMMON = frozenset({"role", "content", "name", "tool_calls", "function_call", "prefix", "partial", "cache_control"})
# What providers add to an assistant's message, and the formats that take it back; anything else goes nowhere.
_TAKEN_BACK: dict[Format, frozenset[str]] = {
    "openai": frozenset(),
    # https://openrouter.ai/docs/use-cases/reasoning-tokens and .../features/multimodal/pdfs
    "openrouter": frozenset({"reasoning", "reasoning_details", "annotations"}),
    # https://docs.claude.com/en/docs/build-with-claude/extended-thinking
    "anthropic": frozenset({"thinking_blocks"}),
    "gemini": frozenset(),
}
# These refuse calls that come back without the reasoning behind them, whoever made them. Elsewhere reasoning in the
# history is refused (Groq, Mistral, Fireworks) or ignored (vLLM, Ollama), so it is left out.
# https://api-docs.deepseek.com/guides/thinking_mode, https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model
_REASONING_NEEDED = re.compile(r"deepseek-(?:reasoner|chat|v[3-9])|kimi-(?:k2-thinking|k2\.\d|k[3-9]|thinking)|mimo-v")
_NO_REASONING = "(not shown)"  # Moonshot takes an empty text for a missing one
# Gemini 3 refuses calls without the signature of the thought behind them. For calls that another model made, Google
# documents this placeholder. https://ai.google.dev/gemini-api/docs/thought-signatures
_SIGNATURE_NEEDED = re.compile(r"gemini-(?:[3-9]|[1-9]\d)")
_NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}
_MISTRAL = re.compile(r"[mp]i[sx]tral|ministral|magistral|codestral|devstral|voxtral")
NO_TEXT = "(no text)"  # in a turn that must be there and may not be empty
_CLAUDE_FORMAT = "anthropic-claude-v1"  # OpenRouter's name for thinking that Claude signed
_MARK = "cache_control"


@dataclass(frozen=True, slots=True)
class Target:
    """What a model takes of earlier turns, and how."""

    format: Format
    takes: frozenset[str]
    """The properties of an assistant's message; others are left out."""
    call_ids: CallIds
    """What ids of calls look like."""
    reasoning_as: str | None = None
    """The property in which the reasoning behind calls must come back; None: it need not."""
    thinking_parts: bool = False
    """Whether reasoning is a part of the content."""
    signatures: Literal["unknown", "taken", "needed"] = "unknown"
    """Gemini's signatures on calls."""
    claude: str | None = None
    """The Claude behind OpenRouter, which takes its signed thinking as `reasoning_details`."""

    @property
    def sent_on(self) -> bool:
        """Whether messages are sent in OpenAI's format, and not written anew in another."""
        return self.format in ("openai", "openrouter")


@lru_cache(maxsize=4_096)
def target_of(
    wire: Format, model: str, *, nine_characters: bool = False, reasoning_fields: tuple[str, ...] | None = None
) -> Target:
    """What the provider's `model` takes, by its wire format and the families that its name tells.

    `nine_characters`: its ids of calls are nine letters and digits. `reasoning_fields`: the properties in which it
    takes reasoning back, where that is known.
    """
    name = model.lower()
    takes = _COMMON | (_TAKEN_BACK[wire] if reasoning_fields is None else frozenset(reasoning_fields))
    if "audio" in name and wire == "openai":
        takes |= {"audio"}
    if "image" in name and wire == "gemini":
        takes |= {"images"}
    reasoning = "reasoning" if wire == "openrouter" else "reasoning_content"
    gemini = wire == "gemini" or (wire == "openai" and "gemini" in name)
    mistral = wire == "openai" and _MISTRAL.search(name) is not None
    return Target(
        wire,
        takes,
        _call_ids(wire, nine_characters or mistral),
        reasoning if wire in ("openai", "openrouter") and _REASONING_NEEDED.search(name) else None,
        mistral,
        ("needed" if _SIGNATURE_NEEDED.search(name) else "taken") if gemini else "unknown",
        name if wire == "openrouter" and "claude" in name else None,
    )


def _call_ids(wire: Format, nine_characters: bool) -> CallIds:
    if nine_characters:
        return CallIds(re.compile(r"[a-zA-Z0-9]{9}"), prefix="", digits=9)
    if wire == "anthropic":
        return CallIds(re.compile(r"[a-zA-Z0-9_-]{1,64}"))
    return CallIds(re.compile(r".{1,40}", re.DOTALL))  # OpenAI's longest


def fitted_history(messages: list[JsonObject], target: Target) -> list[JsonObject]:
    """`messages` as `target` takes them; the very same list where nothing needs a change, and never a changed one.

    - An assistant's message keeps what the target takes. A refusal, and sound that it cannot hear, become text; a
      message that is empty then is left out, and the user's messages around it become one.
    - A call without a result gets one that says so, and a result without a call becomes the user's text: every provider
      refuses both. Results stand directly behind their calls, each call has an id of its own.
    """
    if all(map(_is_plain, messages)):
        return messages
    fitted: list[JsonObject] = []
    gap = False
    for message in messages:
        kept = _fitted(message, target)
        if kept is None:
            gap = True
            continue
        if gap and fitted and kept.get("role") == fitted[-1].get("role") == "user":
            kept = joined(fitted.pop(), kept)
        fitted.append(kept)
        gap = False
    # Nobody takes a conversation of nothing.
    fitted = fitted or [{"role": "user", "content": NO_TEXT}]
    return in_pairs(fitted, target.call_ids, media_in_results=target.format == "anthropic")


def _is_plain(message: JsonObject) -> bool:
    """Whether there is nothing in it that any provider takes otherwise. Asked of every message, so it is quick."""
    role = message.get("role")
    if role == "user" or role == "system":
        return True
    if role != "assistant" or len(message) != 2:
        return False
    content = message.get("content")
    return type(content) is str and content != "" and not content.isspace()


def _fitted(message: JsonObject, target: Target) -> JsonObject | None:
    """One message by itself; None: it says nothing."""
    role = message.get("role")
    if role == "assistant":
        return _answer(message, target)
    # Every server knows the older name, and OpenAI takes it for the newer one.
    return {**message, "role": "system"} if role == "developer" and target.sent_on else message


def _answer(message: JsonObject, target: Target) -> JsonObject | None:
    fitted = {key: value for key, value in message.items() if value is not None and key in target.takes}
    fitted["content"] = _content(message, target)
    calls = as_objects(fitted.pop("tool_calls", None))
    if calls:
        fitted["tool_calls"] = _calls(calls, target)
    if (sound := as_object(message.get("audio"))) and target.sent_on and not _is_read(sound, target):
        fitted["audio"] = {"id": sound.get("id")}
    _carry_reasoning(message, fitted, target)
    # Thinking alone is no answer to any provider: Claude takes no message that ends with it.
    says = _has_text(fitted["content"]) or any(fitted.get(key) for key in _SAYING)
    return fitted if says else None


_SAYING = ("tool_calls", "function_call", "audio", "images")


def _is_read(sound: JsonObject, target: Target) -> bool:
    """Whether the transcript stands for the sound: elsewhere its id says nothing."""
    return "audio" not in target.takes and "transcript" in sound


def _has_text(content: Any) -> bool:
    return bool(content.strip()) if isinstance(content, str) else bool(content)


def _content(message: JsonObject, target: Target) -> Any:
    """The content with what stands in other places of OpenAI's message and only OpenAI reads there."""
    content = message.get("content")
    if isinstance(content, list):
        content = _parts(as_objects(content), target)
    extra = [message.get("refusal")]
    if (sound := as_object(message.get("audio"))) and _is_read(sound, target):
        extra.append(sound.get("transcript"))
    texts = [text for text in extra if isinstance(text, str) and text]
    if not texts:
        return content
    if isinstance(content, list):
        return [*content, *({"type": "text", "text": text} for text in texts)]
    return "\n\n".join([content, *texts] if content else texts)


def _parts(parts: Iterable[JsonObject], target: Target) -> Any:
    kept = [_readable(part) for part in parts if target.thinking_parts or part.get("type") not in REASONING_PARTS]
    # One text, for those servers that take no parts from an assistant; marks (for caching) need their part.
    if target.sent_on and all(part.keys() == {"type", "text"} for part in kept):
        return "".join(str(part["text"]) for part in kept)
    return kept


def _readable(part: JsonObject) -> JsonObject:
    return {"type": "text", "text": part.get("refusal") or ""} if part.get("type") == "refusal" else part


def _calls(calls: list[JsonObject], target: Target) -> list[JsonObject]:
    found = [_call(call, target) for call in calls]
    # Only the first of parallel calls carries a signature.
    if target.signatures == "needed" and not found[0].get("extra_content"):
        found[0]["extra_content"] = _NO_SIGNATURE
    return found


def _call(call: JsonObject, target: Target) -> JsonObject:
    function = call.get("function")
    if not isinstance(function, dict):
        return dict(call)
    wanted = {"name": function.get("name"), "arguments": _arguments(function.get("arguments"))}
    if _MARK in function:
        wanted[_MARK] = function[_MARK]
    fitted = {"id": call.get("id"), "type": "function", "function": wanted}
    carried = (_MARK,) if target.signatures == "unknown" else (_MARK, "extra_content")
    return fitted | {key: call[key] for key in carried if call.get(key)}


def _arguments(arguments: Any) -> str:
    """JSON of an object: templates of many servers read it. What a model wrote instead is kept under one key."""
    if isinstance(arguments, dict):
        return dump(arguments).decode()
    text = arguments if isinstance(arguments, str) and arguments.strip() else ""
    parsed = object_of(text, "arguments")
    return text if text and parsed != {"arguments": text} else dump(parsed).decode()


def _carry_reasoning(message: JsonObject, fitted: JsonObject, target: Target) -> None:
    name = target.reasoning_as
    if name is not None and fitted.get("tool_calls"):
        text = reasoning_of(message)
        fitted[name] = text if text.strip() else _NO_REASONING
    thinking = readable(message.get("thinking_blocks"), target.claude) if target.claude else []
    if thinking and "reasoning_details" not in fitted:
        fitted["reasoning_details"] = [{**_detail_of(block), "index": index} for index, block in enumerate(thinking)]


def _detail_of(block: JsonObject) -> JsonObject:
    if block.get("type") == "redacted_thinking":
        return {"type": "reasoning.encrypted", "data": block.get("data"), "format": _CLAUDE_FORMAT}
    signed = {"text": block.get("thinking"), "signature": block.get("signature")}
    return {"type": "reasoning.text", **signed, "format": _CLAUDE_FORMAT}
