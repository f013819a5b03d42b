"""Providers that the process's own configuration names: everybody on this installation may use them."""

from collections.abc import Mapping

from pydantic import SecretStr

from infra.settings import Settings
from modelpilot.catalogue import ProviderKind
from modelpilot.records import ProviderEndpoint

_DEFAULT_URLS: Mapping[ProviderKind, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
    "openrouter": "https://openrouter.ai/api/v1",
}


def provider_endpoints(settings: Settings) -> dict[str, ProviderEndpoint]:
    """By provider id; entries without a key tell the base URL alone. The simulator needs none."""
    given: Mapping[ProviderKind, tuple[SecretStr | None, str | None]] = {
        "openai": (settings.openai_api_key, settings.openai_base_url),
        "anthropic": (settings.anthropic_api_key, settings.anthropic_base_url),
        "google": (settings.google_api_key, settings.google_base_url),
        "openrouter": (settings.openrouter_api_key, settings.openrouter_base_url),
    }
    endpoints: dict[str, ProviderEndpoint] = {
        kind: ProviderEndpoint(kind, kind, url or _DEFAULT_URLS[kind], key.get_secret_value() if key else None)
        for kind, (key, url) in given.items()
    }
    if settings.simulator_url is not None:
        url = f"{settings.simulator_url.rstrip('/')}/v1"
        endpoints["simulator"] = ProviderEndpoint("simulator", "simulator", url, None)
    return endpoints
