"""`/api/routers/{id}/predictor` and `/api/routers/{id}/refit`: what was learnt from a router's outcomes, and when."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator
from pydantic.alias_generators import to_camel

from api.http.registry import RouteSpec, Scope
from api.http.responses import json_response
from api.routes import resource
from api.services import SERVICES
from modelpilot.learning.refit import PredictorStore, RefitRun, Refits, RefitStatus
from modelpilot.requests.records import HistoryScope
from modelpilot.wire.json_model import WireModel


@dataclass(frozen=True, slots=True)
class Learning:
    """What these routes need."""

    store: PredictorStore
    refits: Refits


LEARNING: web.AppKey[Learning] = web.AppKey("learning", Learning)


def _camel(report: dict[str, Any]) -> dict[str, Any]:
    # The report's own names only: deeper ones may be models.
    return {to_camel(name): value for name, value in report.items()}


Report = Annotated[dict[str, Any], AfterValidator(_camel)]


class PredictorVersionView(WireModel):
    """One fit. Outcomes stored until `fittedAt` were looked at; `report` says how good it was on a held-out slice."""

    version: int
    fitted_at: resource.Time
    rows: int
    accepted: bool
    report: Report


class PredictorView(WireModel):
    """The predictor in use (all null: none, what was learnt online decides) and every version that is kept, newest
    first."""

    router_id: str
    version: int | None
    fitted_at: resource.Time | None
    rows: int | None
    report: dict[str, Any] | None
    versions: list[PredictorVersionView]


class RefitReportView(WireModel):
    """What became of a refit; `reason` says why it was refused (then what was learnt online decides) or skipped."""

    status: RefitStatus
    rows: int
    version: int | None
    reason: str | None
    fit: Report
    duration_s: float


class RefitView(WireModel):
    """The latest refit that was asked for."""

    router_id: str
    workflow_id: str
    status: Literal["running", "completed", "failed"]
    report: RefitReportView | None


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `LEARNING`."""
    refit, also = "/api/routers/{id}/refit", frozenset[Scope]({"analytics"})
    kept, read = "/api/routers/{id}/predictor", "The fitted predictor of a router, and its versions"
    return [
        RouteSpec("GET", kept, _predictor, "admin", read, "routers", None, PredictorView, also=also),
        RouteSpec("POST", refit, _start, "admin", "Fit a router's predictor anew", "routers", None, RefitView, 202),
        RouteSpec("GET", refit, _latest, "admin", "How the latest refit goes", "routers", None, RefitView),
    ]


async def _predictor(request: web.Request) -> web.StreamResponse:
    scope = await _scope(request)
    versions = await request.app[LEARNING].store.versions(scope)
    views = [resource.view_of(PredictorVersionView, version) for version in versions]
    served = views[0] if views and views[0].accepted else None
    view = PredictorView(
        router_id=scope.router_id,
        version=served.version if served else None,
        fitted_at=served.fitted_at if served else None,
        rows=served.rows if served else None,
        report=served.report if served else None,
        versions=views,
    )
    return resource.shown(view)


async def _start(request: web.Request) -> web.StreamResponse:
    scope = await _scope(request)
    return json_response(_run(scope, await request.app[LEARNING].refits.start(scope)), 202)


async def _latest(request: web.Request) -> web.StreamResponse:
    scope = await _scope(request)
    return json_response(_run(scope, await request.app[LEARNING].refits.latest(scope)))


async def _scope(request: web.Request) -> HistoryScope:
    """The router in the path. Raises NotFound where the caller has none of this id."""
    owner, router_id = resource.owner_of(request), resource.path_id(request, "router")
    await request.app[SERVICES].routers.get(owner, router_id)
    return HistoryScope(owner, router_id)


def _run(scope: HistoryScope, run: RefitRun) -> dict[str, object]:
    report = resource.view_of(RefitReportView, run.report) if run.report else None
    return RefitView(router_id=scope.router_id, workflow_id=run.workflow_id, status=run.status, report=report).to_wire()
