"""OpenAI's chat completions: parsing, answers, stream chunks, errors. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from simulator import checks, images
from simulator import request as fields
from simulator.faults import SimError, names
from simulator.generate import Choice, Completion, Frame, data_frame, thought_before
from simulator.prefix_cache import plain_blocks
from simulator.request import Called, ChatRequest, Tool, Turn
from simulator.text import digest

_SLOT = "\x00"  # Stands for the token in a chunk that is serialized once; no JSON text contains it unescaped.
_SLOT_JSON = orjson.dumps(_SLOT)


class OpenAI:
    """The dialect of `POST /v1/chat/completions`."""

    name = "openai"

    def parse(self, body: Mapping[str, Any], path: Mapping[str, str]) -> ChatRequest:
        """Read a chat completion request; unknown fields are accepted."""
        model = fields.text_of(body.get("model"), "model")
        messages = fields.objects(body.get("messages"), "messages")
        if not messages:
            raise SimError(400, "messages must not be empty", param="messages")
        talk = fields.conversation(_turn(message, f"messages[{at}]") for at, message in enumerate(messages))
        options = fields.mapping(body.get("stream_options"), "stream_options")
        limit = fields.whole(body, "max_completion_tokens", 1) or fields.whole(body, "max_tokens", 1)
        return ChatRequest(
            model,
            talk.prompt,
            talk.tokens,
            talk.turns,
            talk.prefilled,
            stream=bool(body.get("stream")),
            include_usage=bool(options.get("include_usage")),
            n=fields.whole(body, "n", 1, fields.MAX_CHOICES) or 1,
            seed=fields.whole(body, "seed", -(2**63)) or 0,
            max_tokens=limit,
            stop=fields.strings(body.get("stop"), "stop"),
            tools=tuple(_tools(body)),
            tool_choice=_tool_choice(body.get("tool_choice")),
            parallel_tools=body.get("parallel_tool_calls") is not False,
            schema=_schema(body),
            top_logprobs=(fields.whole(body, "top_logprobs", 0, 20) or 0) if body.get("logprobs") else None,
            simulator=fields.mapping(body.get("simulator"), "simulator"),
            blocks=plain_blocks(body.get("tools"), messages, talk.turns),
        )

    def check(self, body: Mapping[str, Any], request: ChatRequest) -> None:
        """Raise `SimError` 400 for what OpenAI refuses in any request."""
        checks.openai(body, request.turns, request.tools)

    def body(self, completion: Completion) -> bytes:
        """Write a `chat.completion`."""
        choices = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": _logprobs(choice.pieces, completion.request.top_logprobs),
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(completion.choices)
        ]
        return orjson.dumps({**_head(completion, "chat.completion"), "choices": choices, "usage": _usage(completion)})

    def frames(self, completion: Completion) -> list[Frame]:
        """Write `chat.completion.chunk` events, then `[DONE]`; choices are interleaved token by token."""
        usage = completion.request.include_usage
        found = [
            Frame(_chunk(completion, index, {"role": "assistant", "content": _begun(choice), "refusal": None}))
            for index, choice in enumerate(completion.choices)
        ]
        streams = [_deltas(completion, index, choice) for index, choice in enumerate(completion.choices)]
        while streams:
            alive = []
            for stream in streams:
                if (data := next(stream, None)) is not None:
                    found.append(Frame(data, token=True))
                    alive.append(stream)
            streams = alive
        for index, choice in enumerate(completion.choices):
            found.append(Frame(_chunk(completion, index, {}, finish=choice.finish), closing=True))
        if usage:
            last = {**_head(completion, "chat.completion.chunk"), "choices": [], "usage": _usage(completion)}
            found.append(Frame(data_frame(last), closing=True))
        return [*found, Frame(b"data: [DONE]\n\n", closing=True, terminator=True)]

    def error(self, error: SimError) -> tuple[int, bytes]:
        """Write OpenAI's error envelope."""
        return error.status, orjson.dumps(_error(error))

    def error_frame(self, error: SimError) -> bytes:
        """Write a data event that carries the error envelope."""
        return data_frame(_error(error))


def _error(error: SimError) -> dict[str, Any]:
    kind, code, _, _ = names(error.status)
    shown = {"message": error.message, "type": kind, "param": error.param, "code": error.code or code}
    return {"error": shown}


def _turn(message: Mapping[str, Any], place: str) -> Turn:
    role = str(message.get("role", ""))
    content = message.get("content")
    calls = tuple(_calls(message)) if role == "assistant" else ()
    if content is None or isinstance(content, str):
        return Turn(role, content or "", calls=calls, results=_results(message, role, content or ""))
    parts = fields.objects(content, "messages.content")
    text = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    media = sum(part.get("type") != "text" for part in parts)
    return Turn(role, text, media, tuple(_images(parts, place)), calls, _results(message, role, text))


