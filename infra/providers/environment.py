"""Providers that the process's own configuration names: everybody on this installation may use them."""

from collections.abc import Mapping

from pydantic import SecretStr

from infra.db.routing.configuration import ConfiguredProvider
from infra.settings import Settings
from modelpilot.providers.catalogue import ProviderKind

_DEFAULT_URLS: Mapping[ProviderKind, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
    "openrouter": "https://openrouter.ai/api/v1",
}


def provider_endpoints(settings: Settings) -> dict[str, ConfiguredProvider]:
    """By provider id; a variable may hold several keys, separated by commas. The simulator needs none."""
    given: Mapping[ProviderKind, tuple[SecretStr | None, str | None]] = {
        "openai": (settings.openai_api_key, settings.openai_base_url),
        "anthropic": (settings.anthropic_api_key, settings.anthropic_base_url),
        "google": (settings.google_api_key, settings.google_base_url),
        "openrouter": (settings.openrouter_api_key, settings.openrouter_base_url),
    }
    endpoints: dict[str, ConfiguredProvider] = {
        kind: ConfiguredProvider(kind, url or _DEFAULT_URLS[kind], _separated(keys))
        for kind, (keys, url) in given.items()
    }
    if settings.simulator_url is not None:
        url = f"{settings.simulator_url.rstrip('/')}/v1"
        endpoints["simulator"] = ConfiguredProvider("simulator", url)
    return endpoints


def _separated(keys: SecretStr | None) -> tuple[str, ...]:
    """The keys of a variable, none twice."""
    given = [] if keys is None else [key.strip() for key in keys.get_secret_value().split(",")]
    return tuple(dict.fromkeys(key for key in given if key))
