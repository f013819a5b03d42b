"""`POST /v1/embeddings`: OpenAI's shape, for models of the catalogue with the capability `embeddings`.

It calls the provider directly: no workflow and no fallback, since a repeat costs little and spoils nothing. The
deployments of the model stand in for each other as they do for chat, and what was paid is a row like all others.
"""

import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from activities.requests.embeddings import EmbeddingCaller, EmbeddingRequest
from activities.requests.failures import outcome_error
from api.gateway.admission import TICKET, admitted
from api.gateway.described import Headers, answer_headers, modelpilot_object, with_cost
from api.gateway.receive import check_allowed, target_of
from api.http.bodies import read_body
from api.http.middleware import PRINCIPAL, REQUEST_ID
from api.http.registry import RouteSpec
from api.http.responses import json_response
from modelpilot.chat.body import RequestOptions
from modelpilot.chat.profile import end_user_of, tags_of
from modelpilot.errors import InvalidRequest, NoCandidate, NotFound
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import RequestKey, RouterSnapshot

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
    metadata: dict[str, Any] | None = None
    modelpilot: RequestOptions | None = None


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
    answer, headers = await embedded(request, await read_body(request, EmbeddingsBody))
    return json_response(answer, headers=headers)


async def embedded(request: web.Request, body: EmbeddingsBody) -> tuple[dict[str, Any], Headers]:
    """The answer to `body` in OpenAI's shape, with our object, and its headers. Raises ModelPilotError."""
    received_at = time.monotonic()
    access, principal = request.app[EMBEDDINGS], request[PRINCIPAL]
    router_id, snapshot, spec = await _target(access.configuration, request, body.model)
    key = RequestKey(principal.user_id, f"emb_{secrets.token_hex(16)}")
    request[REQUEST_ID] = key.request_id
    request[TICKET].called()
    sent = body.model_dump(exclude_unset=True, exclude={"model", "metadata", "modelpilot"})
    options = body.modelpilot or RequestOptions()
    asked = EmbeddingRequest(
        key,
        router_id,
        principal.api_key_id,
        sent,
        received_at,
        tags=tags_of(body.metadata, options.tags),
        end_user=end_user_of(sent),
        session_id=options.session_id,
    )
    record = await access.caller.embed(snapshot, spec, asked)
    if record.outcome.answer is None:
        raise outcome_error(record.outcome, key.request_id)
    described = modelpilot_object(record, record.outcome, explain=False)
    answer = {**with_cost(record.outcome.answer, described), "modelpilot": described}
    return answer, answer_headers(record, record.outcome)


async def _target(
    configuration: ConfigurationSource, request: web.Request, name: str
) -> tuple[str | None, RouterSnapshot, ModelSpec]:
    """The model that is meant, and through which router. A key that is for routers only may use the embedding models
    that these name. Raises PermissionDenied, NotFound, InvalidRequest, NoCandidate."""
    target, principal = await target_of(request, name), request[PRINCIPAL]
    if target.kind == "router":
        check_allowed(principal, target.id)
        snapshot = await configuration.router_snapshot(principal.user_id, target.id)
        models = (model for _, model in snapshot.router.named_models() if model in snapshot.models)
        model_id = next((model for model in models if CAPABILITY in snapshot.models[model].capabilities), None)
        if model_id is None:
            raise InvalidRequest.at("model", f"router {target.id} has no model with the capability {CAPABILITY}")
        return target.id, snapshot, _checked(snapshot, model_id)
    for router_id in sorted(principal.allowed_routers or ()):
        with suppress(NotFound):  # a router may have been deleted
            snapshot = await configuration.router_snapshot(principal.user_id, router_id)
            if any(model == target.id for _, model in snapshot.router.named_models()):
                return router_id, snapshot, _checked(snapshot, target.id)
    check_allowed(principal, None)
    snapshot = await configuration.direct_snapshot(principal.user_id, target.id)
    return None, snapshot, _checked(snapshot, target.id)


def _checked(snapshot: RouterSnapshot, model_id: str) -> ModelSpec:
    if model_id in snapshot.unavailable:
        raise NoCandidate(snapshot.unavailable[model_id], param="model")
    spec = snapshot.models[model_id]
    if CAPABILITY not in spec.capabilities:
        raise InvalidRequest(f"model: {model_id} lacks the capability {CAPABILITY}", param="model")
    return spec
