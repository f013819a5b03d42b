"""Any answer of any provider, sent back with its tools' results, is accepted by every other provider, on both fronts.

The oracle is the simulator's strict mode, which refuses what the real providers refuse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic.types
import openai.types.chat
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelpilot.chat.body import ChatBody
from modelpilot.providers.fitting import dishonours, fit
from modelpilot.providers.kinds import KINDS, ProviderKind
from modelpilot.providers.manners import manners_of
from modelpilot.wire.anthropic_front import MessagesBody, chat_request_of
from modelpilot.wire.anthropic_front_answer import message_of
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.jsonb import JsonObject
from simulator import strict
from simulator.wire_anthropic import Anthropic
from simulator.wire_gemini import Gemini
from simulator.wire_openai import OpenAI

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", " ", "\n\n", "fine", "Ü 天"]
)
ARGUMENTS = st.dictionaries(st.text("abc", min_size=1), TEXT | st.integers(-9, 9), max_size=2)
NAMES = st.sampled_from(["get_weather", "f"])
IDS = st.sampled_from(["call_1", "call_1", "functions.f:0", "", "x" * 60, "chatcmpl-tool-1"]) | st.uuids().map(str)
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("get_weather", "f")
]


def _call(call_id: str, name: str, arguments: str) -> JsonObject:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _completion(message: JsonObject) -> JsonObject:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


@st.composite
def openai_answers(draw: st.DrawFn) -> JsonObject:
    """OpenAI: text, a refusal, sound or calls, with nulls and annotations beside them."""
    said: JsonObject = {"content": draw(st.none() | TEXT), "refusal": None, "annotations": []}
    if draw(st.booleans()):
        calls = draw(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3))
        said["tool_calls"] = [_call(f"call_{i}", name, orjson.dumps(a).decode()) for i, (name, a) in enumerate(calls)]
    elif draw(st.booleans()):
        said |= {"content": None, "refusal": draw(TEXT)}
    elif draw(st.booleans()):
        said |= {"content": None, "audio": {"id": "audio_1", "data": "QQ==", "expires_at": 1, "transcript": draw(TEXT)}}
    return _completion(said)


@st.composite
def compatible_answers(draw: st.DrawFn) -> JsonObject:
    """Compatible servers: reasoning under three names, any ids, arguments that are no JSON, pictures, extras."""
    reasoning = draw(TEXT)
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": reasoning}]}
    content = draw(st.none() | TEXT | TEXT.map(lambda text: [thinking, {"type": "text", "text": text}]))
    said: JsonObject = {
        "content": content,
        **draw(st.sampled_from([{}, {"reasoning": reasoning}, {"executed_tools": []}])),
    }
    if draw(st.booleans()):
        said["reasoning_content"] = reasoning
    if draw(st.booleans()):
        said["images"] = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}]
    arguments = ARGUMENTS.map(lambda value: orjson.dumps(value).decode()) | st.sampled_from(["", "{", "3"])
    if calls := draw(st.lists(st.tuples(IDS, NAMES, arguments), max_size=3)):
        said["tool_calls"] = [_call(*call) for call in calls]
    return _completion(said)


@st.composite
def openrouter_answers(draw: st.DrawFn) -> JsonObject:
    """OpenRouter: reasoning_details, those of Claude signed."""
    claude = draw(st.booleans())
    details = [_detail(text, index, claude) for index, text in enumerate(draw(st.lists(TEXT, max_size=2)))]
    said: JsonObject = {"content": draw(TEXT), "refusal": None, "reasoning": "Hm", "reasoning_details": details}
    if calls := draw(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=2)):
        said["tool_calls"] = [_call(f"toolu_{i}", name, orjson.dumps(a).decode()) for i, (name, a) in enumerate(calls)]
    return _completion(said)


def _detail(text: str, index: int, claude: bool) -> JsonObject:
    if not claude:
        return {"type": "reasoning.encrypted", "data": "opaque", "format": "openai-responses-v1", "index": index}
    signed = strict.thought(text, [{"type": "thinking"}] * index, "claude-sonnet-4-5")["signature"]
    return {
        "type": "reasoning.text",
        "text": text,
        "signature": signed,
        "format": "anthropic-claude-v1",
        "index": index,
    }


@st.composite
def claude_answers(draw: st.DrawFn, model: str) -> JsonObject:
    """Claude: texts, signed and redacted thinking, and calls in any order."""
    blocks: list[JsonObject] = []
    for index, kind in enumerate(draw(st.lists(st.sampled_from(["text", "thought", "redacted", "call"]), max_size=6))):
        match kind:
            case "text":
                blocks.append({"type": "text", "text": draw(TEXT)})
            case "thought":
                blocks.append(strict.thought(draw(TEXT), blocks, model))
            case "redacted":
                blocks.append(strict.redacted(blocks, model))
            case _:
                call = {"id": f"toolu_{index}", "name": draw(NAMES), "input": draw(ARGUMENTS)}
                blocks.append({"type": "tool_use", **call})
    return {
        "type": "message",
        "id": "msg_1",
        "model": f"{model}-20250929",
        "content": blocks,
        "stop_reason": "end_turn",
    }


@st.composite
def gemini_answers(draw: st.DrawFn) -> JsonObject:
    """Gemini: thoughts, texts, pictures, and calls of which the first is signed, with and without ids."""
    parts: list[JsonObject] = [{"text": text, "thought": True} for text in draw(st.lists(TEXT, max_size=1))]
    parts += [{"text": text} for text in draw(st.lists(TEXT, max_size=2))]
    if draw(st.booleans()):
        parts.append({"inlineData": {"mimeType": "image/png", "data": "QQ=="}})
    for index, (name, arguments) in enumerate(draw(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3))):
        call: JsonObject = {"name": name, "args": arguments, **draw(st.sampled_from([{}, {"id": f"g{index}"}]))}
        parts.append({"functionCall": call, **({} if index else {"thoughtSignature": strict.call_signature(call)})})
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": "gemini", "usageMetadata": {}}


@dataclass(frozen=True)
class Provider:
    """One of those between which a conversation changes."""

    kind: ProviderKind
    model: str
    server: str = ""
    answers: Callable[[], st.SearchStrategy[JsonObject]] = openai_answers


PROVIDERS = {
    "openai": Provider("openai", "gpt-5-mini", "openai"),
    "openai-audio": Provider("openai", "gpt-audio", "openai"),
    "compatible": Provider("openai", "llama-3.3-70b", "compatible", compatible_answers),
    "mistral": Provider("openai", "magistral-medium", "mistral", compatible_answers),
    "moonshot": Provider("openai", "kimi-k2-thinking", "moonshot", compatible_answers),
    "openrouter-claude": Provider("openrouter", "anthropic/claude-sonnet-4.5", "openrouter", openrouter_answers),
    "openrouter": Provider("openrouter", "openai/gpt-5", "openrouter", openrouter_answers),
    "claude": Provider("anthropic", "claude-sonnet-4-5", "", lambda: claude_answers("claude-sonnet-4-5")),
    "newer-claude": Provider("anthropic", "claude-opus-4-8", "", lambda: claude_answers("claude-opus-4-8")),
    "anthropic-glm": Provider("anthropic", "glm-4.7", "", lambda: claude_answers("glm-4.7")),
    "gemini-2": Provider("google", "gemini-2.5-flash", "", gemini_answers),
    "gemini-3": Provider("google", "gemini-3-pro", "", gemini_answers),
}
DIALECTS = {"anthropic": Anthropic(), "google": Gemini()}


def completion_of(source: Provider, raw: JsonObject) -> JsonObject:
    """What the client of our chat route gets."""
    assembler = ChunkAssembler()
    for chunk in KINDS[source.kind].wire.decoder({}, "req_1", 1).decode_whole(raw):
        assembler.add(chunk)
    return assembler.result()


def chat_turns(completion: JsonObject, form: str, result: str) -> list[JsonObject]:
    """The answer as a client of the chat route appends it, with the results of its calls."""
    message = completion["choices"][0]["message"]
    if form != "raw":
        parsed = openai.types.chat.ChatCompletion.construct(**completion)
        message = parsed.choices[0].message.model_dump(exclude_none=form == "exclude_none", warnings=False)
    calls = message.get("tool_calls") or []
    return [message, *({"role": "tool", "tool_call_id": call["id"], "content": result} for call in calls)]


def message_turns(completion: JsonObject, form: str, result: str) -> list[JsonObject]:
    """The same on the Messages route."""
    message = message_of(completion, with_thinking=True)
    blocks = message["content"]
    if form != "raw":
        parsed = anthropic.types.Message.construct(**message)
        blocks = [block.model_dump(exclude_none=form == "exclude_none", warnings=False) for block in parsed.content]
    used = [block["id"] for block in blocks if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call_id, "content": result} for call_id in used]
    return [{"role": "assistant", "content": blocks}, *([{"role": "user", "content": results}] if results else [])]


def check_accepted(target: Provider, body: JsonObject) -> None:
    """Raises SimError where the provider refuses the request that we make of the chat `body`."""
    ChatBody.model_validate(body)
    manners = manners_of(target.kind, "", target.model)
    assert dishonours(body)(target.kind, manners) is None
    fitted = fit(body, target.kind, manners).body
    request = orjson.loads(orjson.dumps(KINDS[target.kind].wire.chat_request(fitted, target.model, False, manners)))
    path = {"model": target.model, "method": "streamGenerateContent", "alt": "sse"}
    dialect: Any = DIALECTS.get(target.kind, OpenAI())
    dialect.parse(request, path)
    strict.check(dialect.name, target.server, request, target.model)


@st.composite
def conversations(draw: st.DrawFn, first: Provider, front: str) -> list[JsonObject]:
    """Turns of which the first is answered by `first`, and some more by others; clients lose and add messages."""
    sources = [first, *(PROVIDERS[name] for name in draw(st.lists(st.sampled_from(sorted(PROVIDERS)), max_size=2)))]
    turns_of = chat_turns if front == "chat" else message_turns
    form = draw(st.sampled_from(["raw", "dump", "exclude_none"]))
    messages: list[JsonObject] = []
    for source in sources:
        messages.append({"role": "user", "content": draw(TEXT)})
        turns = turns_of(completion_of(source, draw(source.answers())), form, draw(TEXT))
        if len(turns) > 1 and draw(st.booleans()):
            turns.pop(draw(st.integers(0, len(turns) - 1)))  # a call without its result, or a result without its call
        if draw(st.booleans()):
            turns.insert(draw(st.integers(1, len(turns))), {"role": "user", "content": "and?"})
        messages += turns
    return messages[draw(st.integers(0, 1)) :]


@pytest.mark.parametrize("target", PROVIDERS)
@pytest.mark.parametrize("source", PROVIDERS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_every_provider_goes_on_with_the_answers_of_every_other(source: str, target: str, data: st.DataObject) -> None:
    """Whatever was said, by whomever, and however the client sends it back, the next provider takes it."""
    front = data.draw(st.sampled_from(["chat", "messages"]))
    messages = data.draw(conversations(PROVIDERS[source], front))
    thinking = data.draw(st.booleans())
    if front == "chat":
        body: JsonObject = {"messages": messages, "tools": TOOLS, **({"reasoning_effort": "low"} if thinking else {})}
    else:
        tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("get_weather", "f")]
        asked = {"model": "m", "max_tokens": 4_000, "messages": messages, "tools": tools}
        asked |= {"thinking": {"type": "enabled", "budget_tokens": 1_024}} if thinking else {}
        MessagesBody.model_validate(asked)
        body = chat_request_of(asked)
    check_accepted(PROVIDERS[target], body)
