"""Verified resume: a repeated answer may go on only behind output that is identical to what the client already has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelpilot.requests.outcome import Segment
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects
from modelpilot.wire.merge import CallPositions, merge_name
from modelpilot.wire.parts import media_of, text_of, thinking_of

# What is compared: these texts, and of every tool call its name and its arguments. Ids differ in every answer.
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_CALL_FIELDS = frozenset({"id", "type", "function", "index"})
_FUNCTION_FIELDS = frozenset({"name", "arguments"})
_MESSAGE_FIELDS = frozenset({"role", "tool_calls", *_TEXTS})


@dataclass(frozen=True, slots=True)
class Diverged:
    """The new answer is not the one that the client has a part of; `where` names the place, never the text."""

    where: str


class Resume:
    """Compares a second answer with what the client has (`sent`, a `chat.completion` of it) and lets the rest pass.

    Nothing passes before everything sent was seen again, in all choices: what comes earlier is kept until then.
    """

    def __init__(self, sent: JsonObject) -> None:
        self._identity = {key: sent[key] for key in ("id", "created") if sent.get(key)}
        self._choices = {choice["index"]: _Choice(choice) for choice in as_objects(sent.get("choices"))}
        self._comparable = is_comparable(sent)
        self._kept: list[JsonObject] = []
        self.caught_up = False
        """Whether all that the client has was seen again; from then on the answers cannot diverge."""

    def feed(self, chunk: JsonObject) -> list[JsonObject] | Diverged:
        """What the client gets of the next chunk: possibly nothing, or all that was kept and a part of this one."""
        if not self._comparable:
            return Diverged("a field that cannot be compared")
        rest: list[JsonObject] = []
        for raw in chunk["choices"]:
            index = raw.get("index") or 0
            known = self._choices.get(index)
            left = raw if known is None else known.left(raw)
            if isinstance(left, str):
                return Diverged(f"choices[{index}].{left}")
            rest += [left] if left is not None else []
        if rest or (not chunk["choices"] and (self.caught_up or chunk.get("usage") is not None)):
            self._kept.append({**chunk, **self._identity, "choices": rest})
        return self._released()

    def finish(self) -> Diverged | None:
        """The new answer has ended: it must not be shorter than what the client has."""
        if self.caught_up:
            return None
        behind = min((index for index, choice in self._choices.items() if choice.behind), default=0)
        return Diverged(f"choices[{behind}] ended")

    def _released(self) -> list[JsonObject]:
        self.caught_up = self.caught_up or not any(choice.behind for choice in self._choices.values())
        if not self.caught_up:
            return []
        released, self._kept = self._kept, []
        return released


def is_comparable(sent: JsonObject) -> bool:
    """Whether all output that the client has can be compared; audio, for one, cannot."""
    messages = [as_object(choice.get("message")) for choice in as_objects(sent.get("choices"))]
    calls = [call for message in messages for call in as_objects(message.get("tool_calls"))]
    functions = [as_object(call.get("function")) for call in calls]
    return (
        all(_only(message, _MESSAGE_FIELDS) and not media_of(message.get("content")) for message in messages)
        and all(_only(call, _CALL_FIELDS) for call in calls)
        and all(_only(function, _FUNCTION_FIELDS) for function in functions)
    )


def characters(completion: JsonObject) -> int:
    """How much output a completion has: characters of all texts that are compared."""
    return sum(len(text) for choice in as_objects(completion.get("choices")) for text in _Choice(choice).texts.values())


def _only(value: JsonObject, known: frozenset[str]) -> bool:
    return not any(item and key not in known for key, item in value.items())


_Place = tuple[str, int]  # a text field and 0, or a part of a tool call ("name", "arguments") and its position


class _Choice:
    """One choice that the client has a part of: its texts, and how much of each was seen again."""

    __slots__ = ("_finish", "_finished", "_names", "_positions", "_seen", "texts")

    def __init__(self, choice: JsonObject) -> None:
        self.texts = _texts(as_object(choice.get("message")))
        self._seen = dict.fromkeys(self.texts, 0)
        self._names: dict[int, str] = {}
        self._positions = CallPositions()
        self._finish: str | None = choice.get("finish_reason")
        self._finished = False

    @property
    def behind(self) -> bool:
        """Whether the client has more of this choice than was seen again."""
        return self._missing() is not None or (self._finish is not None and not self._finished)

    def _missing(self) -> str | None:
        return next((place[0] for place, text in self.texts.items() if self._seen[place] < len(text)), None)

    def left(self, raw: JsonObject) -> JsonObject | str | None:
        """What of a chunk's choice the client does not have (None: nothing), or the place where it differs."""
        delta: JsonObject = {}
        for key, value in as_object(raw.get("delta")).items():
            try:
                rest = self._field(key, value)
            except _DifferenceError as difference:
                return str(difference)
            if rest:
                delta[key] = rest
        return self._ended(raw, delta)

    def _ended(self, raw: JsonObject, delta: JsonObject) -> JsonObject | str | None:
        reason = raw.get("finish_reason")
        if not delta and reason is None:
            return None
        # Output behind one text that was sent, or the end, while another was not seen again as far as it was sent.
        if (missing := self._missing()) is not None:
            return missing
        if self._finish is not None:
            self._finished = True
            return "finish_reason" if delta or reason != self._finish else None
        return _trimmed_logprobs({**raw, "delta": delta}, as_object(raw.get("delta")))

    def _field(self, key: str, value: Any) -> Any:
        if key in _TEXTS and isinstance(value, str):
            return self._text((key, 0), value)
        if key == "content" and isinstance(value, list):
            return [part for raw in value if (part := self._part(raw)) is not None]
        if key == "tool_calls":
            calls = [self._call(call, ordinal) for ordinal, call in enumerate(as_objects(value))]
            return [call for call in calls if call is not None]
        return None if key == "role" else value  # the client knows who speaks

    def _part(self, part: Any) -> Any:
        """What of a content part is left: text and reasoning were sent as such, whatever part they came in."""
        if thought := thinking_of([part]):
            rest = self._text(("reasoning_content", 0), thought)
            return {**part, "thinking": [{"type": "text", "text": rest}]} if rest else None
        if media_of([part]):
            return part
        rest = self._text(("content", 0), text_of([part]))
        return {"type": "text", "text": rest} if rest else None

    def _text(self, place: _Place, piece: str) -> str:
        """What of `piece` is behind the text that was sent."""
        sent, seen = self.texts.get(place, ""), self._seen.get(place, 0)
        known = min(len(sent) - seen, len(piece))
        if sent[seen : seen + known] != piece[:known]:
            raise _DifferenceError(place[0])
        self._seen[place] = seen + known
        return piece[known:]

    def _call(self, delta: JsonObject, ordinal: int) -> JsonObject | None:
        position = self._positions.of(delta, ordinal)
        if ("name", position) not in self.texts:
            return delta  # a call that the client has nothing of
        function = as_object(delta.get("function"))
        rest = {"name": self._name(position, function.get("name")), "arguments": ""}
        if isinstance(piece := function.get("arguments"), str):
            rest["arguments"] = self._text(("arguments", position), piece)
        rest = {key: value for key, value in rest.items() if value}
        # Without its id and type: the client has those of the first answer.
        return {"index": delta.get("index", position), "function": rest} if rest else None

    def _name(self, position: int, piece: Any) -> str:
        """The same for a function's name, which some servers repeat in every delta."""
        if not isinstance(piece, str):
            return ""
        old, sent = self._names.get(position, ""), self.texts["name", position]
        new = self._names[position] = merge_name(old, piece)
        if not (sent.startswith(new) or new.startswith(sent)):
            raise _DifferenceError("tool_calls")
        self._seen["name", position] = min(len(new), len(sent))
        return new[max(len(old), len(sent)) :]


