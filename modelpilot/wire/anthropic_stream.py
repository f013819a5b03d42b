"""Anthropic's stream events as OpenAI chunks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modelpilot.requests.outcome import Usage
from modelpilot.wire.chunks import choice_of, chunk_of
from modelpilot.wire.failures import classify_embedded, malformed
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump
from modelpilot.wire.thinking import placed
from modelpilot.wire.usage import cache_counts, token_count, usage_object

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


@dataclass(slots=True)
class _Block:
    """A content block under construction; `call_index` is its place among the tool calls."""

    type: str
    call_index: int = 0
    has_arguments: bool = False
    input: JsonObject = field(default_factory=dict)
    thinking: list[str] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)


class AnthropicDecoder:
    """Translates one Messages stream. `created` (Unix seconds) stamps the chunks, which Anthropic does not."""

    native = False

    def __init__(self, created: int, *, may_be_empty: bool = False) -> None:
        self.may_be_empty = may_be_empty
        self._base: JsonObject = {"id": "", "created": created, "model": ""}
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._characters = 0
        self._thoughts = 0
        self._usage: JsonObject = {}
        self._last: JsonObject = {}  # the delta that named the newest stop reason
        self.counted = False
        """The final counts were seen."""
        self.ended = False
        """`message_stop` was seen."""
        self._handlers: dict[str, Callable[[JsonObject], list[JsonObject]]] = {
            "message_start": self._start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._stop,
        }

    @property
    def complete(self) -> bool:
        """A stop reason was seen."""
        return bool(self._last)

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of a whole message. Raises ProviderError."""
        if (error := classify_embedded(body)) is not None:
            raise error
        message = as_object(body)
        if message.get("type") != "message" or not message.get("stop_reason"):
            raise malformed("the provider's answer is no message")
        events: list[JsonObject] = [{"type": "message_start", "message": message}]
        for index, block in enumerate(as_objects(message.get("content"))):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.append({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": message["stop_reason"], "stop_sequence": message.get("stop_sequence")}
        events += [{"type": "message_delta", "delta": delta}, {"type": "message_stop"}]
        return [chunk for event in events for chunk in self.take(event)]

    def done(self) -> None:
        """`[DONE]`, which Anthropic does not send, but some relays do."""
        self.ended = True

    def closing(self) -> list[JsonObject]:
        """The finish reason, the last that was named, and the counts."""
        finish = choice_of({}, finish_reason=_FINISH_REASONS.get(str(self._last.get("stop_reason")), "stop"))
        if self._last.get("stop_sequence"):
            finish["stop_reason"] = self._last["stop_sequence"]  # the name that vLLM gave it in OpenAI's shape
        return [chunk_of(self._base, [finish]), chunk_of(self._base, [], usage=_usage_object(self._usage))]

    def take(self, event: JsonObject) -> list[JsonObject]:
        """The chunks in one event. Raises ProviderError."""
        # Unknown events are no error: Anthropic says that it may add some.
        handler = self._handlers.get(str(event.get("type")))
        return handler(event) if handler is not None else []

    def _start(self, event: JsonObject) -> list[JsonObject]:
        message = as_object(event.get("message"))
        self._base |= {"id": str(message.get("id", "")), "model": str(message.get("model", ""))}
        self._usage |= as_object(message.get("usage"))
        return [self._delta({"role": "assistant"})]

    def _block_start(self, event: JsonObject) -> list[JsonObject]:
        raw = as_object(event.get("content_block"))
        block = _Block(str(raw.get("type")))
        self._blocks[self._index(event)] = block
        match block.type:
            case "text":
                return self._text("content", raw.get("text"))
            case "tool_use":
                block.call_index, block.input = self._calls, as_object(raw.get("input"))
                self._calls += 1
                function = {"name": str(raw.get("name", "")), "arguments": ""}
                return [self._call(block, function, id=str(raw.get("id", "")), type="function")]
            case "thinking":
                return self._thinking(block, raw.get("thinking")) + self._sign(block, raw.get("signature"))
            case "redacted_thinking":
                return [self._thought(raw)]
        return []

    def _block_delta(self, event: JsonObject) -> list[JsonObject]:
        block = self._blocks.get(self._index(event))
        delta = as_object(event.get("delta"))
        if block is None:
            raise malformed("the provider continued a content block that it had not begun")
        match delta.get("type"):
            case "text_delta":
                return self._text("content", delta.get("text"))
            case "input_json_delta":
                return self._arguments(block, delta.get("partial_json"))
            case "thinking_delta":
                return self._thinking(block, delta.get("thinking"))
            case "signature_delta":
                return self._sign(block, delta.get("signature"))
            case "citations_delta":
                return [self._delta({"citations": [delta.get("citation")]})]
        return []

    def _block_stop(self, event: JsonObject) -> list[JsonObject]:
        block = self._blocks.pop(self._index(event), None)
        if block is None:
            return []
        if block.type == "tool_use" and not block.has_arguments:
            return self._arguments(block, dump(block.input).decode())
        if block.type == "thinking" and block.signature:
            signed = {"thinking": "".join(block.thinking), "signature": "".join(block.signature)}
            return [self._thought({"type": "thinking", **signed})]
        return []

    def _message_delta(self, event: JsonObject) -> list[JsonObject]:
        # Counts are cumulative; a later null, or some relay's 0, says nothing about an earlier number.
        if usage := as_object(event.get("usage")):
            self._usage |= {key: value for key, value in usage.items() if value}
            self.counted = True
        delta = as_object(event.get("delta"))
        self._last = delta if delta.get("stop_reason") else self._last
        return []

    def _stop(self, event: JsonObject) -> list[JsonObject]:
        del event
        self.ended = True
        return []

    def _text(self, name: str, text: Any) -> list[JsonObject]:
        if not isinstance(text, str) or not text:
            return []
        if name == "content":
            self._characters += len(text)
        return [self._delta({name: text})]

    def _thought(self, block: JsonObject) -> JsonObject:
        # It began behind what had come when it ended: Claude writes one block after the other.
        shown = placed(block, self._thoughts, self._characters, self._calls, self._base["model"])
        self._thoughts += 1
        return self._delta({"thinking_blocks": [shown]})

    def _thinking(self, block: _Block, text: Any) -> list[JsonObject]:
        chunks = self._text("reasoning_content", text)
        if chunks:
            block.thinking.append(text)
        return chunks

    def _sign(self, block: _Block, signature: Any) -> list[JsonObject]:
        if isinstance(signature, str) and signature:
            block.signature.append(signature)
        return []

    def _arguments(self, block: _Block, piece: Any) -> list[JsonObject]:
        # What the provider's own tools are called with (`server_tool_use`) is no call of the client's.
        if not isinstance(piece, str) or not piece or block.type != "tool_use":
            return []
        block.has_arguments = True
        return [self._call(block, {"arguments": piece})]

    def _call(self, block: _Block, function: JsonObject, **fields: str) -> JsonObject:
        return self._delta({"tool_calls": [{"index": block.call_index, **fields, "function": function}]})

    def _delta(self, delta: JsonObject) -> JsonObject:
        return chunk_of(self._base, [choice_of(delta)])

    def _index(self, event: JsonObject) -> int:
        index = event.get("index")
        if not isinstance(index, int):
            raise malformed("the provider sent a content block without an index")
        return index


def _usage_object(raw: JsonObject) -> JsonObject:
    # Anthropic counts cached input beside the rest, OpenAI within it.
    cached, five_minutes, hour = cache_counts(raw)
    tier = {"service_tier": raw["service_tier"]} if raw.get("service_tier") else {}
    counts = usage_object(
        Usage(
            input_tokens=token_count(raw.get("input_tokens")) + cached + five_minutes + hour,
            output_tokens=token_count(raw.get("output_tokens")),
            cached_tokens=cached,
            reasoning_tokens=token_count(as_object(raw.get("output_tokens_details")).get("thinking_tokens")),
            cache_write_5m_tokens=five_minutes,
            cache_write_1h_tokens=hour,
            web_searches=token_count(as_object(raw.get("server_tool_use")).get("web_search_requests")),
        )
    )
    return {**counts, **tier}
