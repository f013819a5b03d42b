"""OpenAI chunks as the events of a Responses stream."""

from dataclasses import dataclass, field
from typing import Any

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects
from modelpilot.wire.merge import CallPositions, merge_name, merge_object
from modelpilot.wire.parts import reasoning_of, text_of
from modelpilot.wire.responses_front_answer import (
    Asked,
    call_id_of,
    call_item,
    ended_as,
    incomplete_details,
    kept_reasoning,
    logprobs_of,
    message_item,
    reasoning_item,
    response_object,
    text_part,
    usage_of,
)

_REASONING_TEXTS = ("reasoning_content", "reasoning")


@dataclass(slots=True)
class _Part:
    """A text under construction: of a message, a refusal, or reasoning."""

    kind: str  # output_text, refusal, summary_text, reasoning_text
    index: int
    pieces: list[str] = field(default_factory=list)
    logprobs: list[JsonObject] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def shown(self, annotations: Any = None) -> JsonObject:
        """The part as it is now."""
        if self.kind == "output_text":
            return {**text_part(self.text, annotations=annotations), "logprobs": [*self.logprobs]}
        name = "refusal" if self.kind == "refusal" else "text"
        return {"type": self.kind, name: self.text}


@dataclass(slots=True)
class _Call:
    """A call under construction: `call` as chat completions have it."""

    index: int  # of its item
    number: int
    call: JsonObject
    pieces: list[str] = field(default_factory=list)


