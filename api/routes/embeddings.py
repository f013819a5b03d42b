"""`POST /v1/embeddings`: OpenAI's shape, for models of the catalogue with the capability `embeddings`.

It calls the provider directly: no workflow, no row and no fallback, since a repeat costs little and spoils nothing.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from activities.failures import failed_outcome, outcome_error
from api.bodies import read_body
from api.incoming import check_allowed
from api.middleware import PRINCIPAL, REQUEST_ID
from api.registry import RouteSpec, add_routes
from api.responses import json_response
from modelpilot.catalogue import ModelSpec
from modelpilot.errors import InvalidRequest, ModelPilotError, NoCandidate
from modelpilot.outcome import Attempt, Usage
from modelpilot.ports import ConfigurationSource, EmbeddingClients
from modelpilot.pricing import call_cost_usd
from modelpilot.provider_errors import ProviderError
from modelpilot.wire.usage import parse_usage

CAPABILITY = "embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingAccess:
    """What this route needs from outside."""

    configuration: ConfigurationSource
    clients: EmbeddingClients


EMBEDDINGS: web.AppKey[EmbeddingAccess] = web.AppKey("embeddings", EmbeddingAccess)


class EmbeddingsBody(BaseModel):
    """An embeddings request; fields that we do not know are kept for the provider."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[str, Field(min_length=1)] | Annotated[list[Any], Field(min_length=1, max_length=2_048)]
    dimensions: Annotated[int, Field(ge=1)] | None = None


class EmbeddingList(BaseModel):
    """OpenAI's list of embeddings with our `modelpilot` object beside its own fields."""

    object: str
    model: str
    data: list[dict[str, Any]]
    usage: dict[str, Any]
    modelpilot: dict[str, Any]


def register(app: web.Application) -> None:
    """Add the route; `EMBEDDINGS` has to be set by then."""
    summary = "Embeddings of one model of the catalogue"
    add_routes(
        app, [RouteSpec("POST", "/v1/embeddings", _create, "route", summary, "openai", EmbeddingsBody, EmbeddingList)]
    )


async def _create(request: web.Request) -> web.StreamResponse:
    body = await read_body(request, EmbeddingsBody)
    check_allowed(request[PRINCIPAL], None)
    access, request_id = request.app[EMBEDDINGS], f"emb_{secrets.token_hex(16)}"
    request[REQUEST_ID] = request_id
    user_id = request[PRINCIPAL].user_id
    spec = await _model(access, user_id, body.model)
    started = time.monotonic()
    try:
        answer = await _embed(access, user_id, spec, body)
    except ProviderError as error:
        raise _refusal(spec, error, _since_ms(started), request_id) from None
    return json_response({**answer, "modelpilot": _described(spec, answer, _since_ms(started), request_id)})


async def _model(access: EmbeddingAccess, user_id: str, model_id: str) -> ModelSpec:
    snapshot = await access.configuration.direct_snapshot(user_id, model_id)
    spec = snapshot.models[model_id]
    if CAPABILITY not in spec.capabilities:
        raise InvalidRequest(f"model: {model_id} lacks the capability {CAPABILITY}", param="model")
    if model_id in snapshot.unavailable:
        raise NoCandidate(snapshot.unavailable[model_id], param="model")
    return spec


async def _embed(access: EmbeddingAccess, user_id: str, spec: ModelSpec, body: EmbeddingsBody) -> dict[str, Any]:
    endpoint = await access.configuration.endpoint(user_id, spec.provider)
    try:
        client = access.clients.embedder_for(endpoint.kind)
    except InvalidRequest as error:
        message = f"model: providers of kind {endpoint.kind} have no embeddings here"
        raise InvalidRequest(message, param="model") from error
    return await client.embed(endpoint, spec.provider_model, body.model_dump(exclude_unset=True))


def _refusal(spec: ModelSpec, error: ProviderError, latency_ms: float, request_id: str) -> ModelPilotError:
    attempt = Attempt(
        seq=0,
        model=spec.id,
        provider=spec.provider,
        status="error",
        error_type=error.error_type,
        http_status=error.http_status,
        latency_ms=latency_ms,
    )
    return outcome_error(failed_outcome((attempt,), error, can_fall_back=False), request_id)


def _described(spec: ModelSpec, answer: dict[str, Any], latency_ms: float, request_id: str) -> dict[str, Any]:
    usage = Usage(input_tokens=parse_usage(answer.get("usage")).input_tokens)
    # There is no output, so its price need not be known.
    priced = spec.model_copy(update={"cost_per_output_token": spec.cost_per_output_token or 0.0})
    return {
        "requestId": request_id,
        "selectedModel": spec.id,
        "provider": spec.provider,
        "costUsd": call_cost_usd(priced, usage),
        "latencyMs": round(latency_ms, 1),
    }


def _since_ms(started: float) -> float:
    return (time.monotonic() - started) * 1_000.0
