"""The kinds of providers: one table of all that differs between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from modelpilot.wire import anthropic, gemini, openai
from modelpilot.wire.formats import WireFormat

ProviderKind = Literal["openai", "anthropic", "google", "openrouter", "simulator"]


@dataclass(frozen=True, slots=True)
class PromptCache:
    """How providers of one kind cache the beginnings of prompts.

    `automatic`: without being asked; else only what `cache_control` marks. It begins at `least_tokens` and is kept for
    `lifetime_s` seconds since it was used last (where a mark does not say otherwise). Writing costs the
    `write_factors` of the price of input, for five minutes and for an hour.
    """

    automatic: bool = True
    least_tokens: int = 1_024
    lifetime_s: float = 300.0
    write_factors: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What is true of all providers of one kind.

    `base_url` is its public address, used where a provider was saved without one; None: it has none. A key may be
    needed "at_public_address" alone, since servers that speak the format elsewhere may need none.
    `embeddings_url` makes the address of its OpenAI-shaped embeddings from a base URL; None: it has none. `cache` is
    how it caches prompts; None: not at all.
    """

    wire: WireFormat
    base_url: str | None
    key_needed: Literal["always", "at_public_address", "never"] = "always"
    embeddings_url: Callable[[str], str] | None = None
    cache: PromptCache | None = None

    def needs_key(self, *, elsewhere: bool) -> bool:
        """Whether it cannot be called without a key; `elsewhere`: not at the public address."""
        return self.key_needed == "always" or (self.key_needed == "at_public_address" and not elsewhere)


# OpenAI: from 1,024 tokens on, for 5 to 10 minutes (platform.openai.com/docs/guides/prompt-caching); DeepSeek, which
# speaks its format, from 64 tokens on and for hours (api-docs.deepseek.com/guides/kv_cache). Anthropic: what is marked,
# from 1,024 tokens on (up to 4,096 by model), writes at 1.25 and 2 times the price of input
# (docs.claude.com/en/docs/build-with-claude/prompt-caching). Google: from 1,024 tokens on with Flash (4,096 with Pro),
# a lifetime is not promised (ai.google.dev/gemini-api/docs/caching). OpenRouter: as the provider behind it.
KINDS: Mapping[ProviderKind, KindFacts] = {
    "openai": KindFacts(
        openai.WIRE, "https://api.openai.com/v1", "at_public_address", openai.embeddings_url, PromptCache()
    ),
    "anthropic": KindFacts(
        anthropic.WIRE, "https://api.anthropic.com", cache=PromptCache(automatic=False, write_factors=(1.25, 2.0))
    ),
    "google": KindFacts(
        gemini.WIRE,
        "https://generativelanguage.googleapis.com",
        embeddings_url=gemini.embeddings_url,
        cache=PromptCache(),
    ),
    "openrouter": KindFacts(openai.OPENROUTER, "https://openrouter.ai/api/v1", cache=PromptCache()),
    "simulator": KindFacts(openai.WIRE, None, "never", openai.embeddings_url),
}
# Kinds that a process can be given keys for by its environment.
PUBLIC_KINDS = tuple(kind for kind, facts in KINDS.items() if facts.base_url is not None)


def key_variable(kind: str) -> str:
    """The environment variable with the keys of a public kind, separated by commas."""
    return f"{kind.upper()}_API_KEY"


def base_url_variable(kind: str) -> str:
    """The environment variable with another base URL than the public one."""
    return f"{kind.upper()}_BASE_URL"
