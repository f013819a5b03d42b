"""What a wire format is: the address, the headers and the body of a request to a provider, and how to read its answer.

Each format has a module of its own (`openai`, `anthropic`, `gemini`) with a `WireFormat` in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelpilot.providers.manners import Manners
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.reader import StreamDecoder


@dataclass(frozen=True, slots=True)
class WireFormat:
    """How a provider is spoken to; every function is pure. Bodies of clients are OpenAI's."""

    chat_url: Callable[[str, str, bool], str]
    """From the provider's base URL, its name of the model, and whether a whole answer is wanted instead of a stream."""
    headers: Callable[[str, str | None, str, JsonObject], Mapping[str, str]]
    """From the base URL, the API key (None: none is needed), the request's id and the client's body: they authenticate
    the request. The key is in a header and never in the URL, since URLs end up in logs."""
    chat_request: Callable[[JsonObject, str, bool, Manners | None], JsonObject]
    """The body to send, from the client's body, the provider's name of the model, whether a whole answer is wanted, and
    the model's manners (None: those that its name tells)."""
    decoder: Callable[[JsonObject, str, int], StreamDecoder]
    """A fresh decoder for one answer, from the client's body, the request's id and now in Unix seconds."""
    unsupported_content: Callable[[JsonObject], list[str]]
    """Which messages and tools of the client's body have no place in this format, in the client's spelling."""


def join_url(base_url: str, path: str, query: str = "") -> str:
    """`base_url` extended by `path`; a query of the base (Azure's `api-version`) is kept before `query`."""
    base, _, base_query = base_url.partition("?")
    queries = "&".join(part for part in (base_query, query) if part)
    return f"{base.rstrip('/')}/{path}" + (f"?{queries}" if queries else "")


def versioned_url(base_url: str, version: str) -> str:
    """`base_url` with `version` appended where its last segment is no version yet (SDKs leave the version out)."""
    base, _, query = base_url.partition("?")
    last = base.rstrip("/").rpartition("/")[2]
    if last[:1] == "v" and last[1:2].isdigit():
        return base_url
    return join_url(base, version, query)
