"""What a key may call: the catalogue, and its routers as `router/{id}`.

`/v1/models` has OpenAI's shape with OpenRouter's prices and limits, Anthropic's for a client that sends
`anthropic-version`, and Google's, which `/v1beta/models` has (`gemini.py`), for one that sends `x-goog-api-key`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from aiohttp import web
from pydantic import BaseModel

from api.gateway.receive import target_of
from api.http.middleware import GOOGLE_KEY, PRINCIPAL
from api.http.registry import RouteSpec
from api.http.responses import json_response
from api.routes import resource
from api.services import SERVICES, Services
from modelpilot.errors import NotFound
from modelpilot.management.resources import StoredModel, StoredRouter
from modelpilot.providers.catalogue import ModelLimits, ModelSpec
from modelpilot.requests.records import Principal
from modelpilot.routing.router import ROUTER_PREFIX

_ANTHROPIC_VERSION = "anthropic-version"
_GOOGLE_PREFIX = "models/"


class Pricing(BaseModel):
    """USD per token as text, as OpenRouter writes it; "-1": it depends on the model that will be chosen. Null:
    unknown."""

    prompt: str | None
    completion: str | None
    input_cache_read: str | None


class TopProvider(BaseModel):
    """The limits of the deployment that serves; null: unknown."""

    context_length: int | None
    max_completion_tokens: int | None


class OpenAIModel(BaseModel):
    """One entry; `created` is Unix seconds, `aliases` are further names that a client may use. A router's limits are
    those of its largest model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    name: str
    aliases: list[str]
    context_length: int | None
    pricing: Pricing
    top_provider: TopProvider


class OpenAIModelList(BaseModel):
    """The whole list: OpenAI's has no pages."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class GoogleModel(BaseModel):
    """A model or router; `name` is what a client puts into the path."""

    name: str
    baseModelId: str  # noqa: N815
    version: str
    displayName: str  # noqa: N815
    description: str
    inputTokenLimit: int | None  # noqa: N815
    outputTokenLimit: int | None  # noqa: N815
    supportedGenerationMethods: list[str]  # noqa: N815


class GoogleModelList(BaseModel):
    """All of them; there is no further page."""

    models: list[GoogleModel]


@dataclass(frozen=True, slots=True)
class Entry:
    """A router (without a `spec`) or a model that a key may call."""

    id: str
    name: str
    created_at: float
    limits: ModelLimits
    aliases: Sequence[str] = ()
    spec: ModelSpec | None = None

    def openai(self) -> OpenAIModel:
        """As OpenAI lists it."""
        window, longest = self.limits.context_window, self.limits.max_tokens
        return OpenAIModel(
            id=self.id,
            created=int(self.created_at),
            owned_by="modelpilot" if self.spec is None else self.spec.provider,
            name=self.name,
            aliases=list(self.aliases),
            context_length=window,
            pricing=_pricing(self.spec),
            top_provider=TopProvider(context_length=window, max_completion_tokens=longest),
        )

    def anthropic(self) -> dict[str, object]:
        """As Anthropic lists it."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "created_at": resource.utc(self.created_at).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycle": "active",
            "max_input_tokens": self.limits.context_window,
            "max_tokens": self.limits.max_tokens,
        }

    def google(self) -> GoogleModel:
        """As Google lists it."""
        embeds = self.spec is not None and self.spec.capabilities == ["embeddings"]
        return GoogleModel(
            name=f"{_GOOGLE_PREFIX}{self.id}",
            baseModelId=self.id,
            version="001",
            displayName=self.name,
            description="A router" if self.spec is None else f"A model of {self.spec.provider}",
            inputTokenLimit=self.limits.context_window,
            outputTokenLimit=self.limits.max_tokens,
            supportedGenerationMethods=[] if embeds else ["generateContent", "streamGenerateContent", "countTokens"],
        )


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    path, tag = "/v1/models", "openai"
    listing = "List models and routers (in Anthropic's shape with the header anthropic-version)"
    return [
        RouteSpec("GET", path, _list, "route", listing, tag, None, OpenAIModelList),
        RouteSpec("GET", f"{path}/{{id:.*[^/]}}", _get, "route", "Read a model or router", tag, None, OpenAIModel),
    ]


