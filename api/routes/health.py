"""How this gateway is: `/healthz` (the process runs), `/readyz` (it can serve), `/metrics` (Prometheus), and
`/api/health/deployments`, what its breakers have seen of the models that it calls, and how to make them forget it.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Literal, get_args

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from pydantic import BaseModel

from activities.requests.deployments import DeploymentHealth, DeploymentReport
from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec, Scope
from api.http.responses import json_response
from api.routes.resource import Time, actor_of, owner_of, read_new, utc, view_of
from api.services import SERVICES, HealthCheck, Services
from modelpilot.management.resources import HealthResets, HealthScope
from modelpilot.providers.breaker import State
from modelpilot.routing.router import ModelId, RouterId
from modelpilot.wire.json_model import WireModel

# Shorter than the timeout of common health checkers (Kubernetes: usually set to a few seconds).
_PROBE_TIMEOUT_S = 2.0


class Dependency(BaseModel):
    """One dependency. Of the required ones, one has to be up."""

    status: Literal["up", "down"]
    required: bool


class Readiness(BaseModel):
    """`degraded` names what is away; requests are served all the same while one of the required ones is there."""

    status: Literal["ready", "degraded", "unready", "draining"]
    dependencies: dict[str, Dependency]
    degraded: list[str]
    details: dict[str, float]


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


def routes(metrics_public: bool) -> list[RouteSpec]:
    """The routes of this module; `/metrics` needs the scope `admin` where it is not public."""
    metrics_scope: Scope = "public" if metrics_public else "admin"
    return [
        RouteSpec("GET", "/healthz", _live, "public", "Whether the process runs", "health", None, Liveness),
        RouteSpec("GET", "/readyz", _ready, "public", "Whether it can serve (503: not)", "health", None, Readiness),
        RouteSpec(
            "GET", "/metrics", _metrics, metrics_scope, "Metrics for Prometheus", "health", media_type="text/plain"
        ),
    ]


async def _live(request: web.Request) -> web.StreamResponse:
    return json_response(Liveness().model_dump())


async def _ready(request: web.Request) -> web.StreamResponse:
    readiness = await _assess(request.app[SERVICES])
    if readiness.status in ("ready", "degraded"):
        return json_response(readiness.model_dump())
    return json_response(readiness.model_dump(), 503, {"retry-after": "1"})


async def _metrics(request: web.Request) -> web.StreamResponse:
    body = generate_latest(request.app[SERVICES].metrics_registry)
    return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})


async def _assess(services: Services) -> Readiness:
    checks = services.health_checks
    up = await asyncio.gather(*(_is_up(check) for check in checks))
    dependencies = {
        check.name: Dependency(status="up" if is_up else "down", required=check.required)
        for check, is_up in zip(checks, up, strict=True)
    }
    return Readiness(
        status=_verdict(services.draining(), list(dependencies.values())),
        dependencies=dependencies,
        degraded=[name for name, dependency in dependencies.items() if dependency.status == "down"],
        details=dict(services.details()),
    )


def _verdict(draining: bool, dependencies: list[Dependency]) -> Literal["ready", "degraded", "unready", "draining"]:
    down = [dependency for dependency in dependencies if dependency.status == "down"]
    if draining:
        return "draining"
    required = [dependency for dependency in dependencies if dependency.required]
    if required and all(dependency.status == "down" for dependency in required):
        return "unready"
    return "degraded" if down else "ready"


async def _is_up(check: HealthCheck) -> bool:
    """Why it is down stays out of a public answer; whoever owns the connection logs that."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            await check.probe()
    except Exception:  # noqa: BLE001 - whatever a probe raises means the same: not up
        return False
    return True


HEALTH: web.AppKey[DeploymentHealth] = web.AppKey("deployments", DeploymentHealth)
RESETS: web.AppKey[HealthResets] = web.AppKey("health_resets", HealthResets)

