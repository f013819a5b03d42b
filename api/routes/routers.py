"""`/api/routers`: routers and their versions."""

from collections.abc import Iterator

from aiohttp import web

from api.http.registry import RouteSpec
from api.routes import resource
from api.routes.resource import Resource
from api.services import SERVICES, Services
from modelpilot.errors import InvalidRequest, NotFound
from modelpilot.management.resources import ModelRepository, Page, StoredRouter
from modelpilot.routing.router import Router


class RouterView(Router, resource.Stamps):
    """A router at one version."""

    version: int


class RouterListing(resource.PageView[RouterView]):
    """Routers, or versions of one router, newest first."""


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    versions = RouteSpec(
        "GET",
        f"{_ROUTERS.path}/{{id}}/versions",
        _versions,
        "admin",
        "List the versions of a router, newest first",
        "routers",
        None,
        RouterListing,
    )
    return [*_ROUTERS.routes(), versions]


async def _versions(request: web.Request) -> web.StreamResponse:
    routers = request.app[SERVICES].routers
    versions = await routers.versions(resource.owner_of(request), resource.path_id(request, "router"))
    return resource.listed(Page(tuple(versions)), _view)


def named_models(router: Router) -> Iterator[tuple[str, str]]:
    """Every model that the router names, each with the field that names it."""
    if router.preferred_model is not None:
        yield "preferredModel", router.preferred_model
    for position, model in enumerate(router.available_models):
        yield f"availableModels[{position}]", model
    for position, model in enumerate(router.fallback_strategy.fallback_models):
        yield f"fallbackStrategy.fallbackModels[{position}]", model


async def _check(services: Services, owner: str, router: Router) -> None:
    await check_router(services.models, owner, router)


async def check_router(models: ModelRepository, owner: str, router: Router) -> None:
    """What the type cannot know: the models exist in the owner's catalogue, and the durability is built.

    Raises InvalidRequest.
    """
    if router.durability == "relaxed":
        raise InvalidRequest("durability: 'relaxed' is not built yet; use 'strict'", param="durability")
    known: set[str] = set()
    for field, model in named_models(router):
        if model in known:
            continue
        try:
            await models.get(owner, model)
        except NotFound as error:
            raise InvalidRequest(f"{field}: there is no model '{model}'; see /api/models", param=field) from error
        known.add(model)


def _view(stored: StoredRouter) -> RouterView:
    return RouterView(
        **stored.router.model_dump(),
        version=stored.version,
        created_at=resource.utc(stored.created_at),
        updated_at=resource.utc(stored.updated_at),
    )


_ROUTERS = Resource(
    kind="router",
    path="/api/routers",
    body=Router,
    view=_view,
    view_model=RouterView,
    listing_model=RouterListing,
    repository=lambda services: services.routers,
    read_only=frozenset({"version", "createdAt", "updatedAt"}),
    check_write=_check,
)