def _images(parts: list[Mapping[str, Any]], place: str) -> Iterator[str]:
    for at, part in enumerate(parts):
        if part.get("type") == "image_url":
            here = f"{place}.content[{at}].image_url"
            shown = part.get("image_url")
            yield images.of_url(shown.get("url") if isinstance(shown, Mapping) else shown, here, images.OPENAI)


def _results(message: Mapping[str, Any], role: str, text: str) -> tuple[Called, ...]:
    if role not in ("tool", "function"):
        return ()
    return (Called(str(message.get("tool_call_id", "")), str(message.get("name") or ""), text),)


def _calls(message: Mapping[str, Any]) -> Iterator[Called]:
    for call in fields.objects(message.get("tool_calls"), "messages.tool_calls"):
        function = fields.mapping(call.get("function"), "messages.tool_calls.function")
        yield Called(str(call.get("id", "")), str(function.get("name", "")), str(function.get("arguments", "")))


def _tools(body: Mapping[str, Any]) -> Iterator[Tool]:
    for tool in fields.objects(body.get("tools"), "tools"):
        function = fields.mapping(tool.get("function"), "tools.function")
        if tool.get("type", "function") == "function":
            name = fields.text_of(function.get("name"), "tools.function.name")
            schema = fields.mapping(function.get("parameters"), "tools.function.parameters")
            yield Tool(name, schema, str(function.get("description") or ""))


def _tool_choice(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(fields.mapping(value.get("function"), "tool_choice").get("name", "required"))
    return str(value or "auto")


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = fields.mapping(body.get("response_format"), "response_format")
    if wanted.get("type") == "json_object":
        return {}
    if wanted.get("type") != "json_schema":
        return None
    inner = fields.mapping(wanted.get("json_schema"), "response_format.json_schema")
    return fields.mapping(inner.get("schema"), "response_format.json_schema.schema") or {}


def _head(completion: Completion, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{completion.id}",
        "object": kind,
        "created": completion.created,
        "model": completion.request.model,
        "system_fingerprint": "fp_simulator",
    }


def _usage(completion: Completion) -> dict[str, Any]:
    prompt, answer = completion.request.prompt_tokens, completion.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": completion.request.cached.read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.thinks:
        message |= _thoughts(choice) | {"annotations": []}
    if choice.tool_calls:
        message["content"] = None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    return message


def _thoughts(choice: Choice) -> dict[str, Any]:
    """The reasoning under the names that DeepSeek and OpenRouter give it."""
    text = "\n".join(map(thought_before, choice.tool_calls or (None,)))
    detail = {"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}
    return {"reasoning_content": text, "reasoning": text, "reasoning_details": [detail]}


def _logprobs(tokens: tuple[str, ...], top: int | None) -> dict[str, Any] | None:
    if top is None:
        return None
    return {"content": [_logprob(token, top) for token in tokens], "refusal": None}


def _logprob(token: str, top: int) -> dict[str, Any]:
    share = 0.5 + int(digest("logprob", token)[:4], 16) / 0xFFFF * 0.49
    best = {"token": token, "logprob": round(math.log(share), 6), "bytes": list(token.encode())}
    others = [(f"{token}{'~' * rank}", (1 - share) / 2**rank) for rank in range(1, top)]
    listed = [{"token": text, "logprob": round(math.log(p), 6), "bytes": list(text.encode())} for text, p in others]
    return {**best, "top_logprobs": [best, *listed] if top else []}


def _chunk(
    completion: Completion, index: int, delta: Mapping[str, Any], *, logprobs: Any = None, finish: str | None = None
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    usage = {"usage": None} if completion.request.include_usage else {}
    return data_frame({**_head(completion, "chat.completion.chunk"), "choices": [choice], **usage})


def _begun(choice: Choice) -> str | None:
    """The content beside tool calls is null."""
    return None if choice.tool_calls else ""


def _deltas(completion: Completion, index: int, choice: Choice) -> Iterator[bytes]:
    """Yield one chunk per token: text, or tool calls with their arguments in pieces; thoughts come first."""
    if choice.thinks:
        yield _chunk(completion, index, _thoughts(choice))
    top = completion.request.top_logprobs
    if top is None:
        # Serialized once per choice, because benchmarks stream thousands of tokens per second.
        before, after = _chunk(completion, index, {"content": _SLOT}).split(_SLOT_JSON)
        yield from (before + orjson.dumps(piece) + after for piece in choice.pieces)
    else:
        for piece in choice.pieces:
            yield _chunk(completion, index, {"content": piece}, logprobs=_logprobs((piece,), top))
    for position, call in enumerate(choice.tool_calls):
        for start, piece in enumerate(call.deltas):
            opening = {"id": call.id, "type": "function"} if start == 0 else {}
            function = ({"name": call.name} if start == 0 else {}) | {"arguments": piece}
            yield _chunk(completion, index, {"tool_calls": [{"index": position, **opening, "function": function}]})
