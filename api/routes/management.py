"""`/api/routers`, `/api/models` and `/api/providers`: the resources that tenants administer, declared in one table; and
`/api/audit`: who changed what, newest first.
"""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from api.http.registry import QueryParam, RouteSpec
from api.routes import resource
from api.routes.resource import Resource
from api.services import SERVICES, Services
from modelpilot.errors import Conflict, InvalidRequest, NotFound
from modelpilot.management.resources import (
    SHARED_OWNER,
    AuditEntry,
    ModelFilter,
    ModelRepository,
    Page,
    ProviderSummary,
    RouterRepository,
    Stored,
    StoredModel,
)
from modelpilot.metrics.ports import DeploymentStates
from modelpilot.metrics.use import DeploymentState
from modelpilot.providers.breaker import State
from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.providers.resolution import OwnProvider, resolve_provider
from modelpilot.routing.aliases import KnownAliases, Target, taken
from modelpilot.routing.router import Router
from modelpilot.wire.json_model import WireModel

STATES: web.AppKey[DeploymentStates] = web.AppKey("deployment_states", DeploymentStates)

# A key becomes a header value; line breaks there would be another header.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,4000}")


class RouterView(Router, resource.Stamps):
    """A router at one version."""

    version: int


class RouterListing(resource.PageView[RouterView]):
    """Routers, or versions of one router, newest first."""


class ModelView(ModelSpec, resource.Stamps):
    """A model. `shared`: it comes from the seeded catalogue and is not overridden."""

    shared: bool


class ModelListing(resource.PageView[ModelView]):
    """Models by id."""


class SkippedView(WireModel):
    """A deployment that gateways skip or only probe; so many of them say so."""

    model: str
    deployment: str
    state: State
    because: str | None
    open_since: resource.Time | None
    next_probe_at: resource.Time
    gateways: int


class ProviderView(ProviderSummary, resource.Stamps):
    """A provider without its keys. `skipped`: its deployments whose breaker is not closed, or that rest."""

    skipped: list[SkippedView]


class ProviderListing(resource.PageView[ProviderView]):
    """Providers, newest first."""


def routes() -> list[RouteSpec]:
    """The routes of every resource, and the versions of a router."""
    path, summary = "/api/routers/{id}/versions", "List the versions of a router, newest first"
    versions = RouteSpec("GET", path, _versions, "admin", summary, "routers", None, RouterListing)
    return [*(spec for each in _RESOURCES for spec in each.routes()), versions]


async def _versions(request: web.Request) -> web.StreamResponse:
    routers = request.app[SERVICES].routers
    versions = await routers.versions(resource.owner_of(request), resource.path_id(request, "router"))
    return resource.listed(Page(tuple(versions)), _ROUTERS.view_of)


async def check_router(routers: RouterRepository, models: ModelRepository, owner: str, router: Router) -> None:
    """What the type cannot know: the models exist in the owner's catalogue, and nobody else has its aliases. Raises
    InvalidRequest, Conflict."""
    known: set[str] = set()
    for field, model in router.named_models():
        if model in known:
            continue
        try:
            await models.get(owner, model)
        except NotFound as error:
            raise InvalidRequest.at(field, f"there is no model '{model}'; see /api/models") from error
        known.add(model)
    if router.aliases:
        await _check_aliases(routers, models, owner, Target("router", router.id), router.aliases)


async def _check_router(services: Services, owner: str, router: Router) -> None:
    await check_router(services.routers, services.models, owner, router)


async def _check_model(services: Services, owner: str, model: ModelSpec) -> None:
    await _check_aliases(services.routers, services.models, owner, Target("model", model.id), model.aliases)


async def _check_aliases(
    routers: RouterRepository, models: ModelRepository, owner: str, target: Target, aliases: Sequence[str]
) -> None:
    named = [(Target("router", each.body.id), each.body.aliases) async for each in resource.every(routers, owner)]
    stored = [each async for each in resource.every(models, owner)]
    named += [(Target("model", each.body.id), each.body.aliases) for each in stored]
    known = KnownAliases.of(named, [each.body.id for each in stored if not each.shared])
    for field, reason in taken(target, aliases, known):
        raise Conflict(f"{field}: {reason}", param=field)


async def _check_model_unused(services: Services, owner: str, model: str) -> None:
    """Refuse to delete the owner's model while routers name it, unless the shared catalogue has it, too."""
    stored = await services.models.get(owner, model)
    if stored.shared or await _is_shared(services, model):
        return
    users = [router async for router in _routers_naming(services, owner, model)]
    if users:
        named = ", ".join(f"'{router}'" for router in users)
        raise Conflict(f"The model is used by the routers {named}; change them first.", details={"routers": users})


