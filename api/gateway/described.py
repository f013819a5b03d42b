"""What an answer says of itself beside the provider's words: the `modelpilot` object, headers, the whole request."""

from dataclasses import asdict
from typing import Any

from activities.requests.failures import attempt_summary
from modelpilot.providers.pricing import merged, sum_of_known
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import RequestRecord
from modelpilot.wire.identity import CHAT, names

Headers = dict[str, str]


def modelpilot_object(record: RequestRecord, outcome: Outcome, *, explain: bool) -> dict[str, Any]:
    """The `modelpilot` object of an answer; `explain` adds the decision with all its candidates."""
    described: dict[str, Any] = {
        "requestId": record.key.request_id,
        "routerId": record.router_id,
        "configVersion": record.config_version,
        "selectedModel": outcome.model,
        "provider": outcome.provider,
        "costUsd": outcome.cost_usd,
        "latencyMs": round(outcome.latency_ms, 1),
        "overheadMs": round(record.overhead_ms, 2),
        "attempts": [attempt_summary(attempt) for attempt in outcome.attempts],
        "degraded": list(record.degraded),
        "adjusted": [asdict(each) for each in outcome.adjusted],
        "workflowId": record.key.workflow_id,
    }
    if outcome.segments:
        described["segments"] = _segments(outcome)
    if explain:
        described["decision"] = record.decision
    return described


def _segments(outcome: Outcome) -> list[dict[str, Any]]:
    """Which call wrote which part of a streamed answer that was cut and went on, and what that call cost."""
    costs = {attempt.seq: attempt.cost_usd for attempt in outcome.attempts}
    return [
        {"model": part.model, "attempt": part.seq, "costUsd": costs.get(part.seq), "characters": part.characters}
        for part in outcome.segments
    ]


def with_cost(body: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """The body with what its answer cost (USD, null: unknown) in its `usage`, where OpenRouter's clients look."""
    usage = body.get("usage")
    return {**body, "usage": {**usage, "cost": described.get("costUsd")}} if isinstance(usage, dict) else body


def answer_headers(record: RequestRecord, outcome: Outcome) -> Headers:
    """The headers of a whole answer."""
    headers = {
        "x-modelpilot-model": outcome.model,
        "x-modelpilot-overhead-ms": f"{record.overhead_ms:.2f}",
        "x-modelpilot-attempts": str(len(outcome.attempts)),
        "server-timing": f"provider;dur={outcome.latency_ms:.1f}, modelpilot;dur={record.overhead_ms:.2f}",
    }
    if record.degraded:
        headers["x-modelpilot-degraded"] = ",".join(record.degraded)
    return headers


def request_view(record: RequestRecord) -> dict[str, Any]:
    """A finished request as `GET /v1/requests/{id}` shows it, with the answer while that is retained."""
    outcome = record.outcome
    view = {
        **modelpilot_object(record, outcome, explain=True),
        "status": outcome.status,
        "createdAt": record.created_at,
        "completedAt": record.completed_at,
        "finishReason": outcome.finish_reason,
        "tokens": {
            "input": outcome.usage.input_tokens,
            "output": outcome.usage.output_tokens,
            "total": outcome.usage.total_tokens,
        },
        "bill": [asdict(line) for line in merged(attempt.bill for attempt in outcome.attempts)],
        "listCostUsd": _list_cost_usd(outcome),
        "estimated": outcome.estimated,
        "requestType": record.request_type,
        "success": outcome.success,
        "quality": outcome.quality,
        "tags": record.tags,
        "userId": record.end_user,
        "sessionId": record.session_id,
        "purpose": record.purpose,
        "answer": outcome.answer and {**outcome.answer, **names(CHAT, record.key.request_id, outcome.model)},
    }
    if outcome.status != "completed":
        view["error"] = {"code": outcome.error_code, "message": outcome.error_message}
    return view


def _list_cost_usd(outcome: Outcome) -> float | None:
    """What the catalogue's prices come to, where a provider said itself what it charged for a call."""
    if all(attempt.list_cost_usd is None for attempt in outcome.attempts):
        return None
    costs = [
        attempt.cost_usd if attempt.list_cost_usd is None else attempt.list_cost_usd for attempt in outcome.attempts
    ]
    return sum_of_known(costs)
