"""From a finished request to its row and its point."""

from dataclasses import replace

import numpy as np
import pytest

from activities.requests.recording import (
    answering_attempt,
    build_record,
    history_point,
    prompt_hash,
    without_text,
)
from modelpilot.requests.outcome import INLINE_LIMIT_BYTES, Attempt, Outcome, Usage, without_large_answer
from modelpilot.requests.records import RequestRecord
from tests.support.core import KEYRING, A, B
from tests.support.routing_samples import NOW, plan, profile, request

FAILED = Attempt(0, "sim/a", "simulator", "error", "server_error", 503, latency_ms=100.0, cost_usd=0.5, started_at=NOW)
OK = Attempt(100, "sim/b", "simulator", "ok", latency_ms=200.0, ttft_ms=50.0, cost_usd=0.25, usage=Usage(10, 5))
ANSWERED = Outcome("completed", "sim/b", "simulator", (FAILED, OK), {"choices": []}, finish_reason="stop", quality=1.0)
VECTOR = np.array([1.0, 0.0, 0.0, 0.0], np.float32)


def row(outcome: Outcome = ANSWERED, *, router_id: str | None = "support", elapsed_ms: float = 310.0) -> RequestRecord:
    """The row of a request that was decided for sim/a."""
    accepted = request(plan(A, B), router_id=router_id, tags={"team": "x"}, session_id="s1", stream=True)
    return build_record(accepted, profile(), outcome, mac=KEYRING.mac, elapsed_ms=elapsed_ms, degraded=("vector",))


def test_the_row_has_all_that_is_known() -> None:
    """Overhead is everything but the providers' time; a fallback is marked; no text is in it."""
    record = row()
    assert record.overhead_ms == pytest.approx(10.0)
    assert (record.fallback_used, record.stream, record.tags, record.session_id) == (True, True, {"team": "x"}, "s1")
    assert (record.degraded, record.request_type, record.propensity) == (("vector",), "chat", 1.0)
    assert "Simple question" not in repr(record)


def test_overhead_is_never_negative() -> None:
    """Clocks of two kinds may disagree by a little."""
    assert row(elapsed_ms=1.0).overhead_ms == 0.0


def test_a_failed_request_is_no_fallback_success() -> None:
    """`fallback_used` speaks of answers only."""
    assert not row(Outcome("failed", "sim/b", "simulator", (FAILED,))).fallback_used


def test_the_point_speaks_of_the_call_that_answered() -> None:
    """Latency, cost and tokens of the answering attempt, not of the failed one before."""
    record = row()
    point = history_point(record, VECTOR)
    assert point is not None
    assert (point.model, point.latency_ms, point.cost_usd, point.ttft_ms) == ("sim/b", 200.0, 0.25, 50.0)
    assert (point.input_tokens, point.output_tokens, point.quality, point.quality_weight) == (10, 5, 1.0, 0.25)
    assert point.point_id == f"{record.prompt_hash}/sim/b"
    assert (point.scope.user_id, point.scope.router_id) == ("alice", "support")


@pytest.mark.parametrize(
    ("outcome", "router_id"),
    [
        (Outcome("failed", "sim/a", "simulator", (FAILED,)), "support"),
        (Outcome("canceled", "sim/a", "simulator", ()), "support"),
        (ANSWERED, None),
    ],
)
def test_nothing_is_learnt_where_no_model_answered_for_a_router(outcome: Outcome, router_id: str | None) -> None:
    """Failures are in the rows; direct calls belong to no router's history."""
    assert history_point(row(outcome, router_id=router_id), VECTOR) is None


def test_the_answering_attempt_is_the_last_good_one() -> None:
    """None where all failed."""
    assert answering_attempt(ANSWERED) is OK
    assert answering_attempt(Outcome("failed", "m", "p", (FAILED,))) is None


def test_the_prompt_hash_is_per_owner_and_router() -> None:
    """The same prompt of two tenants, or of two routers, is two points; case and spaces make no difference."""
    hashes = {
        prompt_hash(KEYRING.mac, "alice", "support", "What is  2+2?"),
        prompt_hash(KEYRING.mac, "alice", "support", "what is 2+2? "),
        prompt_hash(KEYRING.mac, "bob", "support", "what is 2+2?"),
        prompt_hash(KEYRING.mac, "alice", "other", "what is 2+2?"),
    }
    assert len(hashes) == 3
    assert all(len(digest) == 32 for digest in hashes)


def test_any_text_has_a_hash() -> None:
    """Lone surrogates and NUL do not break storing."""
    assert prompt_hash(KEYRING.mac, "alice", "support", "\ud800\x00")


def test_a_row_without_text_keeps_what_was_spent() -> None:
    """What the ledger may choke on is gone: texts of people, providers and decisions; numbers and names stay."""
    spoken = replace(FAILED, message="the provider says \x00")
    whole = replace(row(replace(ANSWERED, attempts=(spoken, OK))), stored_body={"messages": []})
    bare = without_text(whole)
    assert (bare.decision, bare.tags, bare.session_id, bare.stored_body, bare.outcome.answer) == (
        {},
        {},
        None,
        None,
        None,
    )
    assert [attempt.message for attempt in bare.outcome.attempts] == [None, None]
    assert [attempt.cost_usd for attempt in bare.outcome.attempts] == [0.5, 0.25]
    kept = (bare.key, bare.outcome.status, bare.outcome.usage, bare.overhead_ms, bare.degraded)
    assert kept == (whole.key, "completed", whole.outcome.usage, whole.overhead_ms, ("vector",))


def test_large_answers_stay_out_of_temporal() -> None:
    """Above 128 KiB the outcome travels without its answer, and says that it is stored."""
    longest = "x" * (INLINE_LIMIT_BYTES - len('{"":""}'))
    fits = replace(ANSWERED, answer={"": longest})
    assert without_large_answer(fits) is fits
    trimmed = without_large_answer(replace(ANSWERED, answer={"": longest + "x"}))
    assert (trimmed.answer, trimmed.answer_stored, trimmed.attempts) == (None, True, ANSWERED.attempts)
