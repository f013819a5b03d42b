"""`/api/models`: the owner's models over the shared catalogue. Ids may contain slashes."""

from collections.abc import AsyncIterator

from api.http.registry import RouteSpec
from api.routes import resource
from api.routes.resource import Resource
from api.routes.routers import named_models
from api.services import Services
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.resources import SHARED_OWNER, StoredModel
from modelpilot.providers.catalogue import ModelSpec


class ModelView(ModelSpec, resource.Stamps):
    """A model. `shared`: it comes from the seeded catalogue and is not overridden."""

    shared: bool


class ModelListing(resource.PageView[ModelView]):
    """Models by id."""


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    return _MODELS.routes()


async def _check_delete(services: Services, owner: str, model: str) -> None:
    stored = await services.models.get(owner, model)
    if not stored.shared and not await _is_shared(services, model):
        await _refuse_where_used(services, owner, model)


async def _is_shared(services: Services, model: str) -> bool:
    """Whether the shared catalogue has the model, so that routers keep working without the owner's override."""
    try:
        await services.models.get(SHARED_OWNER, model)
    except NotFound:
        return False
    return True


async def _refuse_where_used(services: Services, owner: str, model: str) -> None:
    users = [router async for router in _routers_naming(services, owner, model)]
    if users:
        named = ", ".join(f"'{router}'" for router in users)
        raise Conflict(f"The model is used by the routers {named}; change them first.", details={"routers": users})


async def _routers_naming(services: Services, owner: str, model: str) -> AsyncIterator[str]:
    async for stored in resource.every(lambda cursor, limit: services.routers.list(owner, cursor, limit)):
        if any(name == model for _, name in named_models(stored.router)):
            yield stored.router.id


def _view(stored: StoredModel) -> ModelView:
    return ModelView(
        **stored.spec.model_dump(),
        shared=stored.shared,
        created_at=resource.utc(stored.created_at),
        updated_at=resource.utc(stored.updated_at),
    )


_MODELS = Resource(
    kind="model",
    path="/api/models",
    id_pattern=":.+",
    body=ModelSpec,
    view=_view,
    view_model=ModelView,
    listing_model=ModelListing,
    repository=lambda services: services.models,
    read_only=frozenset({"shared", "createdAt", "updatedAt"}),
    check_delete=_check_delete,
)
