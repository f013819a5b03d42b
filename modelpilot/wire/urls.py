"""Where a provider is reached."""

from collections.abc import Mapping

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