async def google_models(request: web.Request) -> web.StreamResponse:
    """`GET /v1beta/models`."""
    entries = await callable_entries(request.app[SERVICES], request[PRINCIPAL])
    return json_response(GoogleModelList(models=[entry.google() for entry in entries]).model_dump())


async def google_model(request: web.Request) -> web.StreamResponse:
    """`GET /v1beta/models/{id}`."""
    subject = resource.path_id(request, "model").removeprefix(_GOOGLE_PREFIX)
    entry = await _callable_entry(request, subject)
    return json_response(entry.google().model_dump())


async def _list(request: web.Request) -> web.StreamResponse:
    if GOOGLE_KEY in request.headers:
        return await google_models(request)
    entries = await callable_entries(request.app[SERVICES], request[PRINCIPAL])
    if _ANTHROPIC_VERSION in request.headers:
        data = [entry.anthropic() for entry in entries]
        names: list[str | None] = [entry.id for entry in entries] or [None]
        return json_response({"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]})
    return json_response(OpenAIModelList(data=[entry.openai() for entry in entries]).model_dump())


async def _get(request: web.Request) -> web.StreamResponse:
    if GOOGLE_KEY in request.headers:
        return await google_model(request)
    subject = resource.path_id(request, "model")
    entry = await _callable_entry(request, subject)
    return json_response(entry.anthropic() if _ANTHROPIC_VERSION in request.headers else entry.openai().model_dump())


async def callable_entries(services: Services, caller: Principal) -> list[Entry]:
    """All that the caller may call: its routers, and the models unless its key is for routers only."""
    owner, allowed = caller.user_id, caller.allowed_routers
    models = {stored.body.id: stored async for stored in resource.every(services.models, owner)}
    specs = {name: stored.body for name, stored in models.items()}
    entries = [
        _of_router(stored, specs)
        async for stored in resource.every(services.routers, owner)
        if allowed is None or stored.body.id in allowed
    ]
    return entries if allowed is not None else [*entries, *map(_of_model, models.values())]


async def _callable_entry(request: web.Request, name: str) -> Entry:
    """One of them, also by an alias. Raises NotFound."""
    services, caller = request.app[SERVICES], request[PRINCIPAL]
    target = await target_of(request, name)
    router_id = target.id if target.kind == "router" else None
    if caller.allowed_routers is not None and router_id not in caller.allowed_routers:
        raise NotFound(f"There is no model or router '{name}' that this key may use.")
    if router_id is None:
        return _of_model(await services.models.get(caller.user_id, target.id))
    stored = await services.routers.get(caller.user_id, router_id)
    models = {each.body.id: each.body async for each in resource.every(services.models, caller.user_id)}
    return _of_router(stored, models)


def _of_router(stored: StoredRouter, models: Mapping[str, ModelSpec]) -> Entry:
    router = stored.body
    limits = [models[name].limits for _, name in router.named_models() if name in models]
    largest = ModelLimits(
        max_tokens=_largest(each.max_tokens for each in limits),
        context_window=_largest(each.context_window for each in limits),
    )
    return Entry(f"{ROUTER_PREFIX}{router.id}", router.name or router.id, stored.created_at, largest, router.aliases)


def _largest(known: Iterable[int | None]) -> int | None:
    return max((limit for limit in known if limit is not None), default=None)


def _of_model(stored: StoredModel) -> Entry:
    spec = stored.body
    return Entry(spec.id, spec.id, stored.created_at, spec.limits, spec.aliases, spec)


def _pricing(spec: ModelSpec | None) -> Pricing:
    if spec is None:
        return Pricing(prompt="-1", completion="-1", input_cache_read="-1")
    prices = (spec.cost_per_input_token, spec.cost_per_output_token, spec.cost_per_cached_input_token)
    prompt, completion, cached = map(_usd, prices)
    return Pricing(prompt=prompt, completion=completion, input_cache_read=cached)


def _usd(price: float | None) -> str | None:
    """Without an exponent, which not every reader of these texts knows; a price says no more than 12 digits."""
    return None if price is None else format(Decimal(f"{price:.12g}").normalize(), "f")