# Without names: they are the tenants' own, and /metrics may be public.
DEPLOYMENTS = Gauge(
    "modelpilot_deployments", "Deployments called by this gateway, by state of their breaker", ["state"]
)
REFUSED_KEYS = Gauge("modelpilot_provider_keys_refused", "Provider keys that are skipped since they were refused")


class DeploymentView(WireModel):
    """One model at one place. `nextProbeInS` is 0 where a call may be made now."""

    provider: str
    model: str
    deployment: str
    state: State
    excluded_because: str | None
    open_since: Time | None
    next_probe_in_s: float
    calls: int
    failures: int


class ProviderHealthView(WireModel):
    """All deployments at one provider. `state` is that of the best of them; `restsUntil` is when the first one may be
    called again where none may be now."""

    provider: str
    state: State
    deployments: int
    open_deployments: int
    rests_until: Time | None


class DeploymentListing(WireModel):
    """The deployments of the caller, as the gateway that answers has seen them; other gateways have their own view."""

    items: list[DeploymentView]
    providers: list[ProviderHealthView]
    next_cursor: str | None
    refused_keys: list[str]


class ResetBody(WireModel):
    """Which of one's deployments begin again as healthy; left out: those of any provider, of any model."""

    provider: RouterId | None = None
    model: ModelId | None = None


class ResetView(ResetBody):
    """What was reset; `skipped` says how many of these deployments this gateway had skipped until then."""

    skipped: int


def deployment_routes() -> list[RouteSpec]:
    """The routes of deployments. Their application has `HEALTH` and `RESETS`."""
    summary = "Circuit breakers and refused provider keys, as this gateway sees them"
    path = "/api/health/deployments"
    also: frozenset[Scope] = frozenset({"analytics"})
    reset = "Close breakers, rests and refused keys of your deployments, at all gateways"
    return [
        RouteSpec("GET", path, _list, "admin", summary, "health", response=DeploymentListing, also=also),
        RouteSpec("POST", f"{path}/reset", _reset, "admin", reset, "health", ResetBody, ResetView),
    ]


def publish(health: DeploymentHealth) -> None:
    """Let the gauges ask `health` whenever they are read: states change by time alone."""
    for state in get_args(State):
        DEPLOYMENTS.labels(state).set_function(partial(health.count, state))
    REFUSED_KEYS.set_function(health.count_refused_keys)


async def _list(request: web.Request) -> web.StreamResponse:
    health, user_id = request.app[HEALTH], request[PRINCIPAL].user_id
    reports = health.snapshot(user_id)
    listing = DeploymentListing(
        items=[_view(report) for report in reports],
        providers=[
            _provider_view(provider, list(its)) for provider, its in groupby(reports, lambda report: report.provider)
        ],
        next_cursor=None,
        refused_keys=list(health.unhealthy_keys(user_id)),
    )
    return json_response(listing.to_wire())


async def _reset(request: web.Request) -> web.StreamResponse:
    body = await read_new(request, ResetBody)
    scope, owner = HealthScope(body.provider, body.model), owner_of(request)
    # Here at once; the others, and this gateway once more, when they hear of it.
    skipped = request.app[HEALTH].reset(owner, scope)
    await request.app[RESETS].announce(owner, scope, actor_of(request))
    return json_response(view_of(ResetView, body, skipped=skipped).to_wire())


def _provider_view(provider: str, reports: Sequence[DeploymentReport]) -> ProviderHealthView:
    states = [report.state for report in reports]
    best: tuple[State, ...] = ("closed", "half_open", "open")
    rests = all(report.excluded_because is not None for report in reports)
    return ProviderHealthView(
        provider=provider,
        state=min(states, key=best.index),
        deployments=len(reports),
        open_deployments=sum(state != "closed" for state in states),
        rests_until=utc(time.time() + min(report.next_probe_s for report in reports)) if rests else None,
    )


def _view(report: DeploymentReport) -> DeploymentView:
    return view_of(DeploymentView, report, next_probe_in_s=round(report.next_probe_s, 3))
