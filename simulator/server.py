"""The simulator's application on a real port: the provider endpoints (chat in three dialects, embeddings, models), and
its own under `/_sim`, which switch faults and read the calls.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from simulator import models, strict
from simulator.answers import embeddings_body, inputs
from simulator.calls import Call, summary
from simulator.delivery import (
    Delivery,
    Step,
    Timing,
    early_steps,
    fault_error,
    plan_body,
    plan_error,
    plan_stream,
    produced_tokens,
    timing,
)
from simulator.faults import FAULTS, Active, Fault, SimError, from_json, parse_faults, prefill_error, split_model
from simulator.generate import Dialect, generate
from simulator.request import ChatRequest, text_of
from simulator.state import SIMULATOR, Rule, Simulator, SimulatorConfig
from simulator.text import count_tokens
from simulator.wire_anthropic import Anthropic
from simulator.wire_gemini import Gemini
from simulator.wire_openai import OpenAI

OPENAI, ANTHROPIC, GEMINI = OpenAI(), Anthropic(), Gemini()
_EMBEDDING_MS = 5.0  # Embedding models answer at once; a chat model's pace would only slow tests down.


def read_json(raw: bytes) -> Mapping[str, Any]:
    """Parse a request body; raises `SimError` 400 if it is no JSON object."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise SimError(400, f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise SimError(400, "the body must be a JSON object")
    return body


async def openai_chat(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    return await _chat(request, OPENAI)


async def anthropic_messages(request: web.Request) -> web.StreamResponse:
    """`POST /v1/messages`."""
    return await _chat(request, ANTHROPIC)


async def gemini_generate(request: web.Request) -> web.StreamResponse:
    """`POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`."""
    return await _chat(request, GEMINI)


async def embeddings(request: web.Request) -> web.StreamResponse:
    """`POST /v1/embeddings`."""
    sim, raw = request.app[SIMULATOR], await request.read()
    call = sim.calls.begin(request.path, request.headers, raw)
    active = Active()
    try:
        body = read_json(raw)
        texts = inputs(body.get("input"))
        chat = ChatRequest(text_of(body.get("model"), "model"), texts[0], sum(map(count_tokens, texts)))
        sim.calls.describe(call, chat)
        active = _active(sim, request, chat, call)
        default_ms = _EMBEDDING_MS if sim.config.latency_ms is None else sim.config.latency_ms
        latency_ms = active.number("latency") if "latency" in active else default_ms
        steps = early_steps(active) or _embedding_steps(request, body, texts, chat, active, latency_ms or 0)
    except SimError as error:
        steps = plan_error(OPENAI, error, active, datetime.now(UTC))
    return await Delivery(request, call, sim.calls, sim.stopping).run(steps)


def _embedding_steps(
    request: web.Request, body: Mapping[str, Any], texts: list[str], chat: ChatRequest, active: Active, wait_ms: float
) -> list[Step]:
    _raise_fault(OPENAI, request, chat, active)
    return plan_body(OPENAI, embeddings_body(body, texts), 0, active, Timing(wait_ms))


async def _chat(request: web.Request, dialect: Dialect) -> web.StreamResponse:
    sim, raw = request.app[SIMULATOR], await request.read()
    call = sim.calls.begin(request.path, request.headers, raw)
    active = Active()
    try:
        body = read_json(raw)
        chat = dialect.parse(body, {**request.query, **request.match_info})
        sim.calls.describe(call, chat)
        active = _active(sim, request, chat, call)
        dialect.check(body, chat)
        if (server := active.text("strict")) is not None:
            strict.check(dialect.name, server, body, split_model(chat.model)[0])
        steps = early_steps(active) or _answer_steps(sim, request, dialect, chat, active, call)
    except SimError as error:
        steps = plan_error(dialect, error, active, datetime.now(UTC))
    return await Delivery(request, call, sim.calls, sim.stopping).run(steps)


def _active(sim: Simulator, request: web.Request, chat: ChatRequest, call: Call) -> Active:
    """Return the faults of this call: the model's rules, then its suffix, the header and the body field."""
    _, suffix = split_model(chat.model)
    header = parse_faults(request.headers.get("x-sim-faults", ""))
    active = sim.switches.active(chat.model, chat.prompt, (*suffix, *header, *_field_faults(chat.simulator)))
    call.faults = active.names
    return active


def _field_faults(field: Mapping[str, Any]) -> tuple[Fault, ...]:
    named = {key: value for key, value in field.items() if key not in ("tag", "faults")}
    return (*from_json(field.get("faults", "")), *from_json(named))


def _raise_fault(dialect: Dialect, request: web.Request, chat: ChatRequest, active: Active) -> models.SimModel:
    model = models.find(split_model(chat.model)[0])
    if error := fault_error(dialect.name, model, chat.prompt_tokens, active, _api_key(request)):
        raise error
    if chat.prefilled and "noprefill" in active:
        raise prefill_error()
    return model


def _answer_steps(
    sim: Simulator, request: web.Request, dialect: Dialect, chat: ChatRequest, active: Active, call: Call
) -> list[Step]:
    model = _raise_fault(dialect, request, chat, active)
    if chat.blocks:
        chat = replace(chat, cached=sim.prefixes.use(f"{_api_key(request)} {model.name}", chat.blocks))
    call_id, created = os.urandom(12).hex(), int(time.time())
    completion = generate(chat, model, active, sim.config.tokens, call_id=call_id, created=created)
    call.right, call.tokens = completion.right, produced_tokens(completion.completion_tokens, active)
    pace = timing(model, active, sim.config.latency_ms)
    if chat.stream:
        return plan_stream(dialect, dialect.frames(completion), active, pace)
    return plan_body(dialect, dialect.body(completion), completion.completion_tokens, active, pace)


def _api_key(request: web.Request) -> str:
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return bearer or request.headers.get("x-api-key") or request.headers.get("x-goog-api-key") or "none"


async def list_models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    return web.json_response({"object": "list", "data": [models.listing(model) for model in models.MODELS.values()]})


async def get_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{model}`: any name is known, and behaves like the default model."""
    name = request.match_info["model"]
    return web.json_response({**models.listing(models.find(split_model(name)[0])), "id": name})


async def healthz(request: web.Request) -> web.Response:
    """`GET /healthz`."""
    return web.json_response({"status": "ok"})


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
            web.post("/v1/chat/completions", openai_chat),
            web.post("/v1/embeddings", embeddings),
            web.get("/v1/models", list_models),
            web.get("/v1/models/{model:.+}", get_model),
            web.post("/v1/messages", anthropic_messages),
            web.post("/v1beta/models/{model:.+}:{method:generateContent|streamGenerateContent}", gemini_generate),
            web.get("/healthz", healthz),
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
