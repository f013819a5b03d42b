"""What the settings say of providers: those that everybody may use, their addresses, and the proxies on the way."""

from urllib.parse import urlsplit

from pydantic import SecretStr

from infra.providers.addresses import AddressRule
from infra.providers.proxies import ProxyRule
from infra.settings import ConfigurationError, Settings
from modelpilot.errors import InvalidRequest
from modelpilot.providers.kinds import KINDS, PUBLIC_KINDS, base_url_variable
from modelpilot.providers.resolution import ConfiguredProvider


def provider_endpoints(settings: Settings) -> dict[str, ConfiguredProvider]:
    """By provider id; a variable may hold several keys, separated by commas. The simulator needs none.

    Raises ConfigurationError for an address that a provider may not have.
    """
    _check_addresses(settings)
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


def proxy_rule(settings: Settings) -> ProxyRule:
    """Through which proxy providers are called. The simulator is ours, and never behind one."""
    simulator = urlsplit(settings.simulator_url or "").hostname
    return ProxyRule.of(settings.http_proxy, settings.https_proxy, settings.no_proxy, [simulator] if simulator else [])


def _check_addresses(settings: Settings) -> None:
    rule, problems = address_rule(settings), []
    # Not that of the simulator, which comes with every embedded stack, called or not.
    for kind in PUBLIC_KINDS:
        try:
            if (url := settings.provider_base_url(kind)) is not None:
                rule.check_url(url)
        except InvalidRequest as error:
            problems.append(f"{base_url_variable(kind)}: {error.message}")
    if problems:
        raise ConfigurationError(problems)


def _separated(keys: SecretStr | None) -> tuple[str, ...]:
    """The keys of a variable, none twice."""
    given = [] if keys is None else [key.strip() for key in keys.get_secret_value().split(",")]
    return tuple(dict.fromkeys(key for key in given if key))
