"""`POST /v1/embeddings`: OpenAI's shape, for models of the catalogue with the capability `embeddings`.

It calls the provider directly: no workflow, no row and no fallback, since a repeat costs little and spoils nothing. The
deployments of the model stand in for each other as they do for chat.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from activities.requests.embeddings import Embedded, EmbeddingCaller
from activities.requests.failures import attempt_summary, failed_outcome, outcome_error
from api.gateway.admission import TICKET, admitted
from api.gateway.receive import check_allowed
from api.http.bodies import read_body
from api.http.middleware import PRINCIPAL, REQUEST_ID
from api.http.registry import RouteSpec
from api.http.responses import json_response
from modelpilot.errors import InvalidRequest, ModelPilotError, NoCandidate
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.pricing import call_cost_usd
from modelpilot.requests.outcome import Attempt, Usage
from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import RouterSnapshot
from modelpilot.wire.chunks import parse_usage

CAPABILITY = "embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingAccess:
    """What this route needs from outside."""

    configuration: ConfigurationSource
    caller: EmbeddingCaller


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


def routes() -> list[RouteSpec]:
    """The route of this module. Its application has `EMBEDDINGS`."""
    summary = "Embeddings of one model of the catalogue"
    embeddings = partial(RouteSpec, "POST", "/v1/embeddings", admitted(_create), "route", summary, "openai")
    return [embeddings(request=EmbeddingsBody, response=EmbeddingList, invalid_status=400)]


async def _create(request: web.Request) -> web.StreamResponse:
    return json_response(await embedded(request, await read_body(request, EmbeddingsBody)))


async def embedded(request: web.Request, body: EmbeddingsBody) -> dict[str, Any]:
    """The answer to `body` in OpenAI's shape, with our object. Raises ModelPilotError."""
    check_allowed(request[PRINCIPAL], None)
    access, request_id = request.app[EMBEDDINGS], f"emb_{secrets.token_hex(16)}"
    request[REQUEST_ID] = request_id
    user_id = request[PRINCIPAL].user_id
    snapshot = await access.configuration.direct_snapshot(user_id, body.model)
    spec = _checked(snapshot, body.model)
    request[TICKET].called()
    started = time.monotonic()
    ended = await access.caller.embed(snapshot, spec, body.model_dump(exclude_unset=True))
    if ended.answer is None:
        raise _refusal(ended, request_id)
    described = _described(spec, ended.attempts, ended.answer, _since_ms(started))
    return {**ended.answer, "modelpilot": {"requestId": request_id, **described}}


def _checked(snapshot: RouterSnapshot, model_id: str) -> ModelSpec:
    spec = snapshot.models[model_id]
    if CAPABILITY not in spec.capabilities:
        raise InvalidRequest(f"model: {model_id} lacks the capability {CAPABILITY}", param="model")
    if model_id in snapshot.unavailable:
        raise NoCandidate(snapshot.unavailable[model_id], param="model")
    return spec


def _refusal(ended: Embedded, request_id: str) -> ModelPilotError:
    if ended.error is None:  # an end without an answer has one
        raise RuntimeError("embeddings ended with neither answer nor error")
    return outcome_error(failed_outcome(ended.attempts, ended.error, can_fall_back=False), request_id)


def _described(
    spec: ModelSpec, attempts: Sequence[Attempt], answer: dict[str, Any], latency_ms: float
) -> dict[str, Any]:
    usage = Usage(input_tokens=parse_usage(answer.get("usage")).input_tokens)
    # There is no output, so its price need not be known.
    priced = spec.model_copy(update={"cost_per_output_token": spec.cost_per_output_token or 0.0})
    cost_usd, last = call_cost_usd(priced, usage), attempts[-1]
    return {
        "selectedModel": spec.id,
        "provider": last.provider,
        "deployment": last.deployment,
        "costUsd": cost_usd,
        "latencyMs": round(latency_ms, 1),
        "attempts": [attempt_summary(each) for each in (*attempts[:-1], replace(last, cost_usd=cost_usd))],
    }


def _since_ms(started: float) -> float:
    return (time.monotonic() - started) * 1_000.0
