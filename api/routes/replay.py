"""`POST /router/{routerId}/replay`: logged decisions under other settings, before anybody changes them."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import AwareDatetime, Field, model_validator

from api.gateway.receive import check_allowed
from api.http.bodies import read_body
from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec, Scope
from api.http.responses import json_response
from api.services import SERVICES
from modelpilot.errors import NotFound
from modelpilot.learning.replay import Proposal, replay
from modelpilot.learning.replay.report import DecisionLog
from modelpilot.management.resources import ModelRepository
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import HistoryScope, RouterSnapshot
from modelpilot.routing.router import Constraints, ModelId, Objective, UnitInterval
from modelpilot.wire.json_model import WireModel
from modelpilot.wire.jsonb import finite_json


@dataclass(frozen=True, slots=True)
class ReplayAccess:
    """What the route needs. One replay at a time: each takes up to some seconds of a core that requests use as well."""

    configuration: ConfigurationSource
    log: DecisionLog
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


REPLAY: web.AppKey[ReplayAccess] = web.AppKey("replay", ReplayAccess)


# A time is a string in JSON, which strict mode refuses for a datetime.
Time = Annotated[AwareDatetime, Field(strict=False)]


class ReplayBody(WireModel):
    """Other settings; what is left out stays as each request was decided (`exploration`: as the router has it now)."""

    objective: Objective | None = None
    available_models: Annotated[list[ModelId], Field(min_length=1, max_length=500)] | None = None
    constraints: Constraints | None = None
    exploration: UnitInterval | None = None
    from_: Annotated[Time | None, Field(alias="from")] = None
    to: Time | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1_000

    @model_validator(mode="after")
    def _range_has_a_length(self) -> Self:
        if self.from_ is not None and self.to is not None and self.from_ >= self.to:
            raise ValueError("from must be before to")
        return self


class ReplayView(WireModel):
    """The answer: see docs/api.md for `predicted`, `offPolicy` and `thinEvidence`."""

    router_id: str
    proposed: dict[str, Any]
    requests: int
    left_out: int
    unserved: int
    changed_share: float
    predicted: dict[str, Any]
    off_policy: dict[str, Any]
    models: list[dict[str, Any]]
    thin_evidence: dict[str, Any]


def routes() -> list[RouteSpec]:
    """The route of this module. Its application has `REPLAY`."""
    path, summary = "/router/{router_id}/replay", "Logged decisions under other settings, with intervals"
    also: frozenset[Scope] = frozenset({"analytics"})
    return [RouteSpec("POST", path, _replay, "route", summary, "routing", ReplayBody, ReplayView, also=also)]


async def _replay(request: web.Request) -> web.StreamResponse:
    principal, router_id = request[PRINCIPAL], request.match_info["router_id"]
    check_allowed(principal, router_id)
    body = await read_body(request, ReplayBody)
    models = request.app[SERVICES].models
    return json_response(await replayed(request.app[REPLAY], models, HistoryScope(principal.user_id, router_id), body))


async def replayed(
    access: ReplayAccess, models: ModelRepository, scope: HistoryScope, body: ReplayBody
) -> dict[str, Any]:
    """The whole answer for one router. Raises NotFound, DependencyUnavailable."""
    snapshot = await access.configuration.router_snapshot(scope.user_id, scope.router_id)
    proposal = Proposal(
        objective=body.objective,
        models=None if body.available_models is None else tuple(dict.fromkeys(body.available_models)),
        constraints=body.constraints,
        exploration=snapshot.router.exploration if body.exploration is None else body.exploration,
        specs=await _specs(models, snapshot, body.available_models or ()),
    )
    async with access.turn:
        start_s, end_s = (None if at is None else at.timestamp() for at in (body.from_, body.to))
        logged = await access.log.decisions(scope, start_s, end_s, body.limit)
        seen = await access.log.histories(scope, proposal.models or ())
        found = await asyncio.to_thread(replay, logged, proposal, seen, snapshot.router.constraints)
    proposed = {**body.to_wire(), "exploration": proposal.exploration}
    return {"routerId": scope.router_id, "proposed": proposed, **finite_json(found)}


async def _specs(
    models: ModelRepository, snapshot: RouterSnapshot, names: "tuple[str, ...] | list[str]"
) -> dict[str, ModelSpec]:
    """The catalogue's word on the models; one that is in nobody's catalogue is in no logged decision either."""
    specs = dict(snapshot.models)
    for name in names:
        if name not in specs:
            try:
                specs[name] = (await models.get(snapshot.user_id, name)).body
            except NotFound:
                continue
    return specs
