"""How a route is declared: one `RouteSpec` names its handler, its scope and its documentation, so none can be missing.

The same declaration feeds aiohttp's router, the authorization check and `/openapi.json`.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_urldispatcher import AbstractRoute
from pydantic import BaseModel

from api.http.bodies import EXPECTS_CONTINUE
from api.http.errors import Envelope, openai_envelope

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Scope = Literal["public", "route", "admin", "analytics"]


@dataclass(frozen=True, slots=True)
class QueryParam:
    """One query parameter, for the documentation."""

    name: str
    description: str
    type: Literal["string", "integer", "number", "boolean"] = "string"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route. `scope` is what the API key must have, or "public" for no key at all; a key with one of `also` is
    let in as well. With `key_in_query` the key may come as `?key=`, as some of Google's clients send it.

    `request` and `response` are the bodies' models (None: no JSON body); `status` is that of success; `envelope`
    shapes the errors of this route. `invalid_status` is the status of a bad body where it is not the usual 422: 400 on
    the routes that SDKs call, as at OpenAI and Anthropic.
    """

    method: str
    path: str
    handler: Handler
    scope: Scope
    summary: str
    tag: str
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    status: int = 200
    query: tuple[QueryParam, ...] = ()
    key_in_query: bool = False
    media_type: str = "application/json"
    envelope: Envelope = field(default=openai_envelope)
    also: frozenset[Scope] = frozenset()
    invalid_status: int | None = None


class RouteTable:
    """Every declared route of an application."""

    def __init__(self) -> None:
        self._specs: dict[AbstractRoute, RouteSpec] = {}

    def declare(self, route: AbstractRoute, spec: RouteSpec) -> None:
        """Remember what `route` was declared with."""
        self._specs[route] = spec

    def find(self, route: AbstractRoute) -> RouteSpec | None:
        """The declaration of a matched route; None for aiohttp's own 404 and 405 and for undeclared ones."""
        return self._specs.get(route)

    def specs(self) -> list[RouteSpec]:
        """All declarations, in the order of registration."""
        return list(self._specs.values())


ROUTES: web.AppKey[RouteTable] = web.AppKey("routes", RouteTable)


def add_routes(app: web.Application, specs: Iterable[RouteSpec]) -> None:
    """Register `specs`. This is the only way in: a route that is added otherwise is refused by the middleware."""
    table = app[ROUTES]
    for spec in specs:
        route = app.router.add_route(spec.method, spec.path, spec.handler, expect_handler=_expecting)
        table.declare(route, spec)


async def _expecting(request: web.Request) -> None:
    """aiohttp would say "100 Continue" here, before anybody looked at the key; ours is said where the body is read."""
    if request.version >= HttpVersion11:
        if request.headers[hdrs.EXPECT].lower() != "100-continue":
            raise web.HTTPExpectationFailed
        request[EXPECTS_CONTINUE] = True
