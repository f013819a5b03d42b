"""Failed provider calls as values: attempts, outcomes, and the error that the client gets to see."""

from collections.abc import Sequence
from dataclasses import replace

from modelpilot.errors import (
    ContextLengthExceeded,
    DependencyUnavailable,
    ModelPilotError,
    ModelRefused,
    NoCandidate,
    ProviderFailed,
    ProviderRejected,
    ProviderTimedOut,
    RequestCanceled,
    RequestRefused,
    StreamDiverged,
)
from modelpilot.providers.pricing import total_usd
from modelpilot.requests.outcome import Attempt, Outcome, ProviderError, Remedy, Usage
from modelpilot.requests.route_request import RouteRequestInput

_TIMEOUTS = frozenset({"timeout_connect", "timeout_first_token", "timeout_idle", "timeout_total"})


def failed_outcome(attempts: tuple[Attempt, ...], error: ProviderError, *, can_fall_back: bool) -> Outcome:
    """The outcome of a phase that ended in `error`; its cost is what the attempts cost all the same."""
    last = attempts[-1]
    return Outcome(
        status="failed",
        model=last.model,
        provider=last.provider,
        attempts=attempts,
        cost_usd=spent_usd(attempts),
        error_code=error.error_type,
        error_message=error.message,
        error_status=error.http_status,
        provider_code=error.code,
        error_param=error.param,
        refused=error.refused,
        retry_after_s=error.retry_after_s,
        can_fall_back=can_fall_back and error.remedy is not Remedy.GIVE_UP,
        transient=error.remedy is Remedy.RETRY_SAME,
    )


def canceled_outcome(attempts: tuple[Attempt, ...], model: str, provider: str) -> Outcome:
    """The client went away; what had been spent by then is known as well as it can be."""
    return Outcome(
        status="canceled",
        model=model,
        provider=provider,
        attempts=attempts,
        cost_usd=spent_usd(attempts),
        usage=attempts[-1].usage if attempts else Usage(),
        error_code="request_canceled",
        error_message="the client closed the connection before the answer was complete",
    )


def outcome_of_attempts(attempts: Sequence[Attempt], remaining_ms: float = 0.0) -> Outcome | None:
    """What recorded attempts without a terminal row say: that the last of them failed, and another model may follow."""
    if not attempts:
        return None
    last = attempts[-1]
    return Outcome(
        status="failed",
        model=last.model,
        provider=last.provider,
        attempts=tuple(attempts),
        cost_usd=spent_usd(tuple(attempts)),
        error_code=last.error_type,
        error_message=last.message,
        error_status=last.http_status,
        can_fall_back=True,
        remaining_ms=remaining_ms,
    )


# Error types of attempts that no repeat of the same model mends.
_FINAL = frozenset({"bad_request", "context_length", "content_filter", "authentication", "permission", "not_found"})
# Of refusals, those that tell the client what it can do about them.
_OF_REQUEST = frozenset({"bad_request", "context_length"})


def is_refusal(outcome: Outcome) -> bool:
    """Whether the model refused this request, or is refused itself, so that the next model is asked at once."""
    return outcome.status == "failed" and outcome.refused in ("model", "parameter", "request")


def refusing_models(attempts: Sequence[Attempt]) -> set[str]:
    """The models whose last attempt says that they will not take this request."""
    last = {attempt.model: attempt.error_type for attempt in attempts}
    return {model for model, error_type in last.items() if error_type in _FINAL}


def telling(refusals: Sequence[Outcome]) -> Outcome:
    """Of several refusals the one to answer with: the first that is about the request, or else the first."""
    return next((each for each in refusals if each.error_code in _OF_REQUEST), refusals[0])


def made_up_outcome(request: RouteRequestInput, code: str, message: str) -> Outcome:
    """The outcome of a request that ended in none by itself."""
    return Outcome("failed", request.plan.model, request.provider, error_code=code, error_message=message)


def spent_usd(attempts: tuple[Attempt, ...]) -> float | None:
    """The sum of the known costs; None when no attempt has one."""
    known = [attempt.cost_usd for attempt in attempts if attempt.cost_usd is not None]
    return total_usd(known) if known else None


def with_earlier(outcome: Outcome, earlier: tuple[Attempt, ...]) -> Outcome:
    """The outcome with the attempts of earlier phases in front, and their cost counted."""
    by_seq = {attempt.seq: attempt for attempt in (*earlier, *outcome.attempts)}
    attempts = tuple(by_seq[seq] for seq in sorted(by_seq))
    return replace(outcome, attempts=attempts, cost_usd=spent_usd(attempts))


def outcome_error(outcome: Outcome, request_id: str) -> ModelPilotError:
    """The error that tells a client why there is no answer, with every attempt."""
    details: dict[str, object] = {
        "requestId": request_id,
        "attempts": [attempt_summary(attempt) for attempt in outcome.attempts],
    }
    text = outcome.error_message or "the provider failed"
    if outcome.status == "canceled":
        return RequestCanceled(text, details=details)
    if outcome.error_code == DependencyUnavailable.code:
        return DependencyUnavailable(text, retry_after_s=1.0)
    if outcome.error_code == NoCandidate.code:
        return NoCandidate(text, details=details)
    details["providerStatus"] = outcome.error_status
    if (refusal := _refusal_shown(outcome)) is not None:
        kind, code = refusal
        return kind(text, code=code, param=outcome.error_param, details=details)
    return _failure_shown(outcome, text, details)


def _refusal_shown(outcome: Outcome) -> tuple[type[ModelPilotError], str] | None:
    """How the provider's refusal is told: the error, and its code; None where it is no refusal of the request."""
    code = outcome.provider_code
    match outcome.error_code:
        case "bad_request":
            return RequestRefused, code or RequestRefused.code
        case "context_length":
            return RequestRefused, ContextLengthExceeded.code
        case "content_filter":
            return RequestRefused, "content_filter"
        case "not_found" if outcome.refused == "model":
            return ModelRefused, code or ModelRefused.code
    return None


def _failure_shown(outcome: Outcome, text: str, details: dict[str, object]) -> ModelPilotError:
    message = f"{outcome.provider or 'provider'} failed after {len(outcome.attempts)} attempt(s): {text}"
    kind: type[ProviderFailed] = ProviderFailed
    if outcome.error_code in _TIMEOUTS:
        kind = ProviderTimedOut
    elif outcome.error_code == StreamDiverged.code:
        kind = StreamDiverged
    elif outcome.error_code == "answer_too_large":
        kind = ProviderRejected
    return kind(message, retry_after_s=outcome.retry_after_s, details=details)


def attempt_summary(attempt: Attempt) -> dict[str, object]:
    """An attempt as the `modelpilot` object of an answer lists it."""
    return {
        "model": attempt.model,
        "provider": attempt.provider,
        "deployment": attempt.deployment or None,
        "status": "ok" if attempt.status == "ok" else "error",
        "errorType": attempt.error_type,
        "httpStatus": attempt.http_status,
        "latencyMs": round(attempt.latency_ms, 1),
        "costUsd": attempt.cost_usd,
    }
