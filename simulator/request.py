"""A chat request without its wire format: what all three dialects are parsed into. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simulator.faults import SimError
from simulator.text import count_tokens

MEDIA_TOKENS = 85  # OpenAI's price of a low-detail image, whatever its size
MAX_CHOICES = 128
OWN_ROLES = ("assistant", "model")  # "model" is Gemini's word


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call: its name, the JSON schema of its arguments, and what it is for."""

    name: str
    parameters: Mapping[str, Any]
    description: str = ""


class Called(NamedTuple):
    """A call of a tool in the history, or its result. `name` is empty where a result names the call alone."""

    id: str
    name: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: who speaks, its text, how many images or files it has and what is known of the images, the tools it
    calls and the results it brings."""

    role: str
    text: str
    media: int = 0
    images: tuple[str, ...] = ()
    calls: tuple[Called, ...] = ()
    results: tuple[Called, ...] = ()


class Block(NamedTuple):
    """A block of a prompt; `kept_s`: for how many seconds the prompt up to its end is to be kept (None: no mark)."""

    digest: str
    tokens: int
    kept_s: float | None = None


class CacheUse(NamedTuple):
    """The tokens of a prompt that were read from the cache, and those written to it."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0


NOT_CACHED = CacheUse()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asked for.

    `model` still carries its fault suffix; `prompt` is the last user message's text; `turns` are all messages, the
    system's included; `prefilled` says that the last message is the assistant's own, which the answer is to continue;
    `tool_choice` is `auto`, `none`, `required` or a tool's name; `schema` is the JSON schema the answer must satisfy
    ({}: any object, None: text); `top_logprobs` is None where no log probabilities are wanted; `blocks` are there where
    some may be cached.
    """

    model: str
    prompt: str
    prompt_tokens: int
    turns: tuple[Turn, ...] = ()
    prefilled: bool = False
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    seed: int = 0
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    parallel_tools: bool = True
    schema: Mapping[str, Any] | None = None
    top_logprobs: int | None = None
    simulator: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    cached: CacheUse = NOT_CACHED


def tokens_of(turn: Turn) -> int:
    """Return the tokens of a message."""
    return count_tokens(turn.text) + MEDIA_TOKENS * turn.media


class Conversation(NamedTuple):
    """The messages, the last user text, the tokens of all, and whether the last message is the assistant's own."""

    turns: tuple[Turn, ...]
    prompt: str
    tokens: int
    prefilled: bool


def conversation(turns: Iterable[Turn]) -> Conversation:
    """Read the messages of a request."""
    known = tuple(turns)
    prompt = next((turn.text for turn in reversed(known) if turn.role == "user" and turn.text), "")
    tokens = sum(map(tokens_of, known))
    return Conversation(known, prompt, tokens, bool(known) and known[-1].role in OWN_ROLES)


def text_of(value: Any, name: str) -> str:
    """Return `value` if it is a non-empty string; raises `SimError` (400) naming the field otherwise."""
    if not isinstance(value, str) or not value:
        raise SimError(400, f"{name} must be a non-empty string", param=name)
    return value


def whole(body: Mapping[str, Any], name: str, least: int = 0, most: int | None = None) -> int | None:
    """Return the whole number at `name`, None if absent; raises `SimError` (400) if it is none or out of range."""
    value = body.get(name)
    if value is None:
        return None
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not good or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"from {least} to {most}"
        raise SimError(400, f"{name} must be a whole number {span}", param=name)
    return int(value)


def objects(value: Any, name: str) -> list[Mapping[str, Any]]:
    """Return `value` as a list of objects ([] if absent); raises `SimError` (400) if it is anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise SimError(400, f"{name} must be a list of objects", param=name)
    return value


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Return `value` as an object ({} if absent); raises `SimError` (400) if it is anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SimError(400, f"{name} must be an object", param=name)
    return value


def strings(value: Any, name: str) -> tuple[str, ...]:
    """Return a string or a list of strings as a tuple; raises `SimError` (400) if it is anything else."""
    if value is None:
        return ()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise SimError(400, f"{name} must be a string or a list of strings", param=name)
    return tuple(found)
