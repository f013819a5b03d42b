"""What the fields of a chat body are, and a body on its way to the manners of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners
from modelpilot.requests.outcome import Adjustment
from modelpilot.wire.jsonb import JsonObject, as_object
from modelpilot.wire.support import BETAS, NATIVE, reasoning_effort

Nature = Literal["meaning", "hint", "ours"]
Action = Literal["translated", "clamped", "dropped", "excluded"]


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What a field of the body is, and which of its values ask for nothing that would not happen anyway."""

    nature: Nature
    neutral: tuple[Any, ...] = ()


PREFERENCES = "provider"  # OpenRouter's; the gateway has followed them before anybody is asked
_MEANING, _HINT, _OURS = FieldRule("meaning"), FieldRule("hint"), FieldRule("ours")
# Every field of OpenAI's chat body, and those of others that clients send; what is not here is taken for meaning.
FIELDS: Mapping[str, FieldRule] = {
    "messages": _MEANING,
    "model": _OURS,
    "modelpilot": _OURS,
    "stream": _OURS,
    "stream_options": _OURS,
    "max_tokens": _OURS,
    "max_completion_tokens": _OURS,
    "tools": FieldRule("meaning", ([],)),
    "tool_choice": _MEANING,
    "functions": FieldRule("meaning", ([],)),
    "function_call": FieldRule("meaning", ("auto", "none")),
    "response_format": FieldRule("meaning", ({"type": "text"},)),
    "stop": FieldRule("meaning", ([],)),
    "n": FieldRule("meaning", (1,)),
    "logprobs": FieldRule("meaning", (False,)),
    "top_logprobs": FieldRule("meaning", (0,)),
    "modalities": FieldRule("meaning", (["text"],)),
    "audio": _MEANING,
    "moderation": _MEANING,
    "web_search_options": _MEANING,
    "temperature": FieldRule("hint", (1,)),
    "top_p": FieldRule("hint", (1,)),
    "top_k": FieldRule("hint", (0, -1)),
    "min_p": FieldRule("hint", (0,)),
    "top_a": FieldRule("hint", (0,)),
    "repetition_penalty": FieldRule("hint", (1,)),
    "presence_penalty": FieldRule("hint", (0,)),
    "frequency_penalty": FieldRule("hint", (0,)),
    "logit_bias": FieldRule("hint", ({},)),
    "seed": _HINT,
    "user": _HINT,
    PREFERENCES: _OURS,
    "safety_identifier": _HINT,
    "metadata": FieldRule("hint", ({},)),
    "store": FieldRule("hint", (False,)),
    "service_tier": FieldRule("hint", ("auto", "default")),
    "verbosity": FieldRule("hint", ("medium",)),
    "prediction": _HINT,
    "parallel_tool_calls": FieldRule("hint", (True,)),
    "prompt_cache_key": _HINT,
    "prompt_cache_options": _HINT,
    "prompt_cache_retention": _HINT,
    "cache_control": _HINT,
    NATIVE: FieldRule("hint", ({},)),
    "reasoning_effort": FieldRule("hint", ("none",)),
    "reasoning": FieldRule("hint", ({},)),
    "thinking": FieldRule("hint", ({"type": "disabled"},)),
}
_HINTS_WITHIN = frozenset({"messages[].name", "tools[].function.strict"})
ABSENT = "this model does not take it"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one field."""

    field: str
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """A body that a model takes (the very object that came in, where nothing had to be changed), and what was done."""

    body: JsonObject
    changes: tuple[Change, ...] = ()

    @property
    def excluded(self) -> list[str]:
        """The fields with meaning that the model has nothing for; with any of them it must not be asked."""
        return [_named(change) for change in self.changes if change.action == "excluded"]

    @property
    def hints(self) -> list[str]:
        """The hints that do not reach the model as they came."""
        return [change.field for change in self.changes if _nature(change.field) == "hint"]

    def adjusted(self, model: str) -> tuple[Adjustment, ...]:
        """What the answer of `model` says about it."""
        return tuple(Adjustment(each.field, model, each.action, each.reason) for each in self.changes)


@dataclass(slots=True)
class Fitting:
    """A body on its way; it is copied when something is changed."""

    original: JsonObject
    kind: ProviderKind
    manners: Manners
    content: Sequence[str] | None = None  # what the format has nothing for, where a model is only considered
    changes: list[Change] = field(default_factory=list)
    _copy: JsonObject | None = None

    @property
    def body(self) -> JsonObject:
        """As far as it is fitted."""
        return self.original if self._copy is None else self._copy

    def put(self, name: str, value: Any) -> None:
        """Set a field."""
        if self._copy is None:
            self._copy = dict(self.original)
        self._copy[name] = value

    def remove(self, name: str) -> None:
        """Take a field out."""
        if name in self.body:
            self.put(name, None)
            del self.body[name]

    def say(self, name: str, action: Action, reason: str) -> None:
        """Note what became of a field."""
        self.changes.append(Change(name, action, reason))

    def leave_out(self, name: str, value: Any, reason: str) -> None:
        """A field that has no place: nothing is lost with a neutral value, a hint is dropped, meaning excludes."""
        if name not in self.body:
            return
        rule = FIELDS.get(name, _MEANING)
        if name == NATIVE:
            self._leave_out_natives(value)
        elif rule.nature != "ours":
            self.remove(name)
            if value not in rule.neutral:
                self.say(name, "excluded" if rule.nature == "meaning" else "dropped", reason)

    def _leave_out_natives(self, value: Any) -> None:
        self.remove(NATIVE)
        for name in as_object(value):
            if name != BETAS:  # a header says how a client wants to be spoken to, and not what it asks
                self.say(name, "dropped", ABSENT)

    def thinks(self) -> bool:
        """Whether the model is asked to reason before it answers."""
        native = as_object(self.body.get("thinking")).get("type")
        return reasoning_effort(self.body) not in (None, "none") or native in ("enabled", "adaptive")

    def result(self) -> Fitted:
        """What came of it."""
        return Fitted(self.body, tuple(self.changes))


def _nature(place: str) -> Nature:
    """What a field is, `messages[].name` included."""
    return "hint" if place in _HINTS_WITHIN else FIELDS.get(place, _MEANING).nature


def _named(change: Change) -> str:
    return f"{change.field} ({change.reason})" if change.reason and change.reason != ABSENT else change.field
