"""The manners of models: what each takes in a request and how, by kind of provider, service and family of models.

One table, from the documents that each row names. Its owner may overrule it by `parameters` of a model or a provider.
`modelpilot.providers.fitting` applies it to a request's body.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from modelpilot.wire.json_model import WireModel
from modelpilot.wire.support import NATIVE

Range = Annotated[tuple[float, float], Field(strict=False)]
Names = Annotated[tuple[Annotated[str, Field(max_length=100)], ...], Field(strict=False, max_length=64)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Efforts = Annotated[tuple[Effort, ...], Field(strict=False, max_length=7)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000)]


class Manners(WireModel):
    """What a model takes. null: not said here, so that what is said elsewhere counts."""

    streams: bool | None = Field(None, description="may be asked for a stream; otherwise whole answers are asked for")
    stream_options: bool | None = Field(None, description="takes `stream_options`, which asks for the usage")
    usage_unasked: bool | None = Field(None, description="ends its streams with the usage without being asked")
    streamed_audio: Names | None = Field(None, description="audio formats that it streams; others are asked for whole")
    limit_name: Literal["max_tokens", "max_completion_tokens", "either"] | None = Field(
        None, description="what it calls the limit of the answer's tokens; `either`: what the client calls it"
    )
    max_tokens: Tokens | None = Field(None, description="the most tokens of an answer; null: `limits.maxTokens`")
    needs_limit: bool | None = Field(None, description="demands a limit: its most, where the client gives none")
    default_max_tokens: Tokens | None = Field(None, description="the limit that is sent where the client gives none")
    takes: Names | None = Field(None, description="the only fields of a body that it takes")
    omit: Names | None = Field(None, description="fields of a body that it does not take")
    seed_name: str | None = Field(None, max_length=100, description="what it calls `seed`")
    sampling: Literal["always", "unless_thinking", "never"] | None = Field(
        None, description="when it takes `temperature`, `top_p`, `top_k`, penalties, `logit_bias` and `logprobs`"
    )
    temperature: Range | None = Field(None, description="the range of `temperature`")
    top_p: Range | None = Field(None, description="the range of `top_p`")
    penalties: Range | None = Field(None, description="the range of `presence_penalty` and `frequency_penalty`")
    one_of: Names | None = Field(None, description="fields of which it takes one: the first of them that is given")
    max_choices: Count | None = Field(None, description="the most choices (`n`)")
    max_stops: Count | None = Field(None, description="the most stop sequences; 0: none")
    blank_stops: bool | None = Field(None, description="stop sequences may be white space alone")
    content_arrays: bool | None = Field(None, description="a message's content may be a list of parts")
    names: bool | None = Field(None, description="a message may name its participant")
    system_turns: bool | None = Field(None, description="takes system messages among the turns of a conversation")
    tool_call_ids: Literal["any", "alphanumeric9"] | None = Field(
        None, description="ids of tool calls: any, or nine letters and digits"
    )
    response_formats: Names | None = Field(None, description="which types of `response_format` it takes beside `text`")
    tools_with_json: bool | None = Field(None, description="takes tools and a JSON `response_format` together")
    schema_dialect: Literal["any", "openai", "claude", "gemini"] | None = Field(
        None, description="which JSON Schema it takes"
    )
    efforts: Efforts | None = Field(None, description="the values of `reasoning_effort`; []: it does not reason")
    efforts_with_tools: Efforts | None = Field(None, description="those of them that it takes beside tools")
    thinking: Literal["effort", "budget", "adaptive", "level"] | None = Field(
        None, description="how it is told how much to reason"
    )
    thinks_with_forced_tools: bool | None = Field(None, description="reasons beside a forced `tool_choice` as well")
    thinking_budget: Annotated[tuple[int, int], Field(strict=False)] | None = Field(
        None, description="the fewest and the most tokens of a thinking budget"
    )
    cache_marks: bool | None = Field(None, description="takes `cache_control`")
    reasoning_fields: Names | None = Field(
        None, description="in which fields an assistant's message may bring its reasoning back; null: in any"
    )

    @model_serializer(mode="wrap")
    def _what_is_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    def has(self, field: str) -> bool:
        """Whether the field of a body has a place at this model."""
        return (self.omit is None or field not in self.omit) and (self.takes is None or field in self.takes)

    def over(self, base: "Manners") -> "Manners":
        """These manners, and those of `base` where these say nothing. What either omits is omitted."""
        said = {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}
        if said.get("omit") and base.omit:
            said["omit"] = tuple(dict.fromkeys((*base.omit, *said["omit"])))
        return base.model_copy(update=said)


# The version stands before or behind the name of the size: claude-3-5-sonnet, claude-opus-4-1, gemini-2.5-pro, gpt-5.1.
_VERSION = re.compile(r"\b(?:(claude)-(?:[a-z]+-)*|(gemini|gpt)-)(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_Version = tuple[str, int, int]  # family, major, minor


@dataclass(frozen=True, slots=True)
class _Row:
    """What is different at some models; `kinds` and `services` empty: at all of them. `model` is searched for in the
    provider's name of the model, in lower case; `since` and `before` bound the version of a family."""

    differences: Manners
    kinds: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    model: re.Pattern[str] | None = None
    since: _Version | None = None
    before: _Version | None = None

    def holds(self, kind: str, service: str, model: str) -> bool:
        """Whether the row is about this model."""
        by_place = (not self.kinds or kind in self.kinds) and (not self.services or service in self.services)
        return by_place and (self.model is None or bool(self.model.search(model))) and self._by_version(model)

    def _by_version(self, model: str) -> bool:
        if self.since is None and self.before is None:
            return True
        found, (family, *_) = _VERSION.search(model), self.since or self.before or ("",)
        if found is None or family not in (found[1], found[2]):
            return False
        version = (family, int(found[3]), int(found[4] or 0))
        return (self.since is None or version >= self.since) and (self.before is None or version < self.before)


