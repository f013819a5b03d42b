"""From the chunks of a stream to the one completion that they add up to."""

from collections.abc import Iterable, Iterator
from typing import Any

from modelpilot.requests.outcome import Usage
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.jsonb import JsonObject, as_object
from modelpilot.wire.merge import CallPositions, merge_name, merge_object
from modelpilot.wire.parts import media_of, text_of, thinking_of
from modelpilot.wire.usage import parse_usage, token_count, usage_in

_CHUNK_ONLY = frozenset({"choices", "usage", "object", "obfuscation"})
_CHOICE_KNOWN = frozenset({"index", "delta", "finish_reason", "logprobs"})
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
# Beside an answer, and no answer by themselves.
_REASONING = frozenset({"reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"})
_BESIDE = _REASONING | {"role", "channel", "annotations", "citations"}


class ChunkAssembler:
    """Adds up valid `chat.completion.chunk` objects (`openai.checked_chunk`) into one `chat.completion`."""

    __slots__ = ("_choices", "_top", "_usage", "content_started")

    def __init__(self) -> None:
        self._top: JsonObject = {"id": "", "object": "chat.completion", "created": 0, "model": ""}
        self._choices: dict[int, _Choice] = {}
        self._usage: JsonObject | None = None
        self.content_started = False
        """Whether any output was seen: text, refusal, reasoning, a tool call, audio (a role alone is none)."""

    def extend(self, chunks: Iterable[Chunk]) -> None:
        """Take the next chunks of the stream."""
        for chunk in chunks:
            choice = self._choices.get(0)
            if chunk.text is None or choice is None:
                self.add(chunk.data)
            else:
                if chunk.decoded:  # else all around the text is as before
                    self._add_top(chunk.data)
                choice.texts["content"].append(chunk.text)
                self.content_started = True

    def add(self, chunk: JsonObject) -> None:
        """Take the next chunk of the stream."""
        self._add_top(chunk)
        for raw in chunk["choices"]:
            index = raw.get("index") or 0
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice()
            choice.add(raw)
            if not self.content_started:
                self.content_started = has_output(raw.get("delta"))

    @property
    def usage(self) -> Usage:
        """The token counts reported so far (all 0 where the provider reported none)."""
        return parse_usage(self._usage)

    @property
    def reported(self) -> JsonObject | None:
        """The provider's report as it came; None: there was none."""
        return self._usage

    @property
    def service_tier(self) -> Any:
        """The tier that the provider says it served at."""
        return self._top.get("service_tier") or as_object(self._usage).get("service_tier")

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended; None while it has not."""
        return self._choices[min(self._choices)].finish_reason if self._choices else None

    @property
    def text(self) -> str:
        """The first choice's text so far: what a verified resume compares with."""
        return "".join(self._choices[min(self._choices)].texts["content"]) if self._choices else ""

    @property
    def output_texts(self) -> list[str]:
        """What has come of every choice so far: text, refusal, reasoning, names and arguments of calls."""
        return [text for choice in self._choices.values() for text in choice.output_texts() if text]

    def result(self) -> JsonObject:
        """The completion so far; it owns its parts, so later chunks do not change it."""
        completion = merge_object({}, self._top)
        completion["choices"] = [self._choices[index].result(index) for index in sorted(self._choices)]
        if self._usage is not None:
            completion["usage"] = self._usage
        return completion

    def _add_top(self, chunk: JsonObject) -> None:
        for key, value in chunk.items():
            if key in _CHUNK_ONLY:
                continue
            # The first id, model and time stand (Azure's first chunk has empty ones); of anything else, the last.
            if value is not None and (key not in ("id", "created", "model") or not self._top[key]):
                self._top[key] = value
        usage = usage_in(chunk)
        if usage is not None and (self._usage is None or any(map(token_count, usage.values()))):
            self._usage = usage


def has_output(delta: Any) -> bool:
    """Whether a delta carries output of the model, and not only a role or empty fields."""
    return any(value and key != "role" for key, value in as_object(delta).items())


def has_answer(delta: Any) -> bool:
    """Whether a delta carries a part of the answer itself: reasoning, which `has_output` counts, is none."""
    if not isinstance(delta, dict) or delta.keys() <= _BESIDE:
        return False
    return any(
        value
        and key not in _BESIDE
        and (key != "content" or isinstance(value, str) or media_of(value) or text_of(value))
        for key, value in delta.items()
    )


