"""`/api/providers`: where models are called. A provider's keys go in and never come out."""

import re

from pydantic import AwareDatetime

from api.http.registry import RouteSpec
from api.routes import resource
from api.routes.resource import Resource
from api.services import Services
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import StoredProvider
from modelpilot.providers.catalogue import ProviderKind, ProviderSpec
from modelpilot.wire.json_model import WireModel

# A key becomes a header value; line breaks there would be another header.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,4000}")


class ProviderView(WireModel):
    """A provider without its keys."""

    id: str
    kind: ProviderKind
    base_url: str | None
    has_key: bool
    key_count: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ProviderListing(resource.PageView[ProviderView]):
    """Providers, newest first."""


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    return _PROVIDERS.routes()


async def _check(services: Services, owner: str, spec: ProviderSpec) -> None:
    if spec.base_url is not None:
        services.check_base_url(spec.base_url)
    named = [("apiKey", spec.api_key), *((f"apiKeys[{i}]", key) for i, key in enumerate(spec.api_keys or []))]
    for name, key in named:
        if key is not None and _HEADER_SAFE.fullmatch(key.get_secret_value()) is None:
            raise InvalidRequest(f"{name}: printable ASCII characters without spaces were expected", param=name)


def _view(stored: StoredProvider) -> ProviderView:
    return ProviderView(
        id=stored.id,
        kind=stored.kind,
        base_url=stored.base_url,
        has_key=stored.has_key,
        key_count=stored.key_count,
        created_at=resource.utc(stored.created_at),
        updated_at=resource.utc(stored.updated_at),
    )


_PROVIDERS = Resource(
    kind="provider",
    path="/api/providers",
    body=ProviderSpec,
    view=_view,
    view_model=ProviderView,
    listing_model=ProviderListing,
    repository=lambda services: services.providers,
    read_only=frozenset({"hasKey", "keyCount", "createdAt", "updatedAt"}),
    check_write=_check,
)
