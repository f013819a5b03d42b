"""Resources over HTTP: ids, pages, times and answers as all lists have them, and the routes of a resource."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Generic, TypeVar

from aiohttp import web
from pydantic import AwareDatetime, BeforeValidator

from api.http.bodies import read_json, refuse_unstorable, validate
from api.http.middleware import PRINCIPAL
from api.http.registry import QueryParam, RouteSpec
from api.http.responses import json_response
from api.services import SERVICES, ChangeKind, Services
from modelpilot.errors import InvalidRequest, NotFound
from modelpilot.management.resources import Page, Repository, Stored
from modelpilot.wire.json_model import ResourceBody, WireModel

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


def paging_params(most: int) -> tuple[QueryParam, QueryParam]:
    """The parameters that `paging` reads."""
    return (
        QueryParam("cursor", "`nextCursor` of the page before; left out for the first page."),
        QueryParam("limit", f"Items per page, 1 to {most}; {DEFAULT_LIMIT} when left out.", "integer"),
    )


PAGING = paging_params(MAX_LIMIT)
# Ids as they can be stored at all; anything else in a path cannot exist.
_PATH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")

Item = TypeVar("Item")
View = TypeVar("View", bound=WireModel)
AnyBody = TypeVar("AnyBody", bound=WireModel)
Body = TypeVar("Body", bound=ResourceBody)
Content = TypeVar("Content", bound=Stored[Any])
More = Callable[[Any], dict[str, Any]]


class PageView(WireModel, Generic[View]):
    """One page of a list."""

    items: list[View]
    next_cursor: str | None = None


def utc(moment: float | datetime) -> datetime:
    """Unix seconds as a UTC time."""
    return moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)


# A time in an answer, made of Unix seconds.
Time = Annotated[AwareDatetime, BeforeValidator(utc)]


class Stamps(WireModel):
    """When something was made and last changed, UTC."""

    created_at: Time
    updated_at: Time


def view_of(model: type[View], *things: object, **fields: Any) -> View:
    """The answer made of these fields and, for all others, of the attributes of the same names of `things`."""
    for thing in things:
        same = {name: getattr(thing, name) for name in model.model_fields if hasattr(thing, name)}
        fields = {**same, **fields}
    return model.model_validate(fields, from_attributes=True)


def owner_of(request: web.Request) -> str:
    """The tenant whose things this request reads and writes."""
    return request[PRINCIPAL].user_id


def actor_of(request: web.Request) -> str:
    """Who makes the change, as the audit log names it."""
    return request[PRINCIPAL].api_key_id


def path_id(request: web.Request, what: str) -> str:
    """The id in the path. Raises NotFound where nothing can have it."""
    subject = request.match_info["id"]
    if _PATH_ID.fullmatch(subject) is None:
        raise NotFound(f"There is no such {what}.")
    return subject


def paging(request: web.Request, most: int = MAX_LIMIT) -> tuple[str | None, int]:
    """Cursor and limit (at most `most`) of a list request. Raises InvalidRequest."""
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    is_short_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not is_short_number or not 1 <= int(text) <= most:
        raise InvalidRequest(f"limit: an integer from 1 to {most} was expected", param="limit")
    return request.query.get("cursor") or None, int(text)


async def read_new(request: web.Request, model: type[AnyBody], read_only: Collection[str] = ()) -> AnyBody:
    """The body of a POST."""
    data = await read_json(request)
    refuse_unstorable(data)
    return validate(without(data, read_only), model)


async def read_replacement(request: web.Request, model: type[AnyBody], read_only: Collection[str] = ()) -> AnyBody:
    """The body of a PUT: its id is the one in the path, and may be repeated in the body."""
    data = await read_json(request)
    refuse_unstorable(data)
    subject = request.match_info["id"]
    if data.get("id", subject) != subject:
        raise InvalidRequest("id: it must be the id in the path, or be left out", param="id")
    return validate({**without(data, read_only), "id": subject}, model)


def without(data: dict[str, Any], read_only: Collection[str]) -> dict[str, Any]:
    """`data` less the fields that only answers have, so that what was read can be written back."""
    return {key: value for key, value in data.items() if key not in read_only}


def created(view: WireModel, location: str) -> web.Response:
    """201 with the thing that was made."""
    return json_response(view.to_wire(), 201, {"location": location})


def shown(view: WireModel) -> web.Response:
    """200 with one thing."""
    return json_response(view.to_wire())


def listed(page: Page[Item], view: Callable[[Item], WireModel]) -> web.Response:
    """200 with one page of things."""
    items = [view(item).to_wire() for item in page.items]
    return json_response({"items": items, "nextCursor": page.next_cursor})


def deleted() -> web.Response:
    """204: the thing is gone."""
    return web.Response(status=204)


async def every(repository: Repository[Any, Item], owner: str) -> AsyncIterator[Item]:
    """All of this owner's resources, page by page."""
    cursor: str | None = None
    while True:
        page = await repository.list(owner, cursor, MAX_LIMIT)
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


