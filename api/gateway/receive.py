"""A received chat request, checked (target, rights, names), and the flight that it becomes. Shared by all formats."""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from activities.requests.decision import Decided
from activities.requests.flight import Flight
from activities.requests.sink import ChunkSink
from api.http.bodies import validate
from api.http.middleware import PRINCIPAL
from api.services import SERVICES
from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest, PermissionDenied
from modelpilot.requests.outcome import INLINE_LIMIT_BYTES
from modelpilot.requests.records import Principal, RequestKey, RequestRecord
from modelpilot.requests.route_request import CallPlan, RouteRequestInput
from modelpilot.routing.aliases import Target
from modelpilot.routing.preferences import Preferences
from modelpilot.routing.router import ROUTER_PREFIX
from modelpilot.wire.jsonb import dump

_MAX_KEY_CHARACTERS = 255
# It becomes part of a workflow id and of URLs.
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One HTTP request, checked. Exactly one of `router_id` and `model_id` is set."""

    principal: Principal
    router_id: str | None
    model_id: str | None
    raw: bytes
    body: dict[str, Any]
    checked: ChatBody
    received_at: float  # monotonic seconds
    idempotency_key: str | None = None
    client_name: str | None = None  # the client's own x-request-id
    preferences: Preferences | None = None
    is_repeat: bool = False  # an official SDK's automatic retry

    @property
    def digest(self) -> bytes:
        """Equal for the same body sent to the same router."""
        digest = hashlib.sha256(f"{self.router_id}\x00{self.model_id}\x00".encode())
        digest.update(self.raw)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Translated:
    """The chat request that says what a request of another format says."""

    raw: bytes
    chat: dict[str, Any]
    checked: ChatBody

    @classmethod
    def of(cls, chat: dict[str, Any]) -> Self:
        """Raises InvalidRequest. The workflow keeps the translated body: whoever recovers the request needs to know no
        format but OpenAI's."""
        return cls(dump(chat), chat, validate(chat, ChatBody))

    async def received(self, request: web.Request, received_at: float) -> ReceivedRequest:
        """The request to submit; see `receive`."""
        return await receive(request, None, self.raw, self.chat, self.checked, received_at)


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that runs here (`flight`), or one that has ended already (`record`). `owned`: this call began it."""

    key: RequestKey
    flight: Flight | None = None
    record: RequestRecord | None = None
    owned: bool = False


async def receive(
    request: web.Request, router_id: str | None, raw: bytes, body: dict[str, Any], checked: ChatBody, received_at: float
) -> ReceivedRequest:
    """The request to submit; `raw` is what the workflow keeps and `body` what it says. Without a `router_id` the body's
    `model` names the target. Raises InvalidRequest, PermissionDenied, DependencyUnavailable.
    """
    model_id, principal = None, request[PRINCIPAL]
    named = [each for each in checked.named() if router_id is None or each[0] != "model"]
    if router_id is None:
        if not named:
            raise InvalidRequest.at("model", "router/{routerId} or a model of the catalogue was expected")
        target = await target_of(request, named.pop(0)[1])
        router_id, model_id = (target.id, None) if target.kind == "router" else (None, target.id)
    check_allowed(principal, router_id)
    return ReceivedRequest(
        principal=principal,
        router_id=router_id,
        model_id=model_id,
        raw=raw,
        body=body,
        checked=checked,
        received_at=received_at,
        idempotency_key=_idempotency_key(request),
        client_name=_client_name(request),
        preferences=await _preferences(request, checked, named, model_id),
        is_repeat=request.headers.get("x-stainless-retry-count", "0") not in ("", "0"),
    )


def check_allowed(principal: Principal, router_id: str | None) -> None:
    """Raise PermissionDenied where the key is for other routers only; None stands for a model called directly."""
    if principal.allowed_routers is not None and router_id not in principal.allowed_routers:
        raise PermissionDenied(
            "This API key may not use this router." if router_id else "This key is for routers only."
        )


def open_flight(
    received: ReceivedRequest, key: RequestKey, decided: Decided, instance: str, *, named: bool, kept: bool
) -> Flight:
    """The flight of a request that gateway `instance` takes, with what the ledger keeps of it."""
    router = decided.snapshot.router
    request = RouteRequestInput(
        user_id=key.user_id,
        request_id=key.request_id,
        router_id=received.router_id,
        owner=instance,
        created_at=time.time() - (time.monotonic() - received.received_at),
        config_version=decided.snapshot.version,
        plan=_plan(decided),
        decision=decided.decision.to_wire(),
        body=received.raw.decode() if len(received.raw) <= INLINE_LIMIT_BYTES else None,
        steps=decided.reports,
        stream=decided.profile.stream,
        api_key_id=received.principal.api_key_id,
        store_prompts=router.store_prompts,
        tags=dict(decided.profile.tags),
        session_id=decided.profile.options.session_id,
        end_user=decided.profile.end_user,
    )
    return Flight(
        request=request,
        profile=decided.profile,
        snapshot=decided.snapshot,
        vector=decided.vector,
        received_at=received.received_at,
        sink=ChunkSink() if decided.profile.stream else None,
        body=received.raw,
        named=named,
        kept=kept,
        relaxed=router.durability == "relaxed",
        degraded=list(decided.decision.degraded),
    )


async def _preferences(
    request: web.Request, checked: ChatBody, named: Sequence[tuple[str, str]], model_id: str | None
) -> Preferences | None:
    """What the request prefers; `named` are the models that are to stand in for the first. None: nothing."""
    if not named and checked.provider is None:
        return None
    fallbacks: dict[str, str] = {}
    for field, name in named:
        target = await target_of(request, name)
        if target.kind == "router":
            raise InvalidRequest.at(field, "a router cannot stand in for a model; name models")
        if target.id != model_id:
            fallbacks.setdefault(target.id, field)
    return Preferences(tuple((field, name) for name, field in fallbacks.items()), checked.provider)


async def target_of(request: web.Request, name: str) -> Target:
    """Whom the caller means by the `model` that it sends. Raises DependencyUnavailable."""
    if name.startswith(ROUTER_PREFIX):  # the usual case needs no aliases
        return Target("router", name.removeprefix(ROUTER_PREFIX))
    return (await request.app[SERVICES].aliases(request[PRINCIPAL].user_id)).resolve(name)


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= _MAX_KEY_CHARACTERS:
        raise InvalidRequest("Idempotency-Key: 1 to 255 characters were expected", param="Idempotency-Key")
    return key


def _client_name(request: web.Request) -> str | None:
    name = request.headers.get("x-request-id")
    if name is not None and not _CLIENT_NAME.fullmatch(name):
        raise InvalidRequest("x-request-id: 1 to 128 of A-Z a-z 0-9 . _ : - were expected", param="x-request-id")
    return name


def _plan(decided: Decided) -> CallPlan:
    router, profile, decision = decided.snapshot.router, decided.profile, decided.decision
    names = dict.fromkeys((decision.selected, *decision.fallbacks, *decision.next_models))
    return CallPlan(
        model=decision.selected,
        specs={name: decided.snapshot.models[name].to_wire() for name in names},
        fallback_models=decision.fallbacks,
        retry_attempts=router.fallback_strategy.retry_attempts,
        same_model_retries=router.same_model_retries,
        first_token_ms=router.timeouts.first_token_ms,
        idle_ms=router.timeouts.idle_ms,
        total_ms=router.timeouts.total_ms,
        call_format=profile.options.call_format or router.call_format,
        on_stream_cut=router.on_stream_cut,
        connect_ms=router.timeouts.connect_ms,
        upstream=router.upstream,
        next_models=decision.next_models,
        strict_parameters=router.strict_parameters,
    )
