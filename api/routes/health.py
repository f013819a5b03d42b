"""`/healthz` (the process runs), `/readyz` (it can serve) and `/metrics` (Prometheus)."""

import asyncio
from typing import Literal

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from api.http.registry import RouteSpec, Scope
from api.http.responses import json_response
from api.services import SERVICES, HealthCheck, Services

# Shorter than the timeout of common health checkers (Kubernetes: usually set to a few seconds).
_PROBE_TIMEOUT_S = 2.0


class Dependency(BaseModel):
    """One dependency."""

    status: Literal["up", "down"]
    required: bool


class Readiness(BaseModel):
    """`degraded`: something optional is away, requests are served all the same."""

    status: Literal["ready", "degraded", "unready", "draining"]
    dependencies: dict[str, Dependency]


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
    return Readiness(status=_verdict(services.draining(), list(dependencies.values())), dependencies=dependencies)


def _verdict(draining: bool, dependencies: list[Dependency]) -> Literal["ready", "degraded", "unready", "draining"]:
    down = [dependency for dependency in dependencies if dependency.status == "down"]
    if draining:
        return "draining"
    if any(dependency.required for dependency in down):
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
