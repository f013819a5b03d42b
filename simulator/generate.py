"""From a request to an answer: text, JSON or tool calls. Pure; the same (model, prompt, seed) gives the same answer."""

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from simulator import answers
from simulator.faults import Active, SimError
from simulator.models import SimModel
from simulator.request import ChatRequest, Tool
from simulator.schema import Maker
from simulator.text import chunks, cut_at_stop, digest, pieces, resize, seeded

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
    """One answer: its text in pieces (tokens), or its tool calls, and why it ended."""

    pieces: tuple[str, ...]
    finish: Finish
    tool_calls: tuple[ToolCall, ...] = ()
    stop_sequence: str | None = None

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
    if calls:
        return Choice((), "tool_calls", calls)
    text, stop = cut_at_stop(_text(request, model, faults, right, length, rng), request.stop)
    found = pieces(text)
    limit = min(request.max_tokens or model.max_output_tokens, len(found))
    if "filtered" in faults:
        return Choice(found[: max(limit // 2, 1)], "content_filter")
    if limit < len(found):
        return Choice(found[:limit], "length")
    return Choice(found, "stop", stop_sequence=stop)


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
