"""The simulator's application."""

from aiohttp import web

from simulator import admin, handlers
from simulator.state import SIMULATOR, Simulator, SimulatorConfig

_MAX_BODY_BYTES = 64 * 1024**2  # More than any gateway lets through: limits are the gateway's business.


async def _stop(app: web.Application) -> None:
    app[SIMULATOR].stopping.set()


def create_app(config: SimulatorConfig | None = None) -> web.Application:
    """Build the application; run it with `handler_cancellation=True` so that lost clients are noticed."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app[SIMULATOR] = Simulator(config or SimulatorConfig())
    app.on_shutdown.append(_stop)
    app.add_routes(
        [
            web.post("/v1/chat/completions", handlers.openai_chat),
            web.post("/v1/embeddings", handlers.embeddings),
            web.get("/v1/models", handlers.list_models),
            web.get("/v1/models/{model:.+}", handlers.get_model),
            web.post("/v1/messages", handlers.anthropic_messages),
            web.post(
                "/v1beta/models/{model:.+}:{method:generateContent|streamGenerateContent}", handlers.gemini_generate
            ),
            web.get("/healthz", handlers.healthz),
            web.post("/_sim/faults", admin.set_faults),
            web.get("/_sim/faults", admin.get_faults),
            web.delete("/_sim/faults", admin.clear_faults),
            web.get("/_sim/calls", admin.get_calls),
            web.delete("/_sim/calls", admin.clear_calls),
        ]
    )
    return app
