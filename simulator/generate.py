"""From a request to an answer: text, JSON or tool calls. Pure; the same (model, prompt, seed) gives the same answer.

Structured output and tool arguments are made from their JSON schema: type, enum, const, anyOf/oneOf/allOf, local $ref,
properties, items, ranges, lengths and the common formats, in JSON Schema's and in Gemini's spelling (`STRING`).
`pattern`, `not` and conditionals are ignored.
"""

import json
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from simulator import answers
from simulator.faults import Active, SimError
from simulator.models import SimModel
from simulator.request import ChatRequest, Tool
from simulator.text import chunks, cut_at_stop, digest, pieces, resize, seeded

_FORMATS = {
    "date": "2025-06-01",
    "date-time": "2025-06-01T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "user@example.com",
    "uuid": "8c2f3b52-4a0e-4d8e-9a55-2f0f9a3d6c11",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_WORDS = ("amber", "basil", "cedar", "delta", "ember", "fable", "grove", "harbor")
_SCORE_NAMES = frozenset({"score", "quality", "rating", "grade"})
_MAX_DEPTH = 6  # Below it only required properties are made, so that recursive schemas end.
_HARD_DEPTH = 40
_MAX_ITEMS = 1000


@dataclass
class Maker:
    """Makes values for schemas under `root`; strings take words from `hints` first.

    Numbers called score, quality, rating or grade are near their maximum, or near their minimum if `low_scores`: a
    simulated judge gives good answers good marks.
    """

    rng: random.Random
    root: Mapping[str, Any] = field(default_factory=dict)
    hints: Iterable[str] = ()
    low_scores: bool = False

    def __post_init__(self) -> None:
        self._hints = iter(self.hints)

    def make(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """Return a value valid under `schema`; `name` is the property it is for."""
        if not isinstance(schema, Mapping) or depth > _HARD_DEPTH:
            return None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if options := schema.get("enum"):
            return self.rng.choice(list(options))
        for key in ("anyOf", "oneOf"):
            if branches := schema.get(key):
                return self.make(_smallest(branches) if depth > _MAX_DEPTH else branches[0], name, depth + 1)
        return self._typed(schema, name, depth)

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(_HARD_DEPTH):  # A $ref may point to a $ref; a circle must still end.
            target = schema.get("$ref")
            if not isinstance(target, str):
                break
            found: Any = self.root
            for step in target.removeprefix("#").strip("/").split("/"):
                found = found.get(step, {}) if step and isinstance(found, Mapping) else found
            schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
        merged = dict(schema)
        for part in schema.get("allOf", ()):
            inner = self._resolve(part)
            properties = {**merged.get("properties", {}), **inner.get("properties", {})}
            merged |= {**inner, **({"properties": properties} if properties else {})}
        return merged

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        match str(kind).lower():
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return self._integer(schema, name)
            case "number":
                return self._number(schema, name)
            case "boolean":
                return self.rng.random() < 0.5
            case "null":
                return None
        return self._string(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        needed = set(schema.get("required") or ())
        wanted = [key for key in properties if depth <= _MAX_DEPTH or key in needed]
        wanted += [key for key in needed if key not in properties]
        return {key: self.make(properties.get(key, {"type": "string"}), key, depth + 1) for key in wanted}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        least = min(int(schema.get("minItems", 0 if depth > _MAX_DEPTH else 1)), _MAX_ITEMS)
        return [self.make(schema.get("items", {"type": "string"}), name, depth + 1) for _ in range(least)]

    def _range(self, schema: Mapping[str, Any], step: float) -> tuple[float, float]:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        low = low if low is not None else (0 if high is None else min(0, high - 10))
        high = high if high is not None else low + 10
        return low + step * ("exclusiveMinimum" in schema), high - step * ("exclusiveMaximum" in schema)

    def _share(self, name: str) -> float:
        share = self.rng.random()
        if name.lower() not in _SCORE_NAMES:
            return share
        return 0.1 + 0.1 * share if self.low_scores else 0.85 + 0.1 * share

    def _number(self, schema: Mapping[str, Any], name: str) -> float:
        low, high = self._range(schema, 1e-3)
        if step := schema.get("multipleOf"):
            return float(-(-low // step) * step)
        return round(min(max(low + (high - low) * self._share(name), low), high), 3)

    def _integer(self, schema: Mapping[str, Any], name: str) -> int:
        low, high = self._range(schema, 1)
        step = int(schema.get("multipleOf", 1)) or 1
        value = round(low + (high - low) * self._share(name))
        return min(-(-value // step) * step, int(high // step) * step)

    def _string(self, schema: Mapping[str, Any]) -> str:
        if (known := _FORMATS.get(str(schema.get("format")))) is not None:
            return known
        text = next(self._hints, None) or self.rng.choice(_WORDS)
        text = text.ljust(int(schema.get("minLength", 0)), "x")
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _smallest(branches: Any) -> Any:
    """Return the branch that ends a recursion: null if there is one, else the one without properties."""
    return min(branches, key=lambda branch: (branch.get("type") != "null", "$ref" in branch, "properties" in branch))


Finish = Literal["stop", "length", "tool_calls", "content_filter"]
_AFTER_FAULT_TOKENS = 20  # `cut40` alone cuts an answer of 60 tokens: there must be something left to lose.
_NAME = re.compile(r"(?<=\s)[A-Z]\w+")
_PLAIN_VERBS = frozenset({"get", "set", "the", "tool", "for", "and"})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str

    @property
    def deltas(self) -> tuple[str, ...]:
        """The arguments in the pieces in which they are streamed."""
        return chunks(self.arguments)


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer: its text in pieces (tokens), or its tool calls, why it ended, and whether it shows its thoughts."""

    pieces: tuple[str, ...]
    finish: Finish
    tool_calls: tuple[ToolCall, ...] = ()
    stop_sequence: str | None = None
    thinks: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        """How many tokens it has, counted as they are streamed."""
        return len(self.pieces) + sum(len(call.deltas) for call in self.tool_calls)


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. `created` is in seconds since 1970; `right` says whether the model was good enough."""

    id: str
    created: int
    request: ChatRequest
    choices: tuple[Choice, ...]
    right: bool

    @property
    def completion_tokens(self) -> int:
        """Tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)


def generate(
    request: ChatRequest, model: SimModel, faults: Active, tokens: int | None, *, call_id: str, created: int
) -> Completion:
    """Answer `request` as `model` under `faults`.

    `tokens` is the wanted length of text answers (None: the model's own). Raises `SimError` 400 for a schema that
    cannot be read.
    """
    right = "wrong" not in faults and answers.difficulty(request.prompt) <= model.quality
    length = wanted_length(faults, tokens)
    try:
        choices = tuple(_choice(request, model, faults, right, length, index) for index in range(request.n))
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RecursionError):
        # A schema is a client's free-form JSON; whatever is wrong with it, real providers answer 400.
        raise SimError(400, "Invalid schema in response format or tools", "invalid_schema", "response_format") from None
    return Completion(call_id, created, request, choices, right)


def wanted_length(faults: Active, tokens: int | None) -> int | None:
    """Return the answer length in tokens that faults or the configuration ask for, or None."""
    asked = faults.number("tokens")
    if asked is not None:
        return min(int(asked), 100_000)
    broken = [int(faults.number(name) or 0) for name in ("cut", "stall", "streamerror", "malformed") if name in faults]
    return max(broken) + _AFTER_FAULT_TOKENS if broken else tokens


def _choice(
    request: ChatRequest, model: SimModel, faults: Active, right: bool, length: int | None, index: int
) -> Choice:
    rng = seeded(model.name, request.prompt, request.seed, index)
    calls = _tool_calls(request, rng) if not {"refuse", "empty"} & set(faults.names) else ()
    thinks = "thinks" in faults
    if calls:
        return Choice((), "tool_calls", calls, thinks=thinks)
    text, stop = cut_at_stop(_text(request, model, faults, right, length, rng), request.stop)
    found = pieces(text)
    limit = min(request.max_tokens or model.max_output_tokens, len(found))
    if "filtered" in faults:
        return Choice(found[: max(limit // 2, 1)], "content_filter")
    if limit < len(found):
        return Choice(found[:limit], "length")
    return Choice(found, "stop", stop_sequence=stop, thinks=thinks)


def _text(
    request: ChatRequest, model: SimModel, faults: Active, right: bool, length: int | None, rng: random.Random
) -> str:
    if "empty" in faults:
        return ""
    if "refuse" in faults:
        return answers.REFUSAL
    own = rng.randint(*model.answer_tokens)
    text = answers.answer(request.prompt, right=right, length=length or own, rng=rng)
    if request.schema is None:
        return resize(text, length, rng) if length is not None else text
    if not request.schema:
        return json.dumps({"answer": text}, ensure_ascii=False)
    return json.dumps(_maker(request, request.schema, rng).make(request.schema), ensure_ascii=False)


def _maker(request: ChatRequest, root: Mapping[str, Any], rng: random.Random) -> Maker:
    return Maker(rng, root, _NAME.findall(request.prompt), low_scores=answers.WRONG_MARKER in request.prompt)


def _tool_calls(request: ChatRequest, rng: random.Random) -> tuple[ToolCall, ...]:
    chosen = _chosen_tools(request)
    hints = iter(_NAME.findall(request.prompt))
    found = []
    for position, tool in enumerate(chosen):
        maker = Maker(rng, tool.parameters, hints)  # Shared hints: "Paris and Rome" is one city for each call.
        arguments = json.dumps(maker.make({"type": "object", **tool.parameters}), ensure_ascii=False)
        found.append(ToolCall(f"call_{digest(request.prompt, position, tool.name)}", tool.name, arguments))
    return tuple(found)


def _chosen_tools(request: ChatRequest) -> list[Tool]:
    """Which tools are called: those the prompt names, else the first; twice the only one if the prompt says "and"."""
    if not request.tools or request.tool_choice == "none" or (request.after_tool and request.tool_choice == "auto"):
        return []
    named = [tool for tool in request.tools if tool.name == request.tool_choice]
    if named:
        return named
    prompt = request.prompt.lower()
    mentioned = [tool for tool in request.tools if _mentions(prompt, tool.name)]
    chosen = mentioned or list(request.tools[:1])
    if not request.parallel_tools:
        return chosen[:1]
    return chosen * 2 if len(chosen) == 1 and " and " in prompt else chosen


def _mentions(prompt: str, name: str) -> bool:
    words = set(re.findall(r"[a-z]{3,}", name.replace("_", " ").lower())) - _PLAIN_VERBS
    return any(word in prompt for word in words)


def thought_before(call: ToolCall | None) -> str:
    """What the model thinks before a call, or before its text."""
    return f"I need {call.name}." if call else "I can answer that."


class Frame(NamedTuple):
    """One server-sent event, ready to be written.

    `token`: it carries a token, so pacing waits before it. `closing`: it comes after the last token. `terminator`: it
    is the mark that the stream is complete.
    """

    data: bytes
    token: bool = False
    closing: bool = False
    terminator: bool = False


class Dialect(Protocol):
    """Translates between a provider's wire format and the simulator's own types; pure."""

    name: str

    def parse(self, body: Mapping[str, Any], path: Mapping[str, str]) -> ChatRequest:
        """Read a request body; `path` holds the URL's variables and query. Raises `SimError` 400 naming the field."""

    def body(self, completion: Completion) -> bytes:
        """Write a whole answer."""

    def frames(self, completion: Completion) -> list[Frame]:
        """Write an answer as server-sent events."""

    def error(self, error: SimError) -> tuple[int, bytes]:
        """Write an error: the status and the body in the provider's envelope."""

    def error_frame(self, error: SimError) -> bytes:
        """Write an error that ends a running stream."""


def data_frame(value: Any) -> bytes:
    """Return `value` as an SSE event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def named_frame(event: str, value: Any) -> bytes:
    """Return `value` as an SSE event called `event`."""
    return b"event: " + event.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"
