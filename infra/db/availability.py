"""Which provider settings count, and why a provider cannot be called. Pure rules, used for snapshots and endpoints."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelpilot.catalogue import ProviderKind
from modelpilot.records import ProviderEndpoint

DEFAULT_BASE_URLS: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
    "openrouter": "https://openrouter.ai/api/v1",
}
_KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GOOGLE_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
}


@dataclass(frozen=True, slots=True)
class OwnProvider:
    """A provider row of the owner, without its key."""

    kind: ProviderKind
    base_url: str | None
    has_key: bool


@dataclass(frozen=True, slots=True)
class CallableProvider:
    """A provider that can be called. `own_key`: the key is the owner's row's, otherwise `environment_key` (None: no
    key is needed)."""

    kind: ProviderKind
    base_url: str
    own_key: bool
    environment_key: str | None = None


def resolve_provider(
    provider_id: str, own: OwnProvider | None, environment: Mapping[str, ProviderEndpoint]
) -> CallableProvider | str:
    """How to call the provider, or the reason why it cannot be called.

    The owner's row with a key counts first, then a row that needs none (its own base URL), then the environment. A key
    of the environment is never sent to a base URL that an owner has set: that would hand it to the tenant.
    """
    if own is None:
        return _from_environment(provider_id, environment)
    if own.has_key:
        return _with_base_url(provider_id, own, environment, own_key=True)
    if own.kind == "simulator" or (own.kind == "openai" and own.base_url is not None):
        return _with_base_url(provider_id, own, environment, own_key=False)
    configured = environment.get(provider_id)
    if own.base_url is None and configured is not None and configured.kind == own.kind:
        return _from_environment(provider_id, environment)
    return _no_key(provider_id, own.kind)


def _with_base_url(
    provider_id: str, own: OwnProvider, environment: Mapping[str, ProviderEndpoint], *, own_key: bool
) -> CallableProvider | str:
    configured = environment.get(own.kind)
    base_url = own.base_url or (configured.base_url if configured else DEFAULT_BASE_URLS.get(own.kind))
    if base_url is None:
        return f"provider {provider_id} has no base URL (PUT /api/providers/{provider_id} with baseUrl)"
    return CallableProvider(own.kind, base_url, own_key)


def _from_environment(provider_id: str, environment: Mapping[str, ProviderEndpoint]) -> CallableProvider | str:
    configured = environment.get(provider_id)
    if configured is None:
        if provider_id in _KEY_VARIABLES:
            return _no_key(provider_id, provider_id)
        return f"provider {provider_id} is not configured (PUT /api/providers/{provider_id})"
    moved = configured.base_url != DEFAULT_BASE_URLS.get(configured.kind)  # a local server needs no key
    if configured.api_key or configured.kind == "simulator" or (configured.kind == "openai" and moved):
        return CallableProvider(configured.kind, configured.base_url, False, configured.api_key)
    return _no_key(provider_id, configured.kind)


def _no_key(provider_id: str, kind: str) -> str:
    variable = _KEY_VARIABLES.get(kind) if provider_id == kind else None
    remedy = f"set {variable} or " if variable else ""
    return f"provider {provider_id} has no API key ({remedy}PUT /api/providers/{provider_id})"
