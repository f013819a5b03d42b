"""The provider endpoints: chat in three dialects, embeddings, models."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from simulator import models
from simulator.answers import embeddings_body, inputs
from simulator.calls import Call
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
from simulator.faults import Active, Fault, SimError, from_json, parse_faults, prefill_error, split_model
from simulator.generate import Dialect, generate
from simulator.request import ChatRequest, text_of
from simulator.state import SIMULATOR, Simulator
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
        chat = dialect.parse(read_json(raw), {**request.query, **request.match_info})
        sim.calls.describe(call, chat)
        active = _active(sim, request, chat, call)
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