class _DifferenceError(Exception):
    """Where the answers differ; it never leaves this module."""


def _texts(message: JsonObject) -> dict[_Place, str]:
    texts: dict[_Place, str] = {(name, 0): text for name in _TEXTS if isinstance(text := message.get(name), str)}
    for position, call in enumerate(as_objects(message.get("tool_calls"))):
        function = as_object(call.get("function"))
        texts["name", position] = function.get("name") or ""
        texts["arguments", position] = function.get("arguments") or ""
    return texts


def _trimmed_logprobs(choice: JsonObject, whole: JsonObject) -> JsonObject:
    """The choice with the log probabilities of those tokens that are left whole."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return choice
    kept = dict(logprobs)
    for name in ("content", "refusal"):
        rest, before = choice["delta"].get(name) or "", whole.get(name) or ""
        if len(rest) < len(before) and isinstance(logprobs.get(name), list):
            kept[name] = _tokens_of(rest, as_objects(logprobs[name]))
    return {**choice, "logprobs": kept}


def _tokens_of(text: str, tokens: list[JsonObject]) -> list[JsonObject]:
    """The last tokens that lie within `text`."""
    kept, room = [], len(text)
    for token in reversed(tokens):
        room -= len(str(token.get("token") or ""))
        if room < 0:
            break
        kept.append(token)
    return kept[::-1]


class Transcript:
    """What a client has of a streamed answer, and which provider calls wrote it.

    The calls add their answers up by themselves; this knows whose sum the client has.
    """

    __slots__ = ("_completion", "_counted", "_identity", "_segments", "_writer", "started", "whole")

    def __init__(self) -> None:
        self._completion: Callable[[], JsonObject] = dict
        self._identity: JsonObject = {}  # of the first answer: those that continue it go out under its id
        self._segments: list[Segment] = []
        self._writer: tuple[int, str] | None = None
        self._counted = 0
        self.started = False
        """Whether the client has, or will get, a part of the answer."""
        self.whole = False
        """Whether the client has, or will get, a complete answer."""

    @property
    def model(self) -> str | None:
        """Who writes; None before anybody does."""
        return None if self._writer is None else self._writer[1]

    def begin(self, seq: int, model: str) -> None:
        """From now on, call `seq` of `model` writes."""
        self._segments = list(self._closed())
        self._writer = (seq, model)
        self._counted = self._length()

    def follow(self, completion: Callable[[], JsonObject]) -> None:
        """The client has, or will get, all of this, and whatever comes to it; it goes on behind what was sent."""
        self._identity = {key: value for key, value in self.completion().items() if key in ("id", "created") and value}
        self._completion, self.started = completion, True

    def restart(self, completion: Callable[[], JsonObject]) -> None:
        """The client was told to forget what it has, and gets this instead."""
        self._completion, self._identity, self._counted = completion, {}, 0

    def completion(self) -> JsonObject:
        """What the client has, as one `chat.completion`."""
        return {**self._completion(), **self._identity}

    def segments(self) -> tuple[Segment, ...]:
        """The calls that wrote a part of it, in order; none where a single one wrote all."""
        segments = self._closed() if self._segments else ()
        return segments if len(segments) > 1 else ()

    def _closed(self) -> tuple[Segment, ...]:
        length = self._length() - self._counted
        if self._writer is None or length <= 0:
            return tuple(self._segments)
        return (*self._segments, Segment(*self._writer, length))

    def _length(self) -> int:
        return characters(self._completion())
