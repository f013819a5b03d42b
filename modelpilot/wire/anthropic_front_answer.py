"""Answers for clients of Anthropic's format: an OpenAI completion as a Message, OpenAI chunks as a Messages stream."""

from collections.abc import Collection
from typing import Any

from modelpilot.wire.anthropic import tool_use_block
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump
from modelpilot.wire.merge import is_object
from modelpilot.wire.parts import reasoning_of, text_of
from modelpilot.wire.thinking import in_order, signer, unplaced
from modelpilot.wire.usage import cache_creation, parse_usage

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
    return {
        "id": completion.get("id"),
        "type": "message",
        "role": "assistant",
        "model": completion.get("model"),
        "content": _blocks(message, with_thinking),
        **ending(choice, stop_sequences),
        "usage": _usage_of(completion.get("usage")),
    }


def ending(choice: JsonObject, stop_sequences: Collection[str]) -> JsonObject:
    """Why the answer ended, in Anthropic's words; a stop sequence only where the provider named one of the client's."""
    finish, stopped_by = choice.get("finish_reason"), choice.get("stop_reason")
    if finish == "stop" and isinstance(stopped_by, str) and stopped_by in stop_sequences:
        return {"stop_reason": "stop_sequence", "stop_sequence": stopped_by}
    return {"stop_reason": _STOP_REASONS.get(str(finish), "end_turn"), "stop_sequence": None}


def _usage_of(usage: Any) -> JsonObject:
    """Token counts: Anthropic counts cached input beside the rest, OpenAI within it."""
    counts = parse_usage(usage)
    return {
        "input_tokens": counts.input_tokens - counts.cached_tokens - counts.cache_write_tokens,
        "output_tokens": counts.output_tokens,
        "cache_read_input_tokens": counts.cached_tokens,
        "cache_creation_input_tokens": counts.cache_write_tokens,
        "cache_creation": cache_creation(counts),
    }


def _blocks(message: JsonObject, with_thinking: bool) -> list[JsonObject]:
    thinking = _thinking(message) if with_thinking else []
    texts = [text for text in (text_of(message.get("content")), message.get("refusal")) if text]
    calls = [_use_block(call) for call in as_objects(message.get("tool_calls"))]
    return in_order(thinking, [{"type": "text", "text": text} for text in texts], calls)


def _use_block(call: JsonObject) -> JsonObject:
    """The call as a block; a signature of Gemini's on it comes back with the block."""
    extra = call.get("extra_content")
    return {**tool_use_block(call), "extra_content": extra} if extra else tool_use_block(call)


def _thinking(message: JsonObject) -> list[JsonObject]:
    blocks = as_objects(message.get("thinking_blocks"))
    reasoning = reasoning_of(message)
    return blocks or ([{"type": "thinking", "thinking": reasoning, "signature": ""}] if reasoning else [])


PING: JsonObject = {"type": "ping"}


