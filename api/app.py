"""The application factory."""

from typing import Any

from aiohttp import web

from api.gateway.admission import ADMISSION
from api.http import openapi
from api.http.middleware import answer_preflight, authorize, identify, map_errors, stamp
from api.http.registry import ROUTES, RouteTable, add_routes
from api.http.spellings import OtherSpellings
from api.routes import health, keys, landing, management, model_list
from api.services import SERVICES, Services

# For web.AppRunner: a client that leaves cancels its request, and nothing inflates the bodies that we refuse anyway.
RUNNER_OPTIONS: dict[str, Any] = {"handler_cancellation": True, "auto_decompress": False}


def create_app(services: Services) -> web.Application:
    """The HTTP application over `services`. Raises RuntimeError for a route that was added without a declaration.

    Run it with `RUNNER_OPTIONS`.
    """
    app = web.Application(
        middlewares=(identify, map_errors, answer_preflight, authorize), client_max_size=services.max_body_bytes
    )
    app[SERVICES] = services
    app[ROUTES] = RouteTable()
    app[ADMISSION] = services.admission
    app.cleanup_ctx.append(services.admission.measure)
    services.admission.publish()
    app.on_response_prepare.append(stamp)
    openapi.prepare(app)
    for specs in (
        health.routes(services.metrics_public),
        openapi.routes(),
        landing.routes(),
        model_list.routes(),
        management.routes(),
        keys.routes(),
        management.audit_routes(),
    ):
        add_routes(app, specs)
    for register in services.extra_routes:
        register(app)
    app.router.register_resource(OtherSpellings(app.router))
    _refuse_undeclared(app)
    return app


def _refuse_undeclared(app: web.Application) -> None:
    """The middleware would answer 403 there; better not to start at all."""
    undeclared = [str(route) for route in app.router.routes() if app[ROUTES].find(route) is None]
    if undeclared:
        raise RuntimeError(f"register these routes with api.http.registry.add_routes: {', '.join(undeclared)}")
