"""Anthropic's messages: parsing, answers, stream events, errors. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from simulator import checks, images
from simulator import request as fields
from simulator.faults import SimError, names
from simulator.generate import Choice, Completion, Frame, ToolCall, named_frame, thought_before
from simulator.prefix_cache import blocks_of
from simulator.request import Called, ChatRequest, Tool, Turn
from simulator.strict import thought

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class Anthropic:
    """The dialect of `POST /v1/messages`."""

    name = "anthropic"

    def parse(self, body: Mapping[str, Any], path: Mapping[str, str]) -> ChatRequest:
        """Read a messages request; `max_tokens` is required, as it is at Anthropic."""
        model = fields.text_of(body.get("model"), "model")
        messages = fields.objects(body.get("messages"), "messages")
        limit = fields.whole(body, "max_tokens", 1)
        if not messages or limit is None:
            missing = "max_tokens" if messages else "messages"
            raise SimError(400, f"{missing}: Field required", param=missing)
        system = Turn("system", _text(body.get("system")))
        turns = (_turn(message, f"messages.{at}") for at, message in enumerate(messages))
        talk = fields.conversation([system, *turns])
        blocks = blocks_of(body)
        choice = fields.mapping(body.get("tool_choice"), "tool_choice")
        kind = str(choice.get("type", "auto"))
        return ChatRequest(
            model,
            talk.prompt,
            sum(block.tokens for block in blocks),
            talk.turns,
            talk.prefilled,
            stream=bool(body.get("stream")),
            include_usage=True,
            max_tokens=limit,
            stop=fields.strings(body.get("stop_sequences"), "stop_sequences"),
            tools=tuple(_tools(body)),
            tool_choice=str(choice.get("name")) if kind == "tool" else {"any": "required"}.get(kind, kind),
            parallel_tools=not choice.get("disable_parallel_tool_use"),
            schema=_schema(body),
            simulator=fields.mapping(body.get("simulator"), "simulator"),
            blocks=blocks if any(block.kept_s for block in blocks) else (),
        )

    def check(self, body: Mapping[str, Any], request: ChatRequest) -> None:
        """Raise `SimError` 400 for what Anthropic refuses in any request."""
        checks.anthropic(body, request.turns[1:], request.tools)  # The first turn is the system prompt.

    def body(self, completion: Completion) -> bytes:
        """Write a message."""
        choice = completion.choices[0]
        usage = _usage(completion, completion.completion_tokens)
        return orjson.dumps(_message(completion, _blocks(choice, completion.request.model), choice, usage))

    def frames(self, completion: Completion) -> list[Frame]:
        """Write the named events from `message_start` to `message_stop`."""
        choice = completion.choices[0]
        start = _message(completion, [], None, _usage(completion, 1))
        delta = {"stop_reason": _REASONS[choice.finish], "stop_sequence": choice.stop_sequence}
        if choice.stop_sequence:
            delta["stop_reason"] = "stop_sequence"
        last = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": completion.completion_tokens}}
        return [
            Frame(named_frame("message_start", {"type": "message_start", "message": start})),
            *_block_frames(choice, completion.request.model),
            Frame(named_frame("message_delta", last), closing=True),
            Frame(named_frame("message_stop", {"type": "message_stop"}), closing=True, terminator=True),
        ]

    def error(self, error: SimError) -> tuple[int, bytes]:
        """Write Anthropic's error envelope."""
        return error.status, orjson.dumps(_error(error))

    def error_frame(self, error: SimError) -> bytes:
        """Write an `error` event."""
        return named_frame("error", _error(error))


def _error(error: SimError) -> dict[str, Any]:
    shown = {"type": names(error.status)[2], "message": error.message}
    return {"type": "error", "error": shown, "request_id": "req_simulator"}


def _turn(message: Mapping[str, Any], place: str) -> Turn:
    role, content = str(message.get("role", "")), message.get("content")
    if content is None or isinstance(content, str):
        return Turn(role, content or "")
    blocks = fields.objects(content, "messages.content")
    media = sum(block.get("type") in ("image", "document") for block in blocks)
    calls = (block for block in blocks if block.get("type") == "tool_use")
    results = (block for block in blocks if block.get("type") == "tool_result")
    return Turn(
        role,
        _text(blocks),
        media,
        tuple(_images(blocks, f"{place}.content")),
        calls=tuple(Called(str(block.get("id", "")), str(block.get("name", ""))) for block in calls),
        results=tuple(Called(str(each.get("tool_use_id", "")), "", _text(each.get("content"))) for each in results),
    )


