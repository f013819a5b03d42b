"""A request's body fitted to the manners of a model, by one rule for each field.

What carries meaning (tools, schemas, pictures, stop sequences) is translated or keeps the model from being asked; what
is a hint (seed, temperature, user) is translated, fitted or left out, which the answer says. docs/compatibility.md has
the rules for people, and a test compares it with `FIELDS`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.fields import ABSENT, FIELDS, PREFERENCES, Fitted, Fitting
from modelpilot.providers.fit_reasoning import fit_reasoning
from modelpilot.providers.fit_schemas import fit_response_format, fit_tools
from modelpilot.providers.kinds import KINDS, ProviderKind
from modelpilot.providers.manners import Manners
from modelpilot.wire.cache_marks import MARK, has_marks
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects
from modelpilot.wire.support import stop_sequences

_LIMITS = ("max_completion_tokens", "max_tokens")
_REASONING = ("reasoning_effort", "reasoning", "thinking")
_SAMPLING = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "top_a", "repetition_penalty", "presence_penalty", "frequency_penalty"}
    | {"logit_bias", "logprobs", "top_logprobs"}
)


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """Tokens of an answer: `most` is what the model can give to a prompt (None: unknown), `unasked` what it is told
    where the client says nothing and the model must be told."""

    most: int | None = None
    unasked: int | None = None

    @classmethod
    def of(cls, spec: ModelSpec, manners: Manners, prompt_tokens: int) -> "AnswerLimits":
        """The limits of a model for a prompt of about so many tokens."""
        own = None if spec.parameters is None else spec.parameters.max_tokens
        most, window = own or spec.limits.max_tokens or manners.max_tokens, spec.limits.context_window
        if window is None:
            return cls(most, manners.default_max_tokens or most)
        # A model whose ratio is not learnt yet may count a quarter more than we do.
        room, sure = max(window - prompt_tokens, 1), max(window - prompt_tokens * 5 // 4, 1)
        unasked = manners.default_max_tokens or most
        return cls(room if most is None else min(most, room), None if unasked is None else min(unasked, sure))


_UNLIMITED = AnswerLimits()


def fit(body: JsonObject, kind: ProviderKind | None, manners: Manners, limits: AnswerLimits = _UNLIMITED) -> Fitted:
    """The body as a model with these manners takes it, at a provider of this kind (None: unknown, and nothing is
    changed)."""
    if kind is None:
        return Fitted(body)
    return _fitted(Fitting(body, kind, manners), limits)


def dishonours(body: JsonObject, *, strict: bool = False) -> Callable[[ProviderKind | None, Manners], str | None]:
    """Says which fields of the body a model with certain manners, at a provider of a kind (None: unknown), has nothing
    for, as a sentence: those that carry meaning, and, where the router is `strict` about parameters, hints."""
    if not strict and _asks_for_text_alone(body):
        return _honours
    content: dict[str, list[str]] = {}  # the longest to find out, and the same for a whole kind

    def why_not(kind: ProviderKind | None, manners: Manners) -> str | None:
        if kind is None:
            return None
        if kind not in content:
            content[kind] = KINDS[kind].wire.unsupported_content(body)
        fitted = _fitted(Fitting(body, kind, manners, content[kind]), _UNLIMITED)
        fields = [*fitted.excluded, *(fitted.hints if strict else ())] if fitted.changes else []
        return f"its provider ({kind}) cannot honour {', '.join(fields)}" if fields else None

    return why_not


# None of these keeps a model from being asked, unless the router is strict.
_HARMLESS = frozenset({"messages", *(name for name, rule in FIELDS.items() if rule.nature != "meaning")})
_PLAIN = frozenset({"role", "content", "name"})


def _asks_for_text_alone(body: JsonObject) -> bool:
    if not _HARMLESS.issuperset(body):
        return False
    return all(isinstance(each.get("content"), str) and _PLAIN.issuperset(each) for each in body.get("messages") or ())


def _honours(kind: ProviderKind | None, manners: Manners) -> None:
    """As most requests are: every model takes it."""


def _fitted(fitting: Fitting, limits: AnswerLimits) -> Fitted:
    body, manners = fitting.original, fitting.manners
    if any(name in body for name in _REASONING):
        fit_reasoning(fitting, limits.most)
    sampled = manners.sampling == "always" or (manners.sampling == "unless_thinking" and not fitting.thinks())
    for name, value in body.items():
        if name in ("messages", "model") or value is None:
            continue
        if name == PREFERENCES:
            if fitting.kind != "openrouter":
                fitting.remove(name)
        elif name in _SAMPLING and not sampled:
            fitting.leave_out(
                name, value, "the model's sampling is fixed" if manners.sampling == "never" else _THINKING
            )
        elif not manners.has(name):
            fitting.leave_out(name, value, ABSENT)
        elif (rule := _RULES.get(name)) is not None:
            rule(fitting, value)
    _fit_one_of(fitting)
    _fit_limit(fitting, limits)
    _fit_messages(fitting)
    return fitting.result()


_THINKING = "not beside reasoning"


def _within(name: str, bounds_of: Callable[[Manners], tuple[float, float] | None]) -> Callable[[Fitting, Any], None]:
    """The rule of a number that has a range."""

    def rule(fitting: Fitting, value: Any) -> None:
        bounds = bounds_of(fitting.manners)
        if bounds is not None and isinstance(value, int | float) and not bounds[0] <= value <= bounds[1]:
            fitting.put(name, min(max(value, bounds[0]), bounds[1]))
            fitting.say(name, "clamped", f"{bounds[0]:g} to {bounds[1]:g} is possible")

    return rule


def _fit_stop(fitting: Fitting, value: Any) -> None:
    manners, given = fitting.manners, stop_sequences({"stop": value})
    kept = [one for one in given if one != ""]  # it stops nothing
    if len(kept) < len(given):
        fitting.put("stop", kept)
        if not kept:
            fitting.remove("stop")
    if manners.max_stops is not None and len(kept) > manners.max_stops:
        most = f"at most {manners.max_stops} stop sequences" if manners.max_stops else "no stop sequences"
        fitting.say("stop", "excluded", most)
    elif manners.blank_stops is False and any(not str(one).strip() for one in kept):
        fitting.say("stop", "excluded", "no stop sequence of white space alone")


def _fit_choices(fitting: Fitting, value: Any) -> None:
    most = fitting.manners.max_choices
    if most is not None and isinstance(value, int) and value > most:
        fitting.say("n", "excluded", f"at most {most}")


def _fit_seed(fitting: Fitting, value: Any) -> None:
    if fitting.manners.seed_name is not None:
        fitting.remove("seed")
        fitting.put(fitting.manners.seed_name, value)


def _only_with_tools(name: str) -> Callable[[Fitting, Any], None]:
    def rule(fitting: Fitting, value: Any) -> None:
        if not fitting.body.get("tools"):
            fitting.remove(name)  # it says nothing then, and OpenAI refuses it

    return rule


_RULES: Mapping[str, Callable[[Fitting, Any], None]] = {
    "temperature": _within("temperature", lambda manners: manners.temperature),
    "top_p": _within("top_p", lambda manners: manners.top_p),
    "presence_penalty": _within("presence_penalty", lambda manners: manners.penalties),
    "frequency_penalty": _within("frequency_penalty", lambda manners: manners.penalties),
    "stop": _fit_stop,
    "n": _fit_choices,
    "seed": _fit_seed,
    "parallel_tool_calls": _only_with_tools("parallel_tool_calls"),
    "tool_choice": _only_with_tools("tool_choice"),
    "response_format": fit_response_format,
    "tools": fit_tools,
}


def _fit_one_of(fitting: Fitting) -> None:
    group = fitting.manners.one_of
    if not group or len(given := [name for name in group if fitting.body.get(name) is not None]) < 2:
        return
    neutral = [name for name in given if fitting.body[name] in FIELDS[name].neutral]
    kept = next((name for name in given if name not in neutral), given[0])
    for name in given:
        if name != kept:
            fitting.leave_out(name, fitting.body[name], f"not beside {kept}")


def _fit_limit(fitting: Fitting, limits: AnswerLimits) -> None:
    """The limit of the answer's tokens under the model's name for it, within what it gives."""
    manners, body = fitting.manners, fitting.body
    given = next((name for name in _LIMITS if isinstance(body.get(name), int)), None)
    own = None if manners.limit_name == "either" else manners.limit_name
    if given is None:
        # Where a limit is demanded, an answer is not to be cut before the model's own one.
        sent = limits.unasked if manners.needs_limit else manners.default_max_tokens
        if sent is not None:
            fitting.put(own or "max_tokens", sent)
        return
    wanted, name = body[given], own or given
    fits = wanted if limits.most is None else min(wanted, limits.most)
    if fits == wanted and name == given and (own is None or sum(other in body for other in _LIMITS) == 1):
        return
    for other in _LIMITS:
        fitting.remove(other)
    fitting.put(name, fits)
    if fits != wanted:
        fitting.say(given, "clamped", f"the model gives at most {limits.most} tokens here")


def _fit_messages(fitting: Fitting) -> None:
    """What messages hold that this model or this format has nothing for."""
    body, manners = fitting.body, fitting.manners
    content = fitting.content
    for place in KINDS[fitting.kind].wire.unsupported_content(body) if content is None else content:
        fitting.say(place, "excluded", "")
    messages = as_objects(body.get("messages"))
    if manners.names is False and any(_is_named(message) for message in messages):
        messages = [
            {key: value for key, value in message.items() if key != "name"} if _is_named(message) else message
            for message in messages
        ]
        fitting.put("messages", messages)
        fitting.say("messages[].name", "dropped", ABSENT)
    if manners.cache_marks is False and MARK not in fitting.original and has_marks(body):
        fitting.say(MARK, "dropped", "the model caches by itself, or not at all")
    if manners.content_arrays is False:
        messages = [_joined(fitting, index, message) for index, message in enumerate(messages)]
        fitting.put("messages", messages)


def _is_named(message: JsonObject) -> bool:
    return bool(message.get("name")) and message.get("role") not in ("tool", "function")


def _joined(fitting: Fitting, index: int, message: JsonObject) -> JsonObject:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) < len(content) or not all(isinstance(text, str) for text in texts):
        fitting.say(f"messages[{index}].content", "excluded", "text alone")
        return message
    return {**message, "content": "\n".join(map(str, texts))}


def asks_whole(body: JsonObject, manners: Manners, *, streamed: bool) -> bool:
    """Whether a whole answer is to be asked for; `streamed`: somebody waits for a stream. A server that cannot be asked
    for the usage of a stream tells it with a whole answer."""
    if manners.streams is False:
        return True
    if not streamed and manners.stream_options is False and not manners.usage_unasked:
        return True
    modalities = body.get("modalities")
    if manners.streamed_audio is None or not isinstance(modalities, list) or "audio" not in modalities:
        return False
    return as_object(body.get("audio")).get("format") not in manners.streamed_audio


def learnt_from_refusal(message: str, sent: JsonObject, manners: Manners, *, whole: bool) -> Manners | None:
    """Which other manners a server may have that refused the body `sent`: its words name something that we added, or
    that can be said otherwise without loss. None: the refusal is about the client's own words."""
    if not whole and manners.stream_options and "stream_options" in message:
        return Manners(stream_options=False)
    if "max_completion_tokens" in message and "max_completion_tokens" in sent:
        return Manners(limit_name="max_tokens")
    if "max_completion_tokens" in message and "max_tokens" in sent:
        return Manners(limit_name="max_completion_tokens")
    if not whole and manners.streams is not False and _STREAM.search(message):
        return Manners(streams=False)
    lists = any(isinstance(each.get("content"), list) for each in as_objects(sent.get("messages")))
    if lists and manners.content_arrays is not False and _TEXT_WANTED.search(message):
        return Manners(content_arrays=False)
    return None


_STREAM = re.compile(r"\bstream(?:s|ed|ing)?\b", re.IGNORECASE)
_TEXT_WANTED = re.compile(r"content.*\bstr(?:ing)?\b", re.IGNORECASE | re.DOTALL)
