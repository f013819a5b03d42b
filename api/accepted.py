"""What the gateway accepts, and the flight that it becomes."""

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from activities.requests.decision import Decided
from activities.requests.flight import ChunkSink, Flight
from activities.requests.recording import INLINE_LIMIT_BYTES
from modelpilot.chat.body import ChatBody
from modelpilot.requests.messages import CallPlan, RouteRequestInput
from modelpilot.requests.records import Principal, RequestKey, RequestRecord


@dataclass(frozen=True, slots=True)
class Incoming:
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
    is_repeat: bool = False  # an official SDK's automatic retry

    @property
    def digest(self) -> bytes:
        """Equal for the same body sent to the same router."""
        return hashlib.sha256(f"{self.router_id}\x00{self.model_id}\x00".encode() + self.raw).digest()


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that runs here (`flight`), or one that has ended already (`record`). `owned`: this call began it."""

    key: RequestKey
    flight: Flight | None = None
    record: RequestRecord | None = None
    owned: bool = False


def open_flight(incoming: Incoming, key: RequestKey, decided: Decided, instance: str, *, careful: bool) -> Flight:
    """The flight of a request that gateway `instance` accepts, with the input of its workflow."""
    router = decided.snapshot.router
    request = RouteRequestInput(
        user_id=key.user_id,
        request_id=key.request_id,
        router_id=incoming.router_id,
        owner=instance,
        nonce=secrets.token_hex(12),
        created_at=time.time() - (time.monotonic() - incoming.received_at),
        config_version=decided.snapshot.version,
        plan=_plan(decided),
        decision=decided.decision.to_wire(),
        body=incoming.raw.decode() if len(incoming.raw) <= INLINE_LIMIT_BYTES else None,
        stream=decided.profile.stream,
        api_key_id=incoming.principal.api_key_id,
        store_prompts=router.store_prompts,
        tags=decided.profile.options.tags,
        session_id=decided.profile.options.session_id,
    )
    return Flight(
        request=request,
        profile=decided.profile,
        snapshot=decided.snapshot,
        vector=decided.vector,
        reports=decided.reports,
        received_at=incoming.received_at,
        sink=ChunkSink() if decided.profile.stream else None,
        body_digest=incoming.digest,
        careful=careful,
        degraded=list(decided.decision.degraded),
    )


def _plan(decided: Decided) -> CallPlan:
    router, profile, decision = decided.snapshot.router, decided.profile, decided.decision
    names = dict.fromkeys((decision.selected, *decision.fallbacks))
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
    )
