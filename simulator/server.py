"""The simulator's application on a real port, with its own endpoints under `/_sim`: switch faults, read the calls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from simulator import handlers
from simulator.calls import summary
from simulator.faults import FAULTS, SimError, from_json
from simulator.handlers import read_json
from simulator.request import text_of
from simulator.state import SIMULATOR, Rule, Simulator, SimulatorConfig

_MAX_WAIT_MS = 60_000


def _show(rule: Rule) -> dict[str, Any]:
    faults = [{"name": fault.name, "value": fault.value, "times": fault.times} for fault in rule.faults]
    return {"model": rule.model, "match": rule.match, "faults": faults}


def _bad(error: SimError) -> web.Response:
    shown = {"message": error.message, "type": "invalid_request_error", "param": error.param, "code": None}
    return web.json_response({"error": shown}, status=400)


async def set_faults(request: web.Request) -> web.Response:
    """`POST /_sim/faults` `{"model", "faults", "match"?}`: put faults on a model, in place of those it had."""
    sim = request.app[SIMULATOR]
    try:
        body = read_json(await request.read())
        faults = from_json(body.get("faults", {}))
        sim.switches.set(text_of(body.get("model"), "model"), faults, str(body.get("match", "")))
    except SimError as error:
        return _bad(error)
    return web.json_response({"rules": [_show(rule) for rule in sim.switches.rules]})


async def get_faults(request: web.Request) -> web.Response:
    """`GET /_sim/faults`: the rules in force, and the table of all faults."""
    known = {spec.name: spec.does for spec in FAULTS.values()}
    return web.json_response({"rules": [_show(rule) for rule in request.app[SIMULATOR].switches.rules], "known": known})


async def clear_faults(request: web.Request) -> web.Response:
    """`DELETE /_sim/faults`: forget all rules and counters."""
    request.app[SIMULATOR].switches.clear()
    return web.json_response({"rules": []})


async def get_calls(request: web.Request) -> web.Response:
    """`GET /_sim/calls?tag=&model=&outcome=&min=&wait_ms=`: the calls seen, oldest first, and their counts.

    With `min` and `wait_ms` it answers as soon as there are so many, or when the time (milliseconds) is over.
    """
    query = request.query
    try:
        least, wait_ms = int(query.get("min", "1")), min(float(query.get("wait_ms", "0")), _MAX_WAIT_MS)
    except ValueError:
        return _bad(SimError(400, "min and wait_ms must be numbers", param="min"))
    wanted = {name: query.get(name, "") for name in ("tag", "model", "outcome")}
    calls = request.app[SIMULATOR].calls
    found = await calls.wait(least, wait_ms, **wanted) if wait_ms > 0 else calls.find(**wanted)
    return web.json_response({"calls": [call.as_json() for call in found], "counts": summary(found)})


async def clear_calls(request: web.Request) -> web.Response:
    """`DELETE /_sim/calls`: forget the calls."""
    request.app[SIMULATOR].calls.clear()
    return web.json_response({"calls": []})


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
            web.post("/_sim/faults", set_faults),
            web.get("/_sim/faults", get_faults),
            web.delete("/_sim/faults", clear_faults),
            web.get("/_sim/calls", get_calls),
            web.delete("/_sim/calls", clear_calls),
        ]
    )
    return app


_SHUTDOWN_S = 2.0  # Silent calls end at once when the server stops; this is for answers on their way.


@asynccontextmanager
async def running(config: SimulatorConfig, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; yields the base URL. Port 0 is any free one. Raises `OSError` if it is taken."""
    runner = web.AppRunner(create_app(config), handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        yield f"http://{host}:{address[1]}"
    finally:
        await runner.cleanup()


async def serve(
    config: SimulatorConfig, host: str, port: int, stop: asyncio.Event, ready: Callable[[str], None]
) -> None:
    """Serve until `stop` is set; `ready` is told the base URL once connections are accepted."""
    async with running(config, host, port) as url:
        ready(url)
        await stop.wait()