class MessageEncoder:
    """Translates the chunks of one stream into events. `with_thinking`: the client asked to see how the model thinks;
    `stop_sequences`: those that it gave."""

    def __init__(self, *, with_thinking: bool, stop_sequences: Collection[str] = ()) -> None:
        self._with_thinking = with_thinking
        self._stop_sequences = stop_sequences
        self._events: list[JsonObject] = []
        self._started = False
        self._signer: JsonObject = {}
        self._blocks = 0
        self._open: str | None = None  # type of the newest block while it is open
        self._signed = False  # whether the newest block of thinking has had its signature
        self._calls: dict[int, tuple[int, Any]] = {}  # OpenAI's index of a call → index of its block, id
        self._arguments: list[str] = []  # of the newest call, which `_newest` is the index of
        self._newest = 0
        self._waiting: list[JsonObject] = []  # pieces of calls behind it: a Message has one block after the other
        self._last: JsonObject = {}  # the choice that said why the answer ended
        self._usage: JsonObject = {}
        self.prompt_tokens = 0
        """The estimated size of the prompt, which stands in the first event; the last one has the counts."""

    def take(self, chunk: JsonObject) -> list[JsonObject]:
        """The events of the next chunk."""
        self._start(chunk.get("id"), chunk.get("model"))
        self._usage = as_object(chunk.get("usage")) or self._usage
        for choice in as_objects(chunk.get("choices")):
            if not choice.get("index"):  # a Message has one choice
                self._take_delta(as_object(choice.get("delta")))
                self._last = choice if choice.get("finish_reason") else self._last
        return self._taken()

    def end(self, message_id: str, model: str, **fields: Any) -> list[JsonObject]:
        """The events that end the message; `fields` go onto `message_delta`. Id and model serve an empty stream."""
        self._start(message_id, model)
        while self._waiting:
            self._close()
            self._take_waiting()
        self._close()
        delta = ending(self._last, self._stop_sequences)
        usage = _usage_of(self._usage)
        self._events += [{"type": "message_delta", "delta": delta, "usage": usage, **fields}, {"type": "message_stop"}]
        return self._taken()

    def _taken(self) -> list[JsonObject]:
        events, self._events = self._events, []
        return events

    def _start(self, message_id: Any, model: Any) -> None:
        if self._started:
            return
        self._started = True
        self._signer = {"model": by} if (by := signer(str(model or ""))) else {}
        message = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage_of({"prompt_tokens": self.prompt_tokens}),
        }
        self._events.append({"type": "message_start", "message": message})

    def _take_delta(self, delta: JsonObject) -> None:
        if self._with_thinking:
            if len(delta) > 1 and any("after" in block for block in as_objects(delta.get("thinking_blocks"))):
                self._take_blocks(_blocks(delta, with_thinking=True))
                return
            self._take_thinking(delta)
        for text in (text_of(delta.get("content")), delta.get("refusal")):
            if text:
                self._continue("text", {"type": "text", "text": ""}, {"type": "text_delta", "text": text})
        for call in as_objects(delta.get("tool_calls")):
            self._take_call(call)

    def _take_blocks(self, blocks: list[JsonObject]) -> None:
        """All of a stored answer, which comes at once: its thinking stays where it was."""
        for block in blocks:
            match block["type"]:
                case "text":
                    self._take_delta({"content": block["text"]})
                case "tool_use":
                    function = {"name": block["name"], "arguments": dump(block["input"]).decode()}
                    self._take_call({**block, "index": len(self._calls), "function": function})
                case _:
                    self._take_thinking_block(block)

    def _take_thinking(self, delta: JsonObject) -> None:
        reasoning, blocks = reasoning_of(delta), as_objects(delta.get("thinking_blocks"))
        if reasoning and not blocks:
            self._continue_thinking({"type": "thinking_delta", "thinking": reasoning})
        for block in blocks:
            self._take_thinking_block(block)

    def _take_thinking_block(self, block: JsonObject) -> None:
        if block.get("type") == "redacted_thinking":
            self._begin("redacted_thinking", unplaced(block))
        else:
            # A signed block comes behind its text, or instead of it where the answer was stored.
            if self._open != "thinking":
                self._continue_thinking({"type": "thinking_delta", "thinking": block.get("thinking") or ""})
            self._sign(block.get("signature") or "")
        self._close()

    def _sign(self, signature: str) -> None:
        self._continue_thinking({"type": "signature_delta", "signature": signature})
        self._signed = True

    def _continue_thinking(self, delta: JsonObject) -> None:
        empty = {"type": "thinking", "thinking": "", "signature": "", **self._signer}
        self._continue("thinking", empty, delta)

    def _take_call(self, call: JsonObject) -> None:
        index, function = call.get("index") or 0, as_object(call.get("function"))
        if index != self._newest and self._open == "tool_use" and not is_object("".join(self._arguments)):
            self._waiting.append(call)
            return
        known = self._calls.get(index)
        # A new id under a known index is a new call: some servers give every parallel call the index 0.
        if known is None or call.get("id") not in (None, "", known[1]):
            name = function.get("name") or ""
            extra = {"extra_content": call["extra_content"]} if call.get("extra_content") else {}
            self._begin("tool_use", {"type": "tool_use", "id": call.get("id"), "name": name, "input": {}, **extra})
            known = self._calls[index] = (self._blocks - 1, call.get("id"))
            self._newest, self._arguments = index, []
        if arguments := function.get("arguments"):
            self._arguments.append(arguments)
            self._delta(known[0], {"type": "input_json_delta", "partial_json": arguments})
        if self._waiting and is_object("".join(self._arguments)):
            self._take_waiting()

    def _take_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self._take_call(call)

    def _continue(self, kind: str, empty: JsonObject, delta: JsonObject) -> None:
        if self._open != kind:
            self._begin(kind, empty)
        self._delta(self._blocks - 1, delta)

    def _begin(self, kind: str, block: JsonObject) -> None:
        self._close()
        self._events.append({"type": "content_block_start", "index": self._blocks, "content_block": block})
        self._open, self._blocks, self._signed = kind, self._blocks + 1, False

    def _delta(self, index: int, delta: JsonObject) -> None:
        self._events.append({"type": "content_block_delta", "index": index, "delta": delta})

    def _close(self) -> None:
        if self._open == "thinking" and not self._signed:
            self._sign("")  # clients wait for one, and models of other providers make none
        if self._open is not None:
            self._events.append({"type": "content_block_stop", "index": self._blocks - 1})
            self._open = None
