"""From a request to an answer: text, JSON or tool calls. Pure; the same (model, conversation, seed) gives the same one.

`talk` says what the task is, `agent` which tools it needs now, `schema` makes their arguments and structured output,
`memory` and `answers` know what to say, `prose` and `instructions` in which form.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from simulator import answers, codes, markers
from simulator.agent import Planned, next_calls
from simulator.faults import Active, SimError
from simulator.instructions import obeyed, ordered, system_of
from simulator.memory import recalled
from simulator.models import SimModel
from simulator.prose import wished, without_examples
from simulator.request import ChatRequest, Tool
from simulator.schema import Maker
from simulator.talk import Talk, read, seen, stated
from simulator.text import chunks, cut_at_stop, digest, pieces, resize, seeded
from simulator.values import Values

Finish = Literal["stop", "length", "tool_calls", "content_filter"]
_AFTER_FAULT_TOKENS = 20  # `cut40` alone cuts an answer of 60 tokens: there must be something left to lose.


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
    talk = read(request)
    right = "wrong" not in faults and answers.difficulty(talk.task) <= model.quality
    maker = _Answerer(request, talk, model, faults, right, wanted_length(faults, tokens), answers.echoes(talk.task))
    try:
        choices = tuple(maker.choice(index) for index in range(request.n))
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


@dataclass(frozen=True, slots=True)
class _Answerer:
    """Makes the choices of one answer; `length` is the wanted length of a text in tokens."""

    request: ChatRequest
    talk: Talk
    model: SimModel
    faults: Active
    right: bool
    length: int | None
    echoes: bool  # the task asks for an exact answer

    def choice(self, index: int) -> Choice:
        """Make choice number `index`."""
        request, faults = self.request, self.faults
        rng = seeded(self.model.name, request.prompt, request.seed, index)
        calls = self._tool_calls(rng) if not {"refuse", "empty"} & set(faults.names) else ()
        thinks = "thinks" in faults
        if calls:
            return Choice((), "tool_calls", calls, thinks=thinks)
        text, stop = cut_at_stop(self._text(rng), request.stop)
        found = pieces(text)
        limit = min(request.max_tokens or self.model.max_output_tokens, len(found))
        if "filtered" in faults:
            return Choice(found[: max(limit // 2, 1)], "content_filter")
        if limit < len(found):
            return Choice(found[:limit], "length")
        return Choice(found, "stop", stop_sequence=stop, thinks=thinks)

    def _text(self, rng: random.Random) -> str:
        if "empty" in self.faults:
            return ""
        if "refuse" in self.faults:
            return answers.REFUSAL
        text = self._said(rng)
        if self.request.schema:
            schema = self.request.schema
            return json.dumps(self._maker(schema, text, rng).make(schema), ensure_ascii=False)
        return self._shaped(text, rng) or (resize(text, self.length, rng) if self.length is not None else text)

    def _shaped(self, text: str, rng: random.Random) -> str | None:
        """The answer in the form that the request asks for in words, or None if it is plain text."""
        talk, system = self.talk, system_of(self.talk, bool(self.request.tools))
        if form := markers.wanted(talk.asked, talk.system):
            return form.written(self._fields(form, text, rng))
        if codes.wants_code(system):
            return codes.written(
                [(call.tool.name, made) for call, made in self._calls(codes.tools_in(system), rng)], text
            )
        if self.request.schema is None and self.echoes:
            return None
        if wish := wished(talk.asked, system, anyway=self.request.schema is not None):
            return wish.written(self._wished(wish.schema, text, rng))
        return None

    def _fields(self, form: markers.Form, text: str, rng: random.Random) -> dict[str, Any]:
        """The values of the fields between markers; those of an agent's next step are a call of its tools."""
        names = list(form.fields)
        texts = [name for name in names if form.fields[name].get("type") == "string"]
        maker = self._maker({}, text, rng)  # Each field's schema has definitions of its own.
        values = {name: replace(maker, root=schema).make(schema, name) for name, schema in form.fields.items()}
        values |= {texts[0]: text} if len(texts) == 1 else {}
        tools = markers.tools_in(f"{self.talk.system}\n{self.talk.asked}")
        if tools and "next_tool_name" in form.fields:
            call, arguments = self._calls(tools, rng, "required")[0]
            thought = f"I need {call.tool.name}."
            values |= {"next_thought": thought, "next_tool_name": call.tool.name, "next_tool_args": arguments}
        for name in names if tools else ():
            if form.fields[name].get("title") == "ToolCalls":
                made = self._calls(tools, rng)
                values[name] = {"tool_calls": [{"name": call.tool.name, "args": given} for call, given in made]}
        return values

    def _wished(self, schema: Mapping[str, Any] | None, text: str, rng: random.Random) -> Any:
        if schema is None:
            return {"answer": text}
        try:
            maker = self._maker(schema, text, rng)
            return replace(maker, values=Values(without_examples(self._source()))).make(schema)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, RecursionError):
            return {"answer": text}  # What looked like a schema was just a part of the text.

    def _said(self, rng: random.Random) -> str:
        """The answer as plain text."""
        talk, system = self.talk, system_of(self.talk, bool(self.request.tools))
        own = rng.randint(*self.model.answer_tokens)
        if (exact := ordered(system)) is not None:
            return exact
        if self.echoes:
            return answers.answer(talk.task, right=self.right, length=self.length or own, rng=rng)
        known = stated(talk.results) or recalled(talk)
        if not known and talk.images and answers.solve(talk.task) is None:
            known = seen(talk)
        if known:
            text = known if self.right else f"{answers.WRONG_MARKER} {known}"
        else:
            text = answers.answer(talk.task, right=self.right, length=self.length or own, rng=rng)
        return obeyed(text, talk, system)

    def _maker(self, root: Mapping[str, Any], text: str, rng: random.Random) -> Maker:
        low = answers.WRONG_MARKER in self.talk.task
        return Maker(rng, root, Values(self._source()), text, low_scores=low)

    def _source(self) -> str:
        """Where values are found: in what the tools returned, and in the task."""
        return "\n".join([*(result.text for result in self.talk.results), self.talk.task])

    def _tool_calls(self, rng: random.Random) -> tuple[ToolCall, ...]:
        request, talk = self.request, self.talk
        found = []
        for position, (call, arguments) in enumerate(self._calls(request.tools, rng, request.tool_choice)):
            name = f"call_{digest(talk.task, len(talk.done), position, call.tool.name)}"
            found.append(ToolCall(name, call.tool.name, json.dumps(arguments, ensure_ascii=False)))
        return tuple(found)

    def _calls(self, tools: Sequence[Tool], rng: random.Random, choice: str = "auto") -> list[tuple[Planned, Any]]:
        """The calls to make now, with their arguments."""
        if not tools:
            return []
        names = frozenset(tool.name for tool in tools)
        planned = next_calls(self.talk, tools, choice, parallel=self.request.parallel_tools)
        return [
            (call, self._arguments(call, names, rng) if call.arguments is None else call.arguments) for call in planned
        ]

    def _arguments(self, call: Planned, names: frozenset[str], rng: random.Random) -> Any:
        maker = Maker(rng, call.tool.parameters, Values(call.about, names), self._said(rng), sparse=True)
        schema = {"type": "object", **call.tool.parameters}
        # Values are given out once: of "Paris and Rome", the second call gets Rome.
        return [maker.make(schema) for _ in range(call.place + 1)][-1]


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

    def check(self, body: Mapping[str, Any], request: ChatRequest) -> None:
        """Raise `SimError` 400 for what the provider refuses in any request; `request` is the parsed `body`."""

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
