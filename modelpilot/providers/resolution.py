"""Which settings of a provider count, its owner's or the environment's, and why it cannot be called."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modelpilot.providers.kinds import KINDS, PUBLIC_KINDS, ProviderKind, key_variable
from modelpilot.providers.manners import Manners


@dataclass(frozen=True, slots=True)
class ConfiguredProvider:
    """A provider as the process's own configuration names it; without keys it tells the base URL alone."""

    kind: ProviderKind
    base_url: str
    api_keys: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class OwnProvider:
    """A provider row of the owner, without its keys."""

    kind: ProviderKind
    base_url: str | None
    key_count: int
    parameters: Manners | None = None


@dataclass(frozen=True, slots=True)
class CallableProvider:
    """A provider that can be called, with the keys of the owner's row (`own_keys` of them), or else with those of the
    environment (none: no key is needed)."""

    kind: ProviderKind
    base_url: str
    own_keys: int = 0
    environment_keys: tuple[str, ...] = field(default=(), repr=False)
    parameters: Manners | None = None

    @property
    def key_count(self) -> int:
        """How many keys share its load; 1 where it needs none."""
        return self.own_keys or len(self.environment_keys) or 1


def resolve_provider(
    provider_id: str, own: OwnProvider | None, environment: Mapping[str, ConfiguredProvider]
) -> CallableProvider | str:
    """How to call the provider, or the reason why it cannot be called.

    The owner's row with a key counts first, then a row that needs none (its own base URL), then the environment. A key
    of the environment is never sent to a base URL that an owner has set: that would hand it to the tenant.
    """
    if own is None:
        return _from_environment(provider_id, environment)
    if own.key_count or not KINDS[own.kind].needs_key(elsewhere=own.base_url is not None):
        return _with_base_url(provider_id, own, environment)
    configured = environment.get(provider_id)
    if own.base_url is None and configured is not None and configured.kind == own.kind:
        found = _from_environment(provider_id, environment)
        return found if isinstance(found, str) else replace(found, parameters=own.parameters)
    return _no_key(provider_id, own.kind)


def _with_base_url(
    provider_id: str, own: OwnProvider, environment: Mapping[str, ConfiguredProvider]
) -> CallableProvider | str:
    configured = environment.get(own.kind)
    base_url = own.base_url or (configured.base_url if configured else KINDS[own.kind].base_url)
    if base_url is None:
        return f"provider {provider_id} has no base URL (PUT /api/providers/{provider_id} with baseUrl)"
    return CallableProvider(own.kind, base_url, own.key_count, parameters=own.parameters)


def _from_environment(provider_id: str, environment: Mapping[str, ConfiguredProvider]) -> CallableProvider | str:
    configured = environment.get(provider_id)
    if configured is None:
        if provider_id in PUBLIC_KINDS:
            return _no_key(provider_id, provider_id)
        return f"provider {provider_id} is not configured (PUT /api/providers/{provider_id})"
    facts = KINDS[configured.kind]
    if configured.api_keys or not facts.needs_key(elsewhere=configured.base_url != facts.base_url):
        return CallableProvider(configured.kind, configured.base_url, 0, configured.api_keys)
    return _no_key(provider_id, configured.kind)


def _no_key(provider_id: str, kind: str) -> str:
    remedy = f"set {key_variable(kind)} or " if provider_id == kind and kind in PUBLIC_KINDS else ""
    return f"provider {provider_id} has no API key ({remedy}PUT /api/providers/{provider_id})"
