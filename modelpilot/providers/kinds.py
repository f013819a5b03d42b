"""The kinds of providers: one table of all that differs between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from modelpilot.wire import anthropic, gemini, openai
from modelpilot.wire.formats import WireFormat

ProviderKind = Literal["openai", "anthropic", "google", "openrouter", "simulator"]


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What is true of all providers of one kind.

    `base_url` is its public address, used where a provider was saved without one; None: it has none. A key may be
    needed "at_public_address" alone, since servers that speak the format elsewhere may need none.
    `embeddings_url` makes the address of its OpenAI-shaped embeddings from a base URL; None: it has none.
    """

    wire: WireFormat
    base_url: str | None
    key_needed: Literal["always", "at_public_address", "never"] = "always"
    embeddings_url: Callable[[str], str] | None = None

    def needs_key(self, *, elsewhere: bool) -> bool:
        """Whether it cannot be called without a key; `elsewhere`: not at the public address."""
        return self.key_needed == "always" or (self.key_needed == "at_public_address" and not elsewhere)


KINDS: Mapping[ProviderKind, KindFacts] = {
    "openai": KindFacts(openai.WIRE, "https://api.openai.com/v1", "at_public_address", openai.embeddings_url),
    "anthropic": KindFacts(anthropic.WIRE, "https://api.anthropic.com"),
    "google": KindFacts(gemini.WIRE, "https://generativelanguage.googleapis.com", embeddings_url=gemini.embeddings_url),
    "openrouter": KindFacts(openai.WIRE, "https://openrouter.ai/api/v1"),
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
