"""From a finished request to its terminal row and its point in the vector history."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from modelpilot.chat.profile import RequestProfile
from modelpilot.chat.text import normalized_prompt
from modelpilot.errors import DependencyUnavailable, Overloaded
from modelpilot.learning.quality import Evidence, combine
from modelpilot.providers.pricing import carbon_g
from modelpilot.requests.outcome import Attempt, Outcome
from modelpilot.requests.ports import Ledger
from modelpilot.requests.records import HistoryPoint, HistoryScope, Purpose, RequestKey, RequestRecord, Vector
from modelpilot.requests.route_request import RouteRequestInput

log = structlog.get_logger(__name__)

# Between two tries to commit while Postgres is away.
RETRY_S = 0.5

# Keyed hash of some bytes for a purpose: (purpose, data) -> digest.
Mac = Callable[[str, bytes], bytes]


def prompt_hash(mac: Mac, user_id: str, router_id: str | None, text: str) -> str:
    """HMAC(user, router, normalized prompt): equal for the same prompt, useless to anybody without the keyring."""
    parts = (user_id, router_id or "", normalized_prompt(text))
    return mac("prompt", "\x00".join(parts).encode("utf-8", "surrogatepass")).hex()[:32]


def build_record(
    request: RouteRequestInput,
    profile: RequestProfile,
    outcome: Outcome,
    *,
    mac: Mac,
    elapsed_ms: float,
    degraded: tuple[str, ...],
) -> RequestRecord:
    """The terminal row. `elapsed_ms` is the whole time from receipt to outcome; all but the provider's is overhead."""
    return RequestRecord(
        key=request.key,
        router_id=request.router_id,
        api_key_id=request.api_key_id,
        config_version=request.config_version,
        created_at=request.created_at,
        completed_at=time.time(),
        outcome=outcome,
        overhead_ms=max(elapsed_ms - outcome.latency_ms, 0.0),
        request_type=profile.request_type,
        stream=request.stream,
        decision=request.decision,
        propensity=float(request.decision.get("propensity", 1.0)),
        explored=bool(request.decision.get("explored", False)),
        fallback_used=outcome.status == "completed" and outcome.model != request.plan.model,
        prompt_hash=prompt_hash(mac, request.user_id, request.router_id, profile.text),
        degraded=degraded,
        tags=request.tags,
        session_id=request.session_id,
        end_user=request.end_user,
        carbon_g=carbon_g(outcome.attempts, request.plan.specs),
        stored_body=profile.body if request.store_prompts else None,
    )


def paid_record(
    key: RequestKey, purpose: Purpose, outcome: Outcome, created_at: float, *, overhead_ms: float = 0.0, **more: Any
) -> RequestRecord:
    """The row of what was paid for and is no routed request: nothing was decided. `more` are further fields of it."""
    plain: dict[str, Any] = {
        "router_id": None,
        "api_key_id": None,
        "config_version": 0,
        "request_type": purpose,
        "stream": False,
        "decision": {},
        "propensity": 1.0,
        "explored": False,
        "fallback_used": False,
        "prompt_hash": "",
    }
    return RequestRecord(
        key=key,
        created_at=created_at,
        completed_at=time.time(),
        outcome=outcome,
        overhead_ms=overhead_ms,
        purpose=purpose,
        **{**plain, **more},
    )


def history_point(record: RequestRecord, vector: Vector) -> HistoryPoint | None:
    """What later decisions learn from this request; None where no model answered it by itself."""
    answering = answering_attempt(record.outcome)
    if answering is None or record.outcome.status != "completed" or record.router_id is None:
        return None
    judged = combine(Evidence(checks=record.outcome.quality))
    return HistoryPoint(
        point_id=f"{record.prompt_hash}/{answering.model}",
        scope=HistoryScope(record.key.user_id, record.router_id),
        model=answering.model,
        request_id=record.key.request_id,
        embedding=vector,
        latency_ms=answering.latency_ms,
        cost_usd=answering.cost_usd,
        quality=record.outcome.quality,
        quality_weight=judged.weight if judged else 1.0,
        ttft_ms=answering.ttft_ms,
        input_tokens=answering.usage.input_tokens,
        output_tokens=answering.usage.output_tokens,
        request_type=record.request_type,
        timestamp=record.completed_at,
        begun_at=record.created_at,
        prompt_tokens=int(record.decision.get("promptTokens") or 0),
    )


def without_text(record: RequestRecord) -> RequestRecord:
    """The record with nothing but what the row must have, where the ledger cannot take the whole of it."""
    attempts = tuple(replace(attempt, message=None) for attempt in record.outcome.attempts)
    outcome = replace(record.outcome, answer=None, error_message=None, attempts=attempts)
    return replace(record, outcome=outcome, decision={}, tags={}, session_id=None, end_user=None, stored_body=None)


async def record_in_the_end(
    ledger: Ledger,
    record: RequestRecord,
    point: HistoryPoint | None = None,
    unaccepted: Callable[[], RouteRequestInput | None] = lambda: None,
    retry_s: float = RETRY_S,
) -> None:
    """Commit a terminal row, however long the ledger is away. What it refuses for good would be tried for ever as it
    is: that row goes in without its text and without what is learnt from it, or not at all. `unaccepted`: the request,
    as long as the ledger has not accepted it."""
    written: RequestRecord | None = record
    while written is not None:
        try:
            await ledger.record(written, point, unaccepted())
            return
        except (DependencyUnavailable, Overloaded):
            await asyncio.sleep(retry_s)
        except Exception:
            log.exception("record_refused", request_id=record.key.request_id)
            point, written = None, None if written is not record else without_text(record)


def answering_attempt(outcome: Outcome) -> Attempt | None:
    """The provider call whose answer the client got."""
    return next((attempt for attempt in reversed(outcome.attempts) if attempt.status == "ok"), None)