class _Choice:
    """One choice under construction. Texts are kept in pieces: joining at every delta would be quadratic."""

    __slots__ = ("calls", "extra", "finish_reason", "logprobs", "message", "others", "saw_logprobs", "texts")

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
        self.message: JsonObject = {"role": "assistant", "content": None}
        self.calls = _ToolCalls()
        self.logprobs: JsonObject | None = None
        self.saw_logprobs = False
        self.finish_reason: str | None = None
        self.extra: JsonObject = {}
        self.others: list[tuple[int, JsonObject]] = []  # content parts that are no text, behind so many pieces of text

    def add(self, raw: JsonObject) -> None:
        for key, value in as_object(raw.get("delta")).items():
            self._add_field(key, value)
        if reason := raw.get("finish_reason"):
            self.finish_reason = reason
        if "logprobs" in raw:
            self._add_logprobs(raw["logprobs"])
        for key, value in raw.items():
            if key not in _CHOICE_KNOWN:
                self._add_extra(key, value)

    def _add_field(self, key: str, value: Any) -> None:
        if key in self.texts and isinstance(value, str):
            self.texts[key].append(value)
            self.message.setdefault(key, None)
        elif key == "content" and isinstance(value, list):
            self._add_parts(value)
        elif key == "tool_calls" and value:
            self.calls.add(value)
        elif key == "function_call" and isinstance(value, dict):
            _add_function(self.message, key, value)
        elif value is None:
            self.message.setdefault(key, None)
        elif key != "role" or value:
            merge_object(self.message, {key: value})

    def _add_parts(self, content: list[Any]) -> None:
        """Content in parts (Mistral's): text and reasoning go where clients look for them."""
        pieces = self.texts["content"]
        for part in content:
            if media := media_of([part]):
                self.others.append((len(pieces), merge_object({}, media[0])))
            elif thought := thinking_of([part]):
                self.texts["reasoning_content"].append(thought)
            else:
                pieces.append(text_of([part]))

    def _add_extra(self, key: str, value: Any) -> None:
        if isinstance(value, str):
            self.extra[key] = value  # a reason, never a piece of text
        else:
            merge_object(self.extra, {key: value})

    def _add_logprobs(self, logprobs: Any) -> None:
        self.saw_logprobs = True
        if isinstance(logprobs, dict):
            self.logprobs = merge_object(self.logprobs if self.logprobs is not None else {}, logprobs)

    def output_texts(self) -> Iterator[str]:
        yield from map("".join, self.texts.values())
        yield from self.calls.output_texts()
        yield from _texts_in(self.message.get("function_call"))

    def result(self, index: int) -> JsonObject:
        message = merge_object({}, self.message)
        for key, pieces in self.texts.items():
            if pieces:
                message[key] = "".join(pieces)
        if self.others:
            message["content"] = self._parts()
        if calls := self.calls.result():
            message["tool_calls"] = calls
        choice: JsonObject = {"index": index, "message": message, "finish_reason": self.finish_reason}
        if self.saw_logprobs:
            choice["logprobs"] = None if self.logprobs is None else merge_object({}, self.logprobs)
        return {**choice, **self.extra}

    def _parts(self) -> list[JsonObject]:
        pieces, parts, start = self.texts["content"], [], 0
        for end, other in (*self.others, (len(self.texts["content"]), {})):
            if text := "".join(pieces[start:end]):
                parts.append({"type": "text", "text": text})
            parts += [merge_object({}, other)] if other else []
            start = end
        return parts


def _add_function(owner: JsonObject, key: str, delta: JsonObject) -> None:
    function = owner[key] = owner.get(key) or {}
    for field, value in delta.items():
        if field == "name" and isinstance(value, str) and isinstance(function.get("name"), str):
            function["name"] = merge_name(function["name"], value)
        else:
            merge_object(function, {field: value})


def _texts_in(function: Any) -> Iterator[str]:
    yield from (value for value in as_object(function).values() if isinstance(value, str))


class _ToolCalls:
    """The tool calls of one choice: continued by `index`, in order of appearance."""

    __slots__ = ("_arguments", "_calls", "_positions")

    def __init__(self) -> None:
        self._calls: list[JsonObject] = []
        self._positions = CallPositions()
        self._arguments: list[list[str]] = []  # in pieces, as they may be long

    def add(self, deltas: list[JsonObject]) -> None:
        for ordinal, delta in enumerate(deltas):
            position = self._positions.of(delta, ordinal)
            if position == len(self._calls):
                self._calls.append({"id": "", "type": "function"})
                self._arguments.append([])
            self._merge(self._calls[position], self._arguments[position], delta)

    def _merge(self, call: JsonObject, arguments: list[str], delta: JsonObject) -> None:
        for key, value in delta.items():
            if key == "function" and isinstance(value, dict):
                if isinstance(piece := value.get("arguments"), str):
                    arguments.append(piece)
                rest = {name: item for name, item in value.items() if name != "arguments"}
                _add_function(call, "function", rest)
            elif key != "index" and value not in (None, ""):
                merge_object(call, {key: value})

    def output_texts(self) -> Iterator[str]:
        yield from map("".join, self._arguments)
        for call in self._calls:
            yield from _texts_in(call.get("function"))

    def result(self) -> list[JsonObject]:
        calls = [merge_object({}, call) for call in self._calls]
        for call, arguments in zip(calls, self._arguments, strict=True):
            if "function" in call:
                call["function"]["arguments"] = "".join(arguments)
        return calls