def _images(content: Any, place: str) -> Iterator[str]:
    """What is seen of the images, those in tools' results included."""
    for at, block in enumerate(content if isinstance(content, list) else ()):
        kind = block.get("type") if isinstance(block, Mapping) else None
        source = fields.mapping(block.get("source"), f"{place}.{at}.source") if kind == "image" else {}
        if kind == "tool_result":
            yield from _images(block.get("content"), f"{place}.{at}.tool_result.content")
        elif source.get("type") == "base64":
            here, media_type = f"{place}.{at}.image.source.base64", str(source.get("media_type"))
            yield images.described(source.get("data"), media_type, here, images.ANTHROPIC)
        elif source:
            yield images.of_url(source.get("url") or source.get("file_id"), f"{place}.{at}", images.ANTHROPIC)


def _text(content: Any) -> str:
    """The text of a string or of content blocks."""
    if content is None or isinstance(content, str):
        return content or ""
    blocks = fields.objects(content, "content")
    return "\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def _tools(body: Mapping[str, Any]) -> Iterator[Tool]:
    for tool in fields.objects(body.get("tools"), "tools"):
        schema = fields.mapping(tool.get("input_schema"), "tools.input_schema")
        yield Tool(fields.text_of(tool.get("name"), "tools.name"), schema, str(tool.get("description") or ""))


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    config = fields.mapping(body.get("output_config"), "output_config")
    wanted = fields.mapping(config.get("format") or body.get("output_format"), "output_config.format")
    return fields.mapping(wanted.get("schema"), "schema") if wanted.get("type") == "json_schema" else None


def _usage(completion: Completion, output: int) -> dict[str, Any]:
    cached = completion.request.cached
    return {
        "input_tokens": completion.request.prompt_tokens - sum(cached),
        "cache_creation_input_tokens": cached.written_5m + cached.written_1h,
        "cache_read_input_tokens": cached.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cached.written_5m,
            "ephemeral_1h_input_tokens": cached.written_1h,
        },
        "output_tokens": output,
    }


def _message(
    completion: Completion, content: list[dict[str, Any]], choice: Choice | None, usage: dict[str, Any]
) -> dict[str, Any]:
    reason = None if choice is None else "stop_sequence" if choice.stop_sequence else _REASONS[choice.finish]
    return {
        "id": f"msg_{completion.id}",
        "type": "message",
        "role": "assistant",
        "model": completion.request.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": choice.stop_sequence if choice else None,
        "usage": usage,
    }


def _tool_use(call: ToolCall, value: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id.replace("call_", "toolu_"), "name": call.name, "input": value}


def _blocks(choice: Choice, model: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for call in choice.tool_calls or (None,):
        if choice.thinks:
            blocks.append(thought(thought_before(call), blocks, model.partition("+")[0]))
        if call is not None:
            blocks.append(_tool_use(call, orjson.loads(call.arguments)))
        elif choice.pieces:
            blocks.append({"type": "text", "text": choice.text})
    return blocks


def _block_frames(choice: Choice, model: str) -> Iterator[Frame]:
    yield Frame(named_frame("ping", {"type": "ping"}))
    calls = iter(choice.tool_calls)
    # An answer without anything still begins a text at Anthropic.
    for index, block in enumerate(_blocks(choice, model) or [{"type": "text", "text": ""}]):
        empty, deltas = _begun(block, next(calls) if block["type"] == "tool_use" else None, choice)
        yield _start(index, empty)
        yield from (_delta(index, delta) for delta in deltas)
        yield _stop(index)


def _begun(block: dict[str, Any], call: ToolCall | None, choice: Choice) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The block as a stream begins it, and the deltas that fill it."""
    if call is not None:
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in call.deltas]
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in choice.pieces]
    thinking, signature = block["thinking"], block["signature"]
    deltas = [{"type": "thinking_delta", "thinking": thinking}, {"type": "signature_delta", "signature": signature}]
    return {**block, "thinking": "", "signature": ""}, deltas


def _start(index: int, block: dict[str, Any]) -> Frame:
    event = "content_block_start"
    return Frame(named_frame(event, {"type": event, "index": index, "content_block": block}))


def _delta(index: int, delta: dict[str, Any]) -> Frame:
    event = "content_block_delta"
    return Frame(named_frame(event, {"type": event, "index": index, "delta": delta}), token=True)


def _stop(index: int) -> Frame:
    event = "content_block_stop"
    return Frame(named_frame(event, {"type": event, "index": index}))