async def nothing_more(request: web.Request) -> "More":
    """Answers show what is stored, and nothing else."""
    return lambda _: {}


async def accept(services: Services, owner: str, item: object) -> None:
    """Nothing to check."""


@dataclass(frozen=True, slots=True)
class Resource(Generic[Body, Content]):
    """A resource that tenants administer under `/api/{kind}s`: its five routes, all for the scope `admin`.

    `view` has the fields that answers show; those that `body` has not are ignored when they are written back. `more`
    gives answers further fields, out of what is stored. `check_write` and `check_delete` refuse what the type alone
    cannot see; the latter gets the id.
    """

    kind: ChangeKind
    body: type[Body]
    view: type[WireModel]
    listing: type[WireModel]
    repository: Callable[[Services], Repository[Body, Content]]
    check_write: Callable[[Services, str, Body], Awaitable[None]] = accept
    check_delete: Callable[[Services, str, str], Awaitable[None]] = accept
    more: Callable[[web.Request], Awaitable["More"]] = nothing_more
    id_pattern: str = ""
    query: tuple[QueryParam, ...] = PAGING

    @property
    def path(self) -> str:
        """Where the resources of this kind are listed and made."""
        return f"/api/{self.kind}s"

    def routes(self) -> list[RouteSpec]:
        """Create, list, read, create or replace, delete."""
        many, one, tag = self.path, f"{self.path}/{{id{self.id_pattern}}}", f"{self.kind}s"
        body, view = self.body, self.view
        return [
            RouteSpec("POST", many, self._create, "admin", f"Create a {self.kind}", tag, body, view, 201),
            RouteSpec("GET", many, self._list, "admin", f"List {tag}", tag, None, self.listing, 200, self.query),
            RouteSpec("GET", one, self._get, "admin", f"Read a {self.kind}", tag, None, view),
            RouteSpec("PUT", one, self._put, "admin", f"Create or replace a {self.kind}", tag, body, view),
            RouteSpec("DELETE", one, self._delete, "admin", f"Delete a {self.kind}", tag, status=204),
        ]

    def view_of(self, stored: Content, more: More | None = None) -> WireModel:
        """What the API shows of a stored resource, with `more` of it."""
        return view_of(self.view, stored, stored.body, **({} if more is None else more(stored)))

    async def views(self, request: web.Request) -> Callable[[Content], WireModel]:
        """How this request is shown a stored resource."""
        return partial(self.view_of, more=await self.more(request))

    @property
    def _read_only(self) -> Collection[str]:
        """The fields, by their JSON names, that only answers have."""
        shown, written = (
            {info.alias or "" for info in model.model_fields.values()} for model in (self.view, self.body)
        )
        return shown - written

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await read_new(request, self.body, self._read_only)
        stored = await self._written(request, body, self.repository(request.app[SERVICES]).create)
        return created((await self.views(request))(stored), f"{self.path}/{body.id}")

    async def _put(self, request: web.Request) -> web.StreamResponse:
        body = await read_replacement(request, self.body, self._read_only)
        stored = await self._written(request, body, self.repository(request.app[SERVICES]).put)
        return shown((await self.views(request))(stored))

    async def _written(
        self, request: web.Request, body: Body, write: Callable[[str, Body, str], Awaitable[Content]]
    ) -> Content:
        services, owner = request.app[SERVICES], owner_of(request)
        await self.check_write(services, owner, body)
        stored = await write(owner, body, actor_of(request))
        services.on_change(self.kind, owner, body.id)
        return stored

    async def _get(self, request: web.Request) -> web.StreamResponse:
        repository = self.repository(request.app[SERVICES])
        stored = await repository.get(owner_of(request), path_id(request, self.kind))
        return shown((await self.views(request))(stored))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        repository = self.repository(request.app[SERVICES])
        return listed(await repository.list(owner_of(request), *paging(request)), await self.views(request))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        services, owner, subject = request.app[SERVICES], owner_of(request), path_id(request, self.kind)
        await self.check_delete(services, owner, subject)
        await self.repository(services).delete(owner, subject, actor_of(request))
        services.on_change(self.kind, owner, subject)
        return deleted()
