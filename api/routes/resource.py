"""The five routes that every managed resource has: create, list, read, create or replace, delete."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from aiohttp import web

from api.registry import RouteSpec
from api.routes import crud
from api.services import SERVICES, ChangeKind, Services
from modelpilot.management.resources import Page
from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.routing.router import Router
from modelpilot.wire.json_model import WireModel

BodyT = TypeVar("BodyT", bound=Router | ModelSpec | ProviderSpec)
StoredT = TypeVar("StoredT")
BodyT_contra = TypeVar("BodyT_contra", contravariant=True)


class Repository(Protocol[BodyT_contra, StoredT]):
    """What the repositories of `modelpilot.management.resources` have in common."""

    async def create(self, user_id: str, body: BodyT_contra, actor: str, /) -> StoredT:
        """Raises Conflict."""
        ...

    async def put(self, user_id: str, body: BodyT_contra, actor: str, /) -> StoredT:
        """Create or replace."""
        ...

    async def get(self, user_id: str, subject: str, /) -> StoredT:
        """Raises NotFound."""
        ...

    async def list(self, user_id: str, cursor: str | None, limit: int, /) -> Page[StoredT]:
        """One page."""
        ...

    async def delete(self, user_id: str, subject: str, actor: str, /) -> None:
        """Raises NotFound."""
        ...


async def accept(services: Services, owner: str, item: object) -> None:
    """Nothing to check."""


@dataclass(frozen=True, slots=True)
class Resource(Generic[BodyT, StoredT]):
    """One managed resource under `path`.

    `read_only` names the fields that answers have beside the body's own: they are ignored when written back.
    `check_write` and `check_delete` refuse what the type alone cannot see; the latter gets the id.
    """

    kind: ChangeKind
    path: str
    body: type[BodyT]
    view: Callable[[StoredT], WireModel]
    view_model: type[WireModel]
    listing_model: type[WireModel]
    repository: Callable[[Services], Repository[BodyT, StoredT]]
    read_only: frozenset[str]
    id_pattern: str = ""
    check_write: Callable[[Services, str, BodyT], Awaitable[None]] = accept
    check_delete: Callable[[Services, str, str], Awaitable[None]] = accept

    def routes(self) -> list[RouteSpec]:
        """The five routes, all for the scope `admin`."""
        many, one, tag = self.path, f"{self.path}/{{id{self.id_pattern}}}", f"{self.kind}s"
        body, view = self.body, self.view_model
        return [
            RouteSpec("POST", many, self._create, "admin", f"Create a {self.kind}", tag, body, view, 201),
            RouteSpec("GET", many, self._list, "admin", f"List {tag}", tag, None, self.listing_model, 200, crud.PAGING),
            RouteSpec("GET", one, self._get, "admin", f"Read a {self.kind}", tag, None, view),
            RouteSpec("PUT", one, self._put, "admin", f"Create or replace a {self.kind}", tag, body, view),
            RouteSpec("DELETE", one, self._delete, "admin", f"Delete a {self.kind}", tag, status=204),
        ]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        services, owner = request.app[SERVICES], crud.owner_of(request)
        body = await crud.read_new(request, self.body, self.read_only)
        await self.check_write(services, owner, body)
        stored = await self.repository(services).create(owner, body, crud.actor_of(request))
        services.on_change(self.kind, owner, body.id)
        return crud.created(self.view(stored), f"{self.path}/{body.id}")

    async def _put(self, request: web.Request) -> web.StreamResponse:
        services, owner = request.app[SERVICES], crud.owner_of(request)
        body = await crud.read_replacement(request, self.body, self.read_only)
        await self.check_write(services, owner, body)
        stored = await self.repository(services).put(owner, body, crud.actor_of(request))
        services.on_change(self.kind, owner, body.id)
        return crud.shown(self.view(stored))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        repository = self.repository(request.app[SERVICES])
        return crud.shown(self.view(await repository.get(crud.owner_of(request), crud.path_id(request, self.kind))))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        repository = self.repository(request.app[SERVICES])
        return crud.listed(await repository.list(crud.owner_of(request), *crud.paging(request)), self.view)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        services, owner, subject = request.app[SERVICES], crud.owner_of(request), crud.path_id(request, self.kind)
        await self.check_delete(services, owner, subject)
        await self.repository(services).delete(owner, subject, crud.actor_of(request))
        services.on_change(self.kind, owner, subject)
        return crud.deleted()
