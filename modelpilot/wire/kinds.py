"""Which fields each kind of provider cannot honour, in one place, for those who choose between them."""

from collections.abc import Callable, Mapping

from modelpilot.wire import anthropic, gemini, openai
from modelpilot.wire.jsonb import JsonObject

_UNSUPPORTED: Mapping[str, Callable[[JsonObject], list[str]]] = {
    "openai": openai.unsupported_fields,
    "openrouter": openai.unsupported_fields,
    "simulator": openai.unsupported_fields,
    "anthropic": anthropic.unsupported_fields,
    "google": gemini.unsupported_fields,
}


def unsupported_fields(kind: str, body: JsonObject) -> list[str]:
    """The fields of an OpenAI `body` that a provider of `kind` cannot honour (none for an unknown kind)."""
    check = _UNSUPPORTED.get(kind)
    return [] if check is None else check(body)


# Where a provider is reached.

# Kind of provider → its public address, used where a provider was saved without a base URL of its own.
DEFAULT_BASE_URLS: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta",
    "openrouter": "https://openrouter.ai/api/v1",
}


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
