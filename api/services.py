"""Everything that the application needs from outside, named once; the composition root fills it in."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry

from api.gateway.admission import Admission
from api.http.connections import ConnectionLimits
from modelpilot.management.resources import (
    ApiKeyRepository,
    AuditRepository,
    ModelRepository,
    ProviderRepository,
    RouterRepository,
)
from modelpilot.providers.resolution import ConfiguredProvider
from modelpilot.requests.records import Principal
from modelpilot.routing.aliases import KnownAliases

ChangeKind = Literal["router", "model", "provider", "api_key"]


class Authenticator(Protocol):
    """Tells who presents an API key."""

    async def authenticate(self, presented: str | None) -> Principal:
        """The key's holder. Raises AuthenticationFailed, DependencyUnavailable."""
        ...

    def drop(self, api_key_id: str | None = None) -> None:
        """Forget what is remembered of one key, or of all."""
        ...


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One dependency as `/readyz` sees it. `probe` raises when it is away; of the `required` ones, one is enough."""

    name: str
    probe: Callable[[], Awaitable[None]]
    required: bool = True


def _ignore_change(kind: ChangeKind, user_id: str, subject: str) -> None:
    """No cache to drop."""


def _accept_url(url: str) -> None:
    """No check."""


def _never() -> bool:
    return False


async def _no_aliases(user_id: str) -> KnownAliases:
    return KnownAliases({})


@dataclass(frozen=True, slots=True)
class Services:
    """The application's collaborators and settings.

    `on_change(kind, user_id, id)` drops this process's own caches after a write; other processes hear of it through
    the database. `admission` decides which requests that run a model may come in, `connections` how many connections
    there may be and how idle. `aliases` has the names that an owner's routers and models go by. `check_base_url` raises
    InvalidRequest for a provider address that may not be called. `configured` are the providers of this process's own
    settings, by id. `extra_routes` register routes of other packages with `registry.add_routes`. `draining` is true
    from SIGTERM on. `site_url` is where the analytics site is.
    """

    authenticator: Authenticator
    routers: RouterRepository
    models: ModelRepository
    providers: ProviderRepository
    keys: ApiKeyRepository
    audit: AuditRepository
    aliases: Callable[[str], Awaitable[KnownAliases]] = _no_aliases
    check_base_url: Callable[[str], None] = _accept_url
    configured: Mapping[str, ConfiguredProvider] = field(default_factory=dict)
    on_change: Callable[[ChangeKind, str, str], None] = _ignore_change
    health_checks: Sequence[HealthCheck] = ()
    draining: Callable[[], bool] = _never
    details: Callable[[], Mapping[str, float]] = dict
    extra_routes: Sequence[Callable[[web.Application], None]] = ()
    cors_origins: frozenset[str] = frozenset()
    max_body_bytes: int = 20 * 1024 * 1024
    metrics_public: bool = True
    site_url: str | None = None
    admission: Admission = field(default_factory=Admission)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    metrics_registry: CollectorRegistry = field(default=REGISTRY)


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
