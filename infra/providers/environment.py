"""What the settings say of providers: those that everybody may use, and which addresses providers may have."""

from pydantic import SecretStr

from infra.providers.addresses import AddressRule
from infra.settings import Settings
from modelpilot.providers.kinds import KINDS
from modelpilot.providers.resolution import ConfiguredProvider


def provider_endpoints(settings: Settings) -> dict[str, ConfiguredProvider]:
    """By provider id; a variable may hold several keys, separated by commas. The simulator needs none."""
    endpoints: dict[str, ConfiguredProvider] = {}
    for kind, facts in KINDS.items():
        if facts.base_url is not None:
            url, keys = settings.provider_base_url(kind), settings.provider_keys(kind)
            endpoints[kind] = ConfiguredProvider(kind, url or facts.base_url, _separated(keys))
    if settings.simulator_url is not None:
        url = f"{settings.simulator_url.rstrip('/')}/v1"
        endpoints["simulator"] = ConfiguredProvider("simulator", url)
    return endpoints


def address_rule(settings: Settings) -> AddressRule:
    """Which addresses providers may have."""
    return AddressRule.of(allow_internal=not settings.production, private_hosts=settings.private_provider_hosts)


def _separated(keys: SecretStr | None) -> tuple[str, ...]:
    """The keys of a variable, none twice."""
    given = [] if keys is None else [key.strip() for key in keys.get_secret_value().split(",")]
    return tuple(dict.fromkeys(key for key in given if key))
