"""What the management routes have in common: ids, paging, bodies whose id is in the path, and lists."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import AwareDatetime

from api.bodies import read_json, refuse_unstorable, validate
from api.middleware import PRINCIPAL
from api.registry import QueryParam
from api.responses import json_response
from modelpilot.errors import InvalidRequest, NotFound
from modelpilot.management.resources import Page
from modelpilot.wire.json_model import WireModel

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
PAGING = (
    QueryParam("cursor", "`nextCursor` of the page before; left out for the first page."),
    QueryParam("limit", f"Items per page, 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} when left out.", "integer"),
)
# Ids as they can be stored at all; anything else in a path cannot exist.
_PATH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")
_LIMIT = re.compile(r"[0-9]{1,3}")

Item = TypeVar("Item")
View = TypeVar("View", bound=WireModel)
Body = TypeVar("Body", bound=WireModel)


class Listing(WireModel, Generic[View]):
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


def paging(request: web.Request) -> tuple[str | None, int]:
    """Cursor and limit of a list request. Raises InvalidRequest."""
    text = request.query.get("limit")
    if text is None:
        limit = DEFAULT_LIMIT
    elif _LIMIT.fullmatch(text) and 1 <= int(text) <= MAX_LIMIT:
        limit = int(text)
    else:
        raise InvalidRequest(f"limit: an integer from 1 to {MAX_LIMIT} was expected", param="limit")
    return request.query.get("cursor") or None, limit


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