async def _is_shared(services: Services, model: str) -> bool:
    try:
        await services.models.get(SHARED_OWNER, model)
    except NotFound:
        return False
    return True


async def _routers_naming(services: Services, owner: str, model: str) -> AsyncIterator[str]:
    async for stored in resource.every(services.routers, owner):
        if any(name == model for _, name in stored.body.named_models()):
            yield stored.body.id


async def _skipped(request: web.Request) -> resource.More:
    states = await request.app[STATES].of(resource.owner_of(request)) if STATES in request.app else ()

    def of_provider(stored: Stored[ProviderSummary]) -> dict[str, Any]:
        return {"skipped": [_skipped_view(one) for one in states if one.provider == stored.body.id]}

    return of_provider


def _skipped_view(one: DeploymentState) -> SkippedView:
    return resource.view_of(SkippedView, one, open_since=one.open_since_s, next_probe_at=one.next_probe_s)


async def _check_provider(services: Services, owner: str, spec: ProviderSpec) -> None:
    if spec.base_url is not None:
        services.check_base_url(spec.base_url)
    named = [("apiKey", spec.api_key), *((f"apiKeys[{i}]", key) for i, key in enumerate(spec.api_keys or []))]
    for name, key in named:
        if key is not None and _HEADER_SAFE.fullmatch(key.get_secret_value()) is None:
            raise InvalidRequest.at(name, "printable ASCII characters without spaces were expected")


_FILTERS = (
    QueryParam("provider", "Only the models that this provider serves."),
    QueryParam("capability", "Only those that can do this; may be repeated."),
    QueryParam("search", "Only those with this in their id or their provider's name for them."),
    QueryParam("available", "`true`: only those whose provider can be called.", "boolean"),
)


class _Models(Resource[ModelSpec, StoredModel]):
    """Models, of which a list may be asked for some."""

    async def _list(self, request: web.Request) -> web.StreamResponse:
        services, owner = request.app[SERVICES], resource.owner_of(request)
        page = await services.models.list(owner, *resource.paging(request), await _wanted(request))
        return resource.listed(page, self.view_of)


async def _wanted(request: web.Request) -> ModelFilter:
    """What the query asks for. Raises InvalidRequest."""
    query, available = request.query, request.query.get("available", "false")
    if available not in {"true", "false"}:
        raise InvalidRequest.at("available", "true or false was expected")
    return ModelFilter(
        provider=query.get("provider") or None,
        capabilities=frozenset(filter(None, query.getall("capability", []))),
        search=query.get("search") or None,
        callable_at=await _callable_providers(request) if available == "true" else None,
    )


async def _callable_providers(request: web.Request) -> frozenset[str]:
    services = request.app[SERVICES]
    own = {
        stored.body.id: OwnProvider(stored.body.kind, stored.body.base_url, stored.body.key_count)
        async for stored in resource.every(services.providers, resource.owner_of(request))
    }
    known = {*own, *services.configured}
    found = {name: resolve_provider(name, own.get(name), services.configured) for name in known}
    return frozenset(name for name, how in found.items() if not isinstance(how, str))


_ROUTERS = Resource(
    kind="router",
    body=Router,
    view=RouterView,
    listing=RouterListing,
    repository=lambda services: services.routers,
    check_write=_check_router,
)
_MODELS = _Models(
    kind="model",
    body=ModelSpec,
    view=ModelView,
    listing=ModelListing,
    repository=lambda services: services.models,
    check_write=_check_model,
    check_delete=_check_model_unused,
    id_pattern=":.*[^/]",  # ids may contain slashes
    query=(*_FILTERS, *resource.PAGING),
)
_PROVIDERS = Resource(
    kind="provider",
    body=ProviderSpec,
    view=ProviderView,
    listing=ProviderListing,
    repository=lambda services: services.providers,
    check_write=_check_provider,
    more=_skipped,
)
_RESOURCES: tuple[Resource[Any, Any], ...] = (_ROUTERS, _MODELS, _PROVIDERS)


class AuditView(WireModel):
    """One management change. `actor` is the id of the API key that made it; `before` and `after` hold no secrets."""

    id: int
    timestamp: resource.Time
    actor: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditListing(resource.PageView[AuditView]):
    """Changes, newest first."""


def audit_routes() -> list[RouteSpec]:
    """The routes of this module."""
    return [
        RouteSpec(
            "GET", "/api/audit", _list, "admin", "List management changes", "audit", None, AuditListing, 200,
            resource.PAGING,
        )
    ]  # fmt: skip


async def _list(request: web.Request) -> web.StreamResponse:
    audit = request.app[SERVICES].audit
    return resource.listed(await audit.list(resource.owner_of(request), *resource.paging(request)), _view)


def _view(entry: AuditEntry) -> AuditView:
    return resource.view_of(AuditView, entry, timestamp=entry.at)
