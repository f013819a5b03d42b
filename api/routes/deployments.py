"""`GET /api/health/deployments`: what this gateway's breakers have seen of the models it calls, and gauges of it."""

from functools import partial
from typing import get_args

from aiohttp import web
from prometheus_client import Gauge

from activities.requests.deployments import DeploymentHealth, DeploymentReport
from api.http.middleware import PRINCIPAL
from api.http.registry import RouteSpec, Scope
from api.http.responses import json_response
from api.routes.resource import Time, view_of
from modelpilot.providers.breaker import State
from modelpilot.wire.json_model import WireModel

HEALTH: web.AppKey[DeploymentHealth] = web.AppKey("deployments", DeploymentHealth)

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


class DeploymentListing(WireModel):
    """The deployments of the caller, as the gateway that answers has seen them; other gateways have their own view."""

    items: list[DeploymentView]
    next_cursor: str | None
    refused_keys: list[str]


def routes() -> list[RouteSpec]:
    """The route of this module. Its application has `HEALTH`."""
    summary = "Circuit breakers and refused provider keys, as this gateway sees them"
    path = "/api/health/deployments"
    also: frozenset[Scope] = frozenset({"analytics"})
    return [RouteSpec("GET", path, _list, "admin", summary, "health", response=DeploymentListing, also=also)]


def publish(health: DeploymentHealth) -> None:
    """Let the gauges ask `health` whenever they are read: states change by time alone."""
    for state in get_args(State):
        DEPLOYMENTS.labels(state).set_function(partial(health.count, state))
    REFUSED_KEYS.set_function(health.count_refused_keys)


async def _list(request: web.Request) -> web.StreamResponse:
    health, user_id = request.app[HEALTH], request[PRINCIPAL].user_id
    items = [_view(report) for report in health.snapshot(user_id)]
    listing = DeploymentListing(items=items, next_cursor=None, refused_keys=list(health.unhealthy_keys(user_id)))
    return json_response(listing.to_wire())


def _view(report: DeploymentReport) -> DeploymentView:
    return view_of(DeploymentView, report, next_probe_in_s=round(report.next_probe_s, 3))
