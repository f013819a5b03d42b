"""`/v1/models` in OpenAI's shape: the catalogue, and the routers that the key may use as `router/{id}`."""

from typing import Literal

from aiohttp import web
from pydantic import BaseModel

from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec
from api.http.responses import json_response
from api.routes import resource
from api.services import SERVICES, Services
from modelpilot.errors import NotFound
from modelpilot.management.resources import StoredModel, StoredRouter
from modelpilot.requests.records import Principal

_ROUTER_PREFIX = "router/"


class OpenAIModel(BaseModel):
    """One entry; `created` is Unix seconds."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class OpenAIModelList(BaseModel):
    """The whole list: OpenAI's has no pages."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    path, tag = "/v1/models", "openai"
    return [
        RouteSpec("GET", path, _list, "route", "List models and routers", tag, None, OpenAIModelList),
        RouteSpec("GET", f"{path}/{{id:.+}}", _get, "route", "Read a model or router", tag, None, OpenAIModel),
    ]


async def _list(request: web.Request) -> web.StreamResponse:
    services, caller = request.app[SERVICES], request[PRINCIPAL]
    entries = [
        _router_entry(stored)
        async for stored in resource.every(services.routers, caller.user_id)
        if _may_use(caller, stored.body.id)
    ]
    entries += [_model_entry(stored) async for stored in resource.every(services.models, caller.user_id)]
    return json_response(OpenAIModelList(data=entries).model_dump())


async def _get(request: web.Request) -> web.StreamResponse:
    entry = await _find(request.app[SERVICES], request[PRINCIPAL], resource.path_id(request, "model"))
    return json_response(entry.model_dump())


async def _find(services: Services, caller: Principal, name: str) -> OpenAIModel:
    router_id = name.removeprefix(_ROUTER_PREFIX)
    if router_id == name:
        return _model_entry(await services.models.get(caller.user_id, name))
    if not _may_use(caller, router_id):
        raise NotFound(f"There is no router '{router_id}' that this key may use.")
    return _router_entry(await services.routers.get(caller.user_id, router_id))


def _may_use(caller: Principal, router_id: str) -> bool:
    return caller.allowed_routers is None or router_id in caller.allowed_routers


def _router_entry(stored: StoredRouter) -> OpenAIModel:
    return OpenAIModel(id=f"{_ROUTER_PREFIX}{stored.body.id}", created=int(stored.created_at), owned_by="modelpilot")


def _model_entry(stored: StoredModel) -> OpenAIModel:
    return OpenAIModel(id=stored.body.id, created=int(stored.created_at), owned_by=stored.body.provider)
