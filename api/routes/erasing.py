"""Erasing what people have a right to have erased: a request, an end user's requests, a tenant; and how far that is."""

from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from activities.jobs.erasure import RequestErasure
from api.gateway.receive import check_allowed
from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec
from api.http.responses import json_response
from api.routes import resource
from api.routes.feedback import FEEDBACK
from api.routes.jobs import JobView
from api.routes.requests import LEDGER
from api.services import SERVICES
from modelpilot.errors import DependencyUnavailable, InvalidRequest, NotFound
from modelpilot.requests.erasure import EraseInput, Erasure, ErasureKind, ErasureRunner, ErasureStore
from modelpilot.requests.records import RequestKey
from modelpilot.wire.identity import request_id_of

_MOST_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Erasing:
    """Requests are erased at once, people by jobs."""

    store: ErasureStore
    runner: ErasureRunner
    requests: RequestErasure


ERASING: web.AppKey[Erasing] = web.AppKey("erasing", Erasing)


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `ERASING`, the ledger and feedback."""
    one, data = "/v1/requests/{request_id}", "/api/users/{id}/data"
    # Before those of other jobs: the ids that it answers for are a part of theirs.
    job = "/api/jobs/{id:erase-[0-9a-f]+}"
    return [
        RouteSpec("DELETE", one, _erase_request, "route", "Erase a request", "routing", status=204),
        RouteSpec("DELETE", data, _erase_user, "admin", "Erase an end user's requests", "users", None, JobView, 202),
        RouteSpec("DELETE", "/api/users/{id}", _erase_tenant, "admin", "Delete a tenant", "users", None, JobView, 202),
        RouteSpec("GET", job, _get, "admin", "Read a job", "jobs", None, JobView),
    ]


async def _erase_request(request: web.Request) -> web.StreamResponse:
    key = await _ended(request)
    await request.app[ERASING].requests.erase(key, resource.actor_of(request))
    return resource.deleted()


async def _ended(request: web.Request) -> RequestKey:
    """The request by its id, its response's or the client's name, once it has ended. Raises NotFound, Conflict,
    PermissionDenied."""
    user_id, name = request[PRINCIPAL].user_id, request.match_info["request_id"]
    for request_id in (name, await request.app[LEDGER].resolve(user_id, name) or request_id_of(name)):
        if not request_id or not await request.app[ERASING].requests.ended(RequestKey(user_id, request_id)):
            continue
        router_id = await request.app[FEEDBACK].router_of(RequestKey(user_id, request_id))
        if router_id is not None:
            check_allowed(request[PRINCIPAL], router_id or None)
            return RequestKey(user_id, request_id)
    raise NotFound("There is no such request.")


async def _erase_user(request: web.Request) -> web.StreamResponse:
    """An end user of the caller's tenant, whoever has the same name elsewhere."""
    name = request.match_info["id"]
    if len(name) > _MOST_CHARACTERS:
        raise InvalidRequest(f"id: at most {_MOST_CHARACTERS} characters were expected", param="id")
    return await _begin(request, "end_user", name)


async def _erase_tenant(request: web.Request) -> web.StreamResponse:
    """The caller's own tenant, or any where it is an operator. Another's does not exist."""
    tenant, caller = resource.path_id(request, "user"), request[PRINCIPAL]
    if tenant != caller.user_id and not caller.operator:
        raise NotFound("There is no such user.")
    started = await _begin(request, "tenant", tenant)
    request.app[SERVICES].authenticator.drop()
    return started


async def _begin(request: web.Request, kind: ErasureKind, subject: str) -> web.StreamResponse:
    erasing, owner = request.app[ERASING], resource.owner_of(request)
    job = await erasing.store.add(owner, kind, subject, resource.actor_of(request))
    with suppress(DependencyUnavailable):  # it is committed: a worker starts it as soon as that can be
        await erasing.runner.start(EraseInput(owner, job.id))
    return json_response(_view(job).to_wire(), 202, {"location": f"/api/jobs/{job.id}"})


async def _get(request: web.Request) -> web.StreamResponse:
    job = await request.app[ERASING].store.job(resource.owner_of(request), resource.path_id(request, "job"))
    return resource.shown(_view(job))


def _view(job: Erasure) -> JobView:
    return resource.view_of(JobView, job, kind="erase")