# Services that speak OpenAI's format, by the end of their hosts' names.
_SERVICES = {
    "api.openai.com": "openai",
    ".azure.com": "azure",
    ".azure.us": "azure",
    ".azure.cn": "azure",
    ".mistral.ai": "mistral",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    ".moonshot.ai": "moonshot",
    ".moonshot.cn": "moonshot",
    "api.x.ai": "xai",
    "openrouter.ai": "openrouter",
}

# Sampling parameters of servers that run open models; OpenAI's own refuses what it does not know.
_OPEN_SAMPLING = ("top_k", "min_p", "top_a", "repetition_penalty")
_NOT_OPENAIS = (*_OPEN_SAMPLING, "thinking", "reasoning", "cache_control")
_OPENAI_KINDS = ("openai", "openrouter", "simulator")
_ANY_EFFORT: Efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_CLAUDE_FIELDS = (
    *("messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "max_completion_tokens", "stop"),
    *("temperature", "top_p", "top_k", "response_format", "reasoning_effort", "reasoning", "output_config", "user"),
    *("safety_identifier", "cache_control", "container", "context_management", "inference_geo", "mcp_servers"),
    *("thinking", "stream", "n", NATIVE),
)
_GEMINI_FIELDS = (
    *("messages", "tools", "tool_choice", "max_tokens", "max_completion_tokens", "stop", "temperature", "top_p"),
    *("top_k", "n", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "response_format"),
    *("reasoning_effort", "reasoning", "thinking", "safetySettings", "cachedContent", "stream"),
)


_O_SERIES = re.compile(r"(?:^|/)o[1345](?:-|$)")
_REASONS = Manners(
    limit_name="max_completion_tokens", sampling="never", schema_dialect="openai", omit=("prediction",),
    efforts=("low", "medium", "high"),
)  # fmt: skip

TABLE: tuple[_Row, ...] = (
    # OpenAI's format. https://platform.openai.com/docs/api-reference/chat/create
    _Row(
        Manners(
            stream_options=True, streamed_audio=("pcm16",), limit_name="either", sampling="always",
            temperature=(0, 2), top_p=(0, 1), penalties=(-2, 2), blank_stops=True, content_arrays=True, names=True,
            tool_call_ids="any", response_formats=("json_object", "json_schema"), tools_with_json=True,
            schema_dialect="any", thinking="effort", cache_marks=False, streams=True, system_turns=True,
            omit=(NATIVE, "mcp_servers", "container"),
        ),
        kinds=_OPENAI_KINDS,
    ),
    # Servers that nobody has looked at know the older name of the limit, if they know one.
    _Row(Manners(limit_name="max_tokens"), kinds=("openai",)),
    # OpenRouter streams every audio format, knows marks for caches, and fits a request to the model behind it.
    # https://openrouter.ai/docs/features/multimodal/audio and /features/prompt-caching
    _Row(
        Manners(streamed_audio=("pcm16", "wav", "mp3", "flac", "opus", "aac"), cache_marks=True),
        kinds=("openrouter",),
    ),
    # https://platform.openai.com/docs/api-reference/chat/create: `stop`, `n`; other arguments are refused.
    _Row(
        Manners(limit_name="either", omit=_NOT_OPENAIS, max_stops=4, max_choices=128, schema_dialect="openai",
                cache_marks=False, reasoning_fields=()),
        services=("openai", "azure"),
    ),
    # https://learn.microsoft.com/azure/ai-services/openai/reference: older API versions know `max_tokens` alone.
    _Row(Manners(limit_name="max_tokens"), services=("azure",)),
    # https://docs.mistral.ai/api/: unknown fields are refused, usage comes unasked.
    _Row(
        Manners(
            stream_options=False, usage_unasked=True, seed_name="random_seed", names=False,
            reasoning_fields=(), efforts=("none", "high"),
            omit=(
                *_NOT_OPENAIS, "user", "safety_identifier", "logit_bias", "logprobs", "top_logprobs", "service_tier",
                "store", "verbosity", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
                "modalities", "audio", "web_search_options", "functions", "function_call", "moderation",
            ),
        ),
        services=("mistral",),
    ),
    # Their tokenizers take such ids alone, wherever they are served.
    # https://github.com/mistralai/mistral-common (validator.py)
    _Row(
        Manners(tool_call_ids="alphanumeric9"),
        kinds=("openai", "openrouter"),
        model=re.compile(r"mistral|mixtral|ministral|codestral|devstral|magistral|pixtral"),
    ),
    _Row(Manners(tool_call_ids="alphanumeric9"), services=("mistral",)),
    # https://console.groq.com/docs/openai: what it answers with 400.
    _Row(
        Manners(max_choices=1, max_stops=4, names=False, limit_name="either",
                omit=("logit_bias", "logprobs", "top_logprobs")),
        services=("groq",),
    ),
    # https://api-docs.deepseek.com/api/create-chat-completion
    _Row(Manners(max_stops=16, max_choices=1, response_formats=("json_object",)), services=("deepseek",)),
    # https://platform.moonshot.ai/docs/api/chat
    _Row(Manners(temperature=(0, 1), max_stops=5), services=("moonshot",)),
    # https://docs.x.ai/docs/models: models that reason know neither penalties nor stop sequences.
    _Row(
        Manners(omit=("presence_penalty", "frequency_penalty"), max_stops=0),
        services=("xai",),
        model=re.compile(r"grok-(?:4|3-mini|code)(?!.*non-reasoning)"),
    ),
    # Models without reasoning. https://platform.openai.com/docs/guides/reasoning
    _Row(Manners(efforts=(), omit=("verbosity",)), kinds=("openai",), before=("gpt", 5, 0)),
    # No JSON schema before gpt-4o. https://platform.openai.com/docs/guides/structured-outputs
    _Row(
        Manners(response_formats=("json_object",)),
        services=("openai", "azure"),
        model=re.compile(r"^gpt-(?:4-turbo|3\.5)"),
    ),
    # Models that reason: fixed sampling and another name of the limit, wherever they are served.
    # https://platform.openai.com/docs/guides/reasoning and /guides/latest-model
    _Row(_REASONS, kinds=("openai",), model=_O_SERIES),
    _Row(Manners(omit=("parallel_tool_calls", "verbosity")), kinds=("openai",), model=_O_SERIES),
    _Row(Manners(max_stops=0), kinds=("openai",), model=re.compile(r"(?:^|/)(?:o3(?!-mini)|o4)")),
    _Row(_REASONS, kinds=("openai",), since=("gpt", 5, 0)),
    _Row(Manners(max_stops=0, efforts=("minimal", "low", "medium", "high")), kinds=("openai",), since=("gpt", 5, 0)),
    # From 5.1 on "none" is an effort, and up to 5.4 the default, beside which sampling may be set.
    _Row(Manners(efforts=("none", "low", "medium", "high")), kinds=("openai",), since=("gpt", 5, 1)),
    _Row(Manners(sampling="unless_thinking"), kinds=("openai",), since=("gpt", 5, 1), before=("gpt", 5, 5)),
    _Row(Manners(efforts=("none", "low", "medium", "high", "xhigh")), kinds=("openai",), since=("gpt", 5, 2)),
    # "Function tools with reasoning_effort are not supported in /v1/chat/completions": OpenAI's answer since 5.4.
    _Row(Manners(efforts_with_tools=("none",)), kinds=("openai",), since=("gpt", 5, 4)),
    _Row(Manners(efforts=("none", "low", "medium", "high", "xhigh", "max")), kinds=("openai",), since=("gpt", 5, 6)),
    _Row(
        Manners(sampling="always", efforts=(), max_stops=4),
        kinds=("openai",),
        model=re.compile(r"(?:^|/)gpt-5[.\d]*-chat"),
    ),
    # https://platform.claude.com/docs/en/api/messages; a model of unknown name gets the manners of today's.
    _Row(
        Manners(
            streams=True, stream_options=True, usage_unasked=True, limit_name="max_tokens", needs_limit=True,
            thinks_with_forced_tools=False,
            takes=_CLAUDE_FIELDS,
            sampling="unless_thinking", temperature=(0, 1), top_p=(0, 1), one_of=("temperature", "top_p"),
            max_choices=1, blank_stops=False, content_arrays=True, names=False, tool_call_ids="any",
            response_formats=("json_schema",), tools_with_json=True, schema_dialect="claude", efforts=_ANY_EFFORT,
            thinking="budget", thinking_budget=(1_024, 128_000), cache_marks=True, system_turns=False,
            reasoning_fields=("thinking_blocks",),
        ),
        kinds=("anthropic",),
    ),
    # The most tokens of an answer. https://platform.claude.com/docs/en/about-claude/models/overview
    _Row(Manners(max_tokens=4_096), kinds=("anthropic",), before=("claude", 3, 5)),
    _Row(Manners(max_tokens=8_192), kinds=("anthropic",), since=("claude", 3, 5), before=("claude", 3, 7)),
    _Row(Manners(max_tokens=64_000), kinds=("anthropic",), since=("claude", 3, 7)),
    _Row(Manners(max_tokens=32_000), kinds=("anthropic",), model=re.compile("opus"), since=("claude", 4, 0),
         before=("claude", 4, 5)),
    # Thinking came with 3.7. https://platform.claude.com/docs/en/build-with-claude/extended-thinking
    _Row(Manners(efforts=()), kinds=("anthropic",), before=("claude", 3, 7)),
    # Up to 4.0 both sampling parameters may be given; structured outputs came with 4.1.
    # https://platform.claude.com/docs/en/build-with-claude/structured-outputs
    _Row(Manners(one_of=(), response_formats=()), kinds=("anthropic",), before=("claude", 4, 1)),
    # From 4.6 on models set their own budget. https://platform.claude.com/docs/en/build-with-claude/effort
    _Row(
        Manners(thinking="adaptive", efforts=("none", "low", "medium", "high", "max")),
        kinds=("anthropic",),
        since=("claude", 4, 6),
    ),
    # 4.7 takes no sampling parameters. https://platform.claude.com/docs/en/about-claude/models/migration-guide
    _Row(
        Manners(sampling="never", efforts=("none", "low", "medium", "high", "xhigh", "max")),
        kinds=("anthropic",),
        since=("claude", 4, 7),
    ),
    # System messages behind a user's, since Opus 4.8.
    # https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-8
    _Row(Manners(system_turns=True), kinds=("anthropic",), model=re.compile("opus"), since=("claude", 4, 8)),
    # https://ai.google.dev/api/generate-content; a model of unknown name gets the manners of 2.5.
    _Row(
        Manners(
            streams=True, stream_options=True, usage_unasked=True, limit_name="max_tokens", takes=_GEMINI_FIELDS,
            sampling="always", temperature=(0, 2), top_p=(0, 1), penalties=(-2, 2), max_choices=8, max_stops=5,
            blank_stops=True, content_arrays=True, names=False, tool_call_ids="any",
            response_formats=("json_object", "json_schema"), tools_with_json=False, schema_dialect="gemini",
            efforts=_ANY_EFFORT, thinking="budget", thinking_budget=(0, 32_768), cache_marks=False, system_turns=False,
            reasoning_fields=(),
        ),
        kinds=("google",),
    ),
    # https://ai.google.dev/gemini-api/docs/thinking: none before 2.5; ranges of budgets; levels from 3 on.
    _Row(Manners(efforts=()), kinds=("google",), before=("gemini", 2, 5)),
    _Row(Manners(omit=("presence_penalty", "frequency_penalty")), kinds=("google",), since=("gemini", 2, 5)),
    _Row(
        Manners(thinking_budget=(0, 24_576), efforts=("none", "minimal", "low", "medium", "high")),
        kinds=("google",),
        model=re.compile("flash"),
        since=("gemini", 2, 5),
    ),
    _Row(Manners(thinking_budget=(512, 24_576)), kinds=("google",), model=re.compile("2.5-flash-lite")),
    _Row(
        Manners(thinking_budget=(128, 32_768), efforts=("minimal", "low", "medium", "high", "xhigh", "max")),
        kinds=("google",),
        model=re.compile("2.5-pro"),
    ),
    # https://ai.google.dev/gemini-api/docs/gemini-3
    _Row(
        Manners(tools_with_json=True, thinking="level", efforts=("minimal", "low", "medium", "high")),
        kinds=("google",),
        since=("gemini", 3, 0),
    ),
    _Row(Manners(efforts=("low", "medium", "high")), kinds=("google",), model=re.compile(r"gemini-[3-9][.\d]*-pro")),
    _Row(Manners(efforts=("low", "high")), kinds=("google",), model=re.compile("gemini-3-pro")),
)  # fmt: skip


@lru_cache(maxsize=1_024)
def service_of(base_url: str | None) -> str:
    """The service that a base URL belongs to, by its host; empty for a server that nobody has looked at."""
    host = (urlsplit(base_url or "").hostname or "").rstrip(".").lower()
    return next((name for end, name in _SERVICES.items() if host == end or host.endswith(_dotted(end))), "")


def _dotted(end: str) -> str:
    return end if end.startswith(".") else f".{end}"


@lru_cache(maxsize=4_096)
def manners_of(kind: str | None, service: str, model: str, *overrides: Manners | None) -> Manners:
    """The manners of the provider's `model` at a kind of provider (None: unknown, which takes everything) and a
    service (`service_of`), with what its owner says over them, the last first. Equal manners are the same object."""
    manners = Manners()
    for layer in (*_table_layers(kind, service, model), *(each for each in overrides if each is not None)):
        manners = layer.over(manners)
    return _interned(manners)


def _table_layers(kind: str | None, service: str, model: str) -> Iterator[Manners]:
    if kind is not None:
        yield from (row.differences for row in TABLE if row.holds(kind, service, model.lower()))


@lru_cache(maxsize=4_096)
def _interned(manners: Manners) -> Manners:
    return manners