class ResponseEncoder:
    """Translates the chunks of one stream. One item of reasoning or text is open at a time; calls stay open until the
    end, since a server may go on with an earlier one."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._events: list[JsonObject] = []
        self._number = 0
        self._items: list[JsonObject] = []  # by their output_index, as they were when they were begun or done
        self._counts = {"rs": 0, "msg": 0}
        self._open: str | None = None  # rs or msg
        self._parts: list[_Part] = []  # of the open item; the last one is open
        self._positions, self._calls = CallPositions(), list[_Call]()
        self._kept: JsonObject = {}  # what the provider wants back, not sealed yet
        self._annotations: list[JsonObject] = []
        self._model: Any = asked.body.get("model")
        self._tier: Any = None
        self._finish: Any = None
        self._usage: JsonObject = {}
        self._started = False

    def take(self, chunk: JsonObject) -> list[JsonObject]:
        """The events of the next chunk."""
        self._model = chunk.get("model") or self._model
        self._tier = chunk.get("service_tier") or self._tier
        self._start()
        self._usage = as_object(chunk.get("usage")) or self._usage
        for choice in as_objects(chunk.get("choices")):
            if not choice.get("index"):  # a Response has one choice
                self._take_delta(as_object(choice.get("delta")), choice.get("logprobs"))
                self._finish = choice.get("finish_reason") or self._finish
        return self._taken()

    def end(self, completed_at: int, **fields: Any) -> list[JsonObject]:
        """The events that end a complete answer; `fields` go onto its Response."""
        self._start()
        if not self._items and not self._calls:
            self._take_text("output_text", "", None)  # a message, though an empty one
        status = ended_as(self._finish)
        self._close_all(status)
        details = incomplete_details(self._finish)
        response = self._response(
            status, usage=usage_of(self._usage), completed_at=completed_at, incomplete_details=details, **fields
        )
        self._emit(f"response.{status}", response=response)
        return self._taken()

    def fail(self, error: JsonObject, code: str, **fields: Any) -> list[JsonObject]:
        """The events that end an answer which failed: `error` (type, code, message, param) as it is told, and the
        Response with the nearest `code` that it knows. No item is called done: a client would carry out half a call."""
        self._start()
        self._items, self._calls, self._open = [], [], None
        told = {name: error.get(name) for name in ("code", "message", "param")}
        self._emit("error", **told, error={**told, "type": error.get("type")})
        failed = {"code": code, "message": error.get("message")}
        self._emit("response.failed", response=self._response("failed", error=failed, **fields))
        return self._taken()

    def _response(self, status: str, **fields: Any) -> JsonObject:
        # Items change while they are written; what was sent must not change with them.
        return response_object(
            self._asked, status, [*self._items], **{"model": self._model, "service_tier": self._tier, **fields}
        )

    def _emit(self, kind: str, **fields: Any) -> None:
        self._events.append({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1

    def _taken(self) -> list[JsonObject]:
        events, self._events = self._events, []
        return events

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for kind in ("response.created", "response.in_progress"):
                self._emit(kind, response=self._response("in_progress"))

    def _take_delta(self, delta: JsonObject, logprobs: Any) -> None:
        if text := reasoning_of(delta):
            kind = "summary_text" if self._asked.summarized else "reasoning_text"
            self._go_on("rs", kind)
            self._write(text)
        if self._asked.sealed:
            self._keep(delta)
        if annotations := as_objects(delta.get("annotations")):
            self._annotations += annotations
        if text := text_of(delta.get("content")):
            self._take_text("output_text", text, as_object(logprobs).get("content"))
        if refusal := delta.get("refusal"):
            self._take_text("refusal", str(refusal), None)
        for ordinal, call in enumerate(as_objects(delta.get("tool_calls"))):
            self._take_call(call, ordinal)

    def _keep(self, delta: JsonObject) -> None:
        """What is to be sealed; texts in pieces, as they may be long."""
        if len(delta) == 1 and "content" in delta:
            return
        found = kept_reasoning(delta, [])
        for name in _REASONING_TEXTS:
            if isinstance(piece := as_object(found.get("message")).pop(name, None), str):
                self._kept.setdefault("texts", {}).setdefault(name, []).append(piece)
        if found.get("message"):
            merge_object(self._kept.setdefault("message", {}), found["message"])

    def _sealable(self, calls: list[JsonObject]) -> JsonObject:
        """What is kept, once; with what belongs to single calls."""
        kept, self._kept = self._kept, {}
        texts = {name: "".join(pieces) for name, pieces in as_object(kept.get("texts")).items()}
        return kept_reasoning({**as_object(kept.get("message")), **texts}, calls) if self._asked.sealed else {}

    def _take_text(self, kind: str, text: str, logprobs: Any) -> None:
        self._go_on("msg", kind)
        self._write(text, logprobs_of(logprobs) if self._asked.with_logprobs else [])

    def _go_on(self, item: str, part: str) -> None:
        """Have an item of this sort open, with a part of this kind."""
        if self._open != item:
            self._close_item("completed")
            self._open, self._parts = item, []
            self._items.append(self._shown("in_progress"))
            self._emit("response.output_item.added", output_index=len(self._items) - 1, item=self._items[-1])
        elif self._parts[-1].kind == part:
            return
        else:
            self._close_part()
        self._parts.append(_Part(part, len(self._parts)))
        self._emit(_ADDED[part], **self._place(), part=self._parts[-1].shown())

    def _place(self) -> JsonObject:
        """Where the open part is."""
        part = self._parts[-1]
        index = "summary_index" if part.kind == "summary_text" else "content_index"
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1, index: part.index}

    def _write(self, text: str, logprobs: list[JsonObject] | None = None) -> None:
        if not text:
            return
        part = self._parts[-1]
        part.pieces.append(text)
        more: JsonObject = {}
        if part.kind == "output_text":
            part.logprobs += logprobs or []
            more["logprobs"] = logprobs or []
        self._emit(f"response.{_EVENTS[part.kind]}.delta", **self._place(), delta=text, **more)

    def _close_part(self) -> None:
        part, place = self._parts[-1], self._place()
        name = "refusal" if part.kind == "refusal" else "text"
        more = {"logprobs": [*part.logprobs]} if part.kind == "output_text" else {}
        self._emit(f"response.{_EVENTS[part.kind]}.done", **place, **{name: part.text}, **more)
        self._emit(_DONE[part.kind], **place, part=part.shown(self._annotations))

    def _close_item(self, status: str) -> None:
        if self._open is None:
            return
        self._close_part()
        kept = self._sealable([]) if self._open == "rs" else {}
        self._items[-1] = self._shown(status, kept)
        self._emit("response.output_item.done", output_index=len(self._items) - 1, item=self._items[-1])
        self._counts[self._open] += 1
        self._open = None

    def _shown(self, status: str, kept: JsonObject | None = None) -> JsonObject:
        """The open item as it is now."""
        if self._open == "rs":
            text = "".join(part.text for part in self._parts)
            return reasoning_item(self._asked, self._counts["rs"], text, kept or {})
        parts = [part.shown(self._annotations) for part in self._parts]
        return message_item(self._asked, self._counts["msg"], parts, status)

    def _take_call(self, delta: JsonObject, ordinal: int) -> None:
        position, function = self._positions.of(delta, ordinal), as_object(delta.get("function"))
        arguments = function.get("arguments")
        if position == len(self._calls):
            self._begin_call(delta, function)
        else:
            self._merge_call(self._calls[position].call, delta, function)
        known = self._calls[position]
        if arguments:
            known.pieces.append(arguments)
            if (item := self._items[known.index])["type"] == "function_call":
                self._emit(
                    "response.function_call_arguments.delta",
                    item_id=item["id"],
                    output_index=known.index,
                    delta=arguments,
                )

    def _begin_call(self, delta: JsonObject, function: JsonObject) -> None:
        self._close_item("completed")
        call = _Call(len(self._items), len(self._calls), {**delta, "function": {"name": function.get("name") or ""}})
        call.call["id"] = call_id_of(delta, self._asked, call.number)
        self._calls.append(call)
        self._items.append(self._called(call, "in_progress"))
        self._emit("response.output_item.added", output_index=call.index, item=self._items[call.index])

    def _merge_call(self, call: JsonObject, delta: JsonObject, function: JsonObject) -> None:
        if name := function.get("name"):
            call["function"]["name"] = merge_name(call["function"]["name"], name)
        merge_object(call, {key: value for key, value in delta.items() if key not in ("index", "id", "function")})

    def _called(self, call: _Call, status: str) -> JsonObject:
        function = {**call.call["function"], "arguments": "".join(call.pieces)}
        return call_item(self._asked, call.number, call.call["id"], function, status)

    def _close_all(self, status: str) -> None:
        self._close_item(status)
        for call in self._calls:
            item = self._items[call.index] = self._called(call, status)
            place = {"item_id": item["id"], "output_index": call.index}
            if item["type"] == "function_call":
                done = {"arguments": item["arguments"], "name": item["name"]}
                self._emit("response.function_call_arguments.done", **place, **done)
            elif item["type"] == "custom_tool_call":
                # Its text is inside of JSON, so it is known at the end only.
                self._emit("response.custom_tool_call_input.delta", **place, delta=item["input"])
                self._emit("response.custom_tool_call_input.done", **place, input=item["input"])
            self._emit("response.output_item.done", output_index=call.index, item=item)
        self._seal_rest()

    def _seal_rest(self) -> None:
        """What came behind the reasoning, or without any: signatures of calls, say."""
        kept = self._sealable([call.call for call in self._calls])
        if kept:
            item = reasoning_item(self._asked, self._counts["rs"], "", kept)
            self._items.append(item)
            for kind in ("added", "done"):
                self._emit(f"response.output_item.{kind}", output_index=len(self._items) - 1, item=item)


_EVENTS = {
    "output_text": "output_text",
    "refusal": "refusal",
    "summary_text": "reasoning_summary_text",
    "reasoning_text": "reasoning_text",
}
_ADDED = dict.fromkeys(_EVENTS, "response.content_part.added") | {
    "summary_text": "response.reasoning_summary_part.added"
}
_DONE = dict.fromkeys(_EVENTS, "response.content_part.done") | {"summary_text": "response.reasoning_summary_part.done"}
