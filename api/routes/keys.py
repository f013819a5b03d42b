"""`/api/keys`: API keys. The secret is shown once, in the answer to create and rotate."""

from datetime import UTC, datetime
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec
from api.routes import resource
from api.services import SERVICES
from modelpilot.errors import InvalidRequest, PermissionDenied
from modelpilot.management.resources import UNCHANGED, ApiKeyChange, NewApiKey, Scope, StoredApiKey
from modelpilot.routing.router import RouterId
from modelpilot.wire.json_model import WireModel

_PATH = "/api/keys"
_READ_ONLY = frozenset({"prefix", "userId", "lastUsedAt", "createdAt", "rotatedFrom"})
_MAX_OVERLAP_S = 30 * 24 * 3600.0


def _default_scopes() -> list[Scope]:
    return ["route"]


def _text_only(value: Any) -> Any:
    """Pydantic would read numbers as Unix times."""
    if not isinstance(value, str):
        raise ValueError("an ISO 8601 time with an offset was expected")
    return value


def _storable(value: datetime) -> datetime:
    """Postgres and Python disagree about the edges of the calendar."""
    if not 1970 <= value.year < 9999:
        raise ValueError("a time between 1970 and 9998 was expected")
    return value.astimezone(UTC)


ExpiresAt = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text_only), AfterValidator(_storable)]
KeyName = Annotated[str, Field(max_length=200)]
Names = Annotated[list[str], BeforeValidator(sorted)]  # of a set
AllowedRouters = Annotated[list[RouterId], Field(max_length=500)]


class KeyBody(WireModel):
    """A new API key. `allowedRouters` null: all routers of its owner; `userId` left out: the caller's."""

    name: KeyName = ""
    scopes: Annotated[list[Scope], Field(min_length=1)] = Field(default_factory=_default_scopes)
    allowed_routers: AllowedRouters | None = None
    expires_at: ExpiresAt | None = None
    user_id: RouterId | None = None


class KeyChangeBody(WireModel):
    """A change of an API key: fields that are left out keep their value. Scopes may be repeated but never change."""

    id: str
    name: KeyName | None = None
    active: bool | None = None
    scopes: list[Scope] | None = None
    allowed_routers: AllowedRouters | None = None
    expires_at: ExpiresAt | None = None


class RotateBody(WireModel):
    """For how many seconds the old key goes on working beside the new one."""

    overlap_seconds: Annotated[float, Field(ge=0.0, le=_MAX_OVERLAP_S)] = 0.0


class KeyView(WireModel):
    """An API key without its secret."""

    id: str
    user_id: str
    name: str
    prefix: str
    scopes: Names
    allowed_routers: Names | None
    active: bool
    expires_at: resource.Time | None
    last_used_at: resource.Time | None
    created_at: resource.Time
    rotated_from: str | None


class NewKeyView(KeyView):
    """A new API key. `key` is the secret, shown this once."""

    key: str


class KeyListing(resource.PageView[KeyView]):
    """API keys, newest first."""


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    one, tag = f"{_PATH}/{{id}}", "keys"
    return [
        RouteSpec("POST", _PATH, _create, "admin", "Create an API key", tag, KeyBody, NewKeyView, 201),
        RouteSpec("GET", _PATH, _list, "admin", "List API keys", tag, None, KeyListing, 200, resource.PAGING),
        RouteSpec("GET", one, _get, "admin", "Read an API key", tag, None, KeyView),
        RouteSpec("PUT", one, _put, "admin", "Change an API key", tag, KeyChangeBody, KeyView),
        RouteSpec("DELETE", one, _delete, "admin", "Delete an API key", tag, status=204),
        RouteSpec("POST", f"{one}/rotate", _rotate, "admin", "Replace an API key", tag, RotateBody, NewKeyView, 201),
    ]


async def _create(request: web.Request) -> web.StreamResponse:
    services, caller = request.app[SERVICES], request[PRINCIPAL]
    body = await resource.read_new(request, KeyBody)
    owner = body.user_id or caller.user_id
    if owner != caller.user_id and not caller.operator:
        raise PermissionDenied("Only an operator may create keys for other users.", param="userId")
    new = NewApiKey(body.name, frozenset(body.scopes), _as_set(body.allowed_routers), _as_unix(body.expires_at))
    stored, secret = await services.keys.create(owner, new, caller.api_key_id)
    services.on_change("api_key", owner, stored.id)
    return resource.created(_new_view(stored, secret), f"{_PATH}/{stored.id}")


async def _list(request: web.Request) -> web.StreamResponse:
    keys = request.app[SERVICES].keys
    return resource.listed(await keys.list(resource.owner_of(request), *resource.paging(request)), _view)


async def _get(request: web.Request) -> web.StreamResponse:
    keys = request.app[SERVICES].keys
    return resource.shown(_view(await keys.get(resource.owner_of(request), resource.path_id(request, "key"))))


async def _put(request: web.Request) -> web.StreamResponse:
    owner, subject = resource.owner_of(request), resource.path_id(request, "key")
    body = await resource.read_replacement(request, KeyChangeBody, _READ_ONLY)
    keys = request.app[SERVICES].keys
    if body.scopes is not None and frozenset(body.scopes) != (await keys.get(owner, subject)).scopes:
        raise InvalidRequest("scopes: those of a key never change; make a new key", param="scopes")
    stored = await keys.update(owner, subject, _change(body), resource.actor_of(request))
    _forget(request, subject)
    return resource.shown(_view(stored))


async def _delete(request: web.Request) -> web.StreamResponse:
    owner, subject = resource.owner_of(request), resource.path_id(request, "key")
    await request.app[SERVICES].keys.delete(owner, subject, resource.actor_of(request))
    _forget(request, subject)
    return resource.deleted()


async def _rotate(request: web.Request) -> web.StreamResponse:
    owner, subject = resource.owner_of(request), resource.path_id(request, "key")
    body = await resource.read_new(request, RotateBody)
    keys = request.app[SERVICES].keys
    stored, secret = await keys.rotate(owner, subject, body.overlap_seconds, resource.actor_of(request))
    _forget(request, subject)
    return resource.created(_new_view(stored, secret), f"{_PATH}/{stored.id}")


def _forget(request: web.Request, subject: str) -> None:
    """What this process remembers of the key is out of date."""
    services = request.app[SERVICES]
    services.authenticator.drop(subject)
    services.on_change("api_key", resource.owner_of(request), subject)


def _change(body: KeyChangeBody) -> ApiKeyChange:
    """`name` and `active` cannot be null; for the others null clears the restriction."""
    given = body.model_fields_set
    return ApiKeyChange(
        name=UNCHANGED if body.name is None else body.name,
        active=UNCHANGED if body.active is None else body.active,
        expires_at=_as_unix(body.expires_at) if "expires_at" in given else UNCHANGED,
        allowed_routers=_as_set(body.allowed_routers) if "allowed_routers" in given else UNCHANGED,
    )


def _as_set(routers: list[str] | None) -> frozenset[str] | None:
    return None if routers is None else frozenset(routers)


def _as_unix(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _view(stored: StoredApiKey) -> KeyView:
    return resource.view_of(KeyView, stored)


def _new_view(stored: StoredApiKey, secret: str) -> NewKeyView:
    return resource.view_of(NewKeyView, stored, key=secret)
