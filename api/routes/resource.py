"""The five routes that every managed resource has: create, list, read, create or replace, delete."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import web
from pydantic import AwareDatetime

from api.http.bodies import read_json, refuse_unstorable, validate
from api.http.middleware import PRINCIPAL
from api.http.registry import QueryParam, RouteSpec
from api.http.responses import json_response
from api.services import SERVICES, ChangeKind, Services
from modelpilot.errors import InvalidRequest, NotFound
from modelpilot.management.resources import Page
from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.routing.router import Router
from modelpilot.wire.json_model import WireModel

# What the management routes have in common: ids, paging, bodies whose id is in the path, and lists.

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
Body = TypeVar("Body", bound=WireModel)


class PageView(WireModel, Generic[View]):
    """One page of a list."""

    items: list[View]
    next_cursor: str | None = None


class Stamps(WireModel):
    """When something was made and last changed, UTC."""

    created_at: AwareDatetime
    updated_at: AwareDatetime


def utc(unix_seconds: float) -> datetime:
    """Unix seconds as a UTC time."""
    return datetime.fromtimestamp(unix_seconds, UTC)


def optional_utc(unix_seconds: float | None) -> datetime | None:
    """Unix seconds as a UTC time, null staying null."""
    return None if unix_seconds is None else utc(unix_seconds)


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


async def read_new(request: web.Request, model: type[Body], read_only: Collection[str] = ()) -> Body:
    """The body of a POST."""
    data = await read_json(request)
    refuse_unstorable(data)
    return validate(without(data, read_only), model)


async def read_replacement(request: web.Request, model: type[Body], read_only: Collection[str] = ()) -> Body:
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


async def every(page_of: Callable[[str | None, int], Awaitable[Page[Item]]]) -> AsyncIterator[Item]:
    """All items of a list, page by page."""
    cursor: str | None = None
    while True:
        page = await page_of(cursor, MAX_LIMIT)
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


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
            RouteSpec("GET", many, self._list, "admin", f"List {tag}", tag, None, self.listing_model, 200, PAGING),
            RouteSpec("GET", one, self._get, "admin", f"Read a {self.kind}", tag, None, view),
            RouteSpec("PUT", one, self._put, "admin", f"Create or replace a {self.kind}", tag, body, view),
            RouteSpec("DELETE", one, self._delete, "admin", f"Delete a {self.kind}", tag, status=204),
        ]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        services, owner = request.app[SERVICES], owner_of(request)
        body = await read_new(request, self.body, self.read_only)
        await self.check_write(services, owner, body)
        stored = await self.repository(services).create(owner, body, actor_of(request))
        services.on_change(self.kind, owner, body.id)
        return created(self.view(stored), f"{self.path}/{body.id}")

    async def _put(self, request: web.Request) -> web.StreamResponse:
        services, owner = request.app[SERVICES], owner_of(request)
        body = await read_replacement(request, self.body, self.read_only)
        await self.check_write(services, owner, body)
        stored = await self.repository(services).put(owner, body, actor_of(request))
        services.on_change(self.kind, owner, body.id)
        return shown(self.view(stored))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        repository = self.repository(request.app[SERVICES])
        return shown(self.view(await repository.get(owner_of(request), path_id(request, self.kind))))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        repository = self.repository(request.app[SERVICES])
        return listed(await repository.list(owner_of(request), *paging(request)), self.view)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        services, owner, subject = request.app[SERVICES], owner_of(request), path_id(request, self.kind)
        await self.check_delete(services, owner, subject)
        await self.repository(services).delete(owner, subject, actor_of(request))
        services.on_change(self.kind, owner, subject)
        return deleted()
