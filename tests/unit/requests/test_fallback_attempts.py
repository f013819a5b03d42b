"""The attempts of a fallback phase: which one is next, who makes it, and when there is none."""

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Literal

import pytest

from activities.requests.call import CallContext
from activities.requests.fallback import NextAttempt
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.retries import FALLBACK_SEQ
from modelpilot.requests.outcome import Attempt, Outcome
from modelpilot.requests.route_request import RouteRequestInput
from tests.support.core import A, B, C, Core, failure, settle
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream

FIRST = Attempt(0, A.id, A.provider, "error", "overloaded", 529, cost_usd=0.5)
FAILED = Outcome(
    "failed", A.id, A.provider, (FIRST,), cost_usd=0.5, error_code="overloaded", error_status=529, can_fall_back=True
)
HANDED_OVER = request(plan(A, B, C))
Status = Literal["ok", "error", "canceled"]


async def plainly(work: Awaitable[Any]) -> Any:
    """No client can leave."""
    return await work


def stays() -> bool:
    """The client is there."""
    return False


def made(*attempts: tuple[str, Status], error: str = "server_error") -> list[Attempt]:
    """The first phase, and fallback attempts: model and status."""
    later = [
        Attempt(FALLBACK_SEQ + place, model, A.provider, status, error if status == "error" else status, cost_usd=0.25)
        for place, (model, status) in enumerate(attempts)
    ]
    return [FIRST, *later]


async def context_of(core: Core, accepted: RouteRequestInput = HANDED_OVER, left_ms: float = 30_000.0) -> CallContext:
    """The context of a worker's calls."""
    return await core.recovery.context(accepted, left_ms)


async def attempted(core: Core, failed: Outcome = FAILED, **changes: Any) -> Outcome | NextAttempt:
    """The next attempt."""
    return await core.fallbacks.attempt(await context_of(core, **changes), failed, plainly, stays)


@pytest.mark.parametrize(
    ("before", "model", "seq"),
    [
        ([], "b", 100),
        ([("sim/b", "error")], "c", 101),
        ([("sim/b", "error"), ("sim/c", "error")], "b", 102),
        ([("sim/b", "canceled")], "b", 101),
        ([("sim/b", "canceled"), ("sim/b", "canceled"), ("sim/b", "canceled")], "b", 103),
        ([("sim/b", "error"), ("sim/c", "canceled")], "c", 102),
        ([("sim/c", "error")], "b", 101),
    ],
)
async def test_the_ledger_says_which_attempt_is_next(before: list[tuple[str, Status]], model: str, seq: int) -> None:
    """Each model in its turn, wherever the attempts before were made. What a process that was shut down had begun is
    no attempt, but has used its number; a model that was passed over shifts no turn."""
    core = Core()
    await core.ledger.record_attempts(HANDED_OVER.key, made(*before))
    outcome = await attempted(core)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, core.providers.models, outcome.attempts[-1].seq) == ("completed", [model], seq)
    assert len(outcome.attempts) == 2 + len(before), "all phases are told, and paid"
    assert outcome.cost_usd == pytest.approx(0.5 + 0.25 * len(before) + (outcome.attempts[-1].cost_usd or 0.0))


async def test_attempts_that_are_used_up_are_the_end() -> None:
    """The last failure is the request's, with the cost of all; nothing is claimed or called."""
    core = Core()
    tried = made(("sim/b", "error"), ("sim/c", "error"), ("sim/b", "error"), error="rate_limited")
    await core.ledger.record_attempts(HANDED_OVER.key, tried)
    outcome = await attempted(core)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.error_code, outcome.attempts) == ("failed", "rate_limited", tuple(tried))
    assert outcome.cost_usd == pytest.approx(1.25)
    assert (core.providers.made, core.leases.asked) == ([], [])


@pytest.mark.parametrize(
    ("before", "code"),
    [([], "overloaded"), ([("sim/b", "canceled")], "overloaded"), ([("sim/b", "error")], "server_error")],
)
async def test_a_time_that_is_over_is_the_end(before: list[tuple[str, Status]], code: str) -> None:
    """The client hears the provider's last error, with its status, and not that a process was shut down."""
    core = Core()
    await core.ledger.record_attempts(HANDED_OVER.key, made(*before))
    outcome = await attempted(core, left_ms=-1.0)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.error_code, len(outcome.attempts)) == ("failed", code, 1 + len(before))
    assert outcome.error_status == (529 if code == "overloaded" else None)
    assert core.providers.made == []


async def test_a_call_that_a_living_process_makes_is_waited_for() -> None:
    """It is made once; its outcome is taken from the ledger."""
    core = Core()
    core.leases.alive.add("gw-2")
    core.leases.claims[HANDED_OVER.key, FALLBACK_SEQ] = "gw-2"
    attempting = asyncio.create_task(attempted(core))
    await until(lambda: len(core.leases.asked) > 3)
    assert (attempting.done(), core.providers.made) == (False, [])
    done = Outcome("completed", B.id, B.provider, (FIRST,), {"choices": []}, cost_usd=0.5)
    await core.recovery.record(HANDED_OVER, done)
    outcome = await asyncio.wait_for(attempting, 10.0)
    assert (outcome, core.providers.made) == (done, [])


async def test_a_call_that_failed_meanwhile_elsewhere_is_not_repeated() -> None:
    """The next one is made here then."""
    core = Core()
    core.leases.alive.add("gw-2")
    core.leases.claims[HANDED_OVER.key, FALLBACK_SEQ] = "gw-2"
    attempting = asyncio.create_task(attempted(core))
    await until(lambda: len(core.leases.asked) > 3)
    await core.ledger.record_attempts(HANDED_OVER.key, made(("sim/b", "error")))
    outcome = await asyncio.wait_for(attempting, 10.0)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, core.providers.models) == ("completed", ["c"])


async def test_a_call_of_a_process_that_died_is_made_here() -> None:
    """As soon as its lease is over, under the same number."""
    core = Core()
    core.leases.alive.add("gw-2")
    core.leases.claims[HANDED_OVER.key, FALLBACK_SEQ] = "gw-2"
    attempting = asyncio.create_task(attempted(core))
    await until(lambda: len(core.leases.asked) > 3)
    core.leases.alive.discard("gw-2")
    outcome = await asyncio.wait_for(attempting, 10.0)
    assert isinstance(outcome, Outcome)
    assert (outcome.attempts[-1].seq, core.providers.models) == (FALLBACK_SEQ, ["b"])


async def test_a_cancellation_while_another_process_is_waited_for() -> None:
    """The wait swallows no cancellation: it ends as one."""
    core = Core()
    core.leases.alive.add("gw-2")
    core.leases.claims[HANDED_OVER.key, FALLBACK_SEQ] = "gw-2"
    attempting = asyncio.create_task(attempted(core))
    await until(lambda: len(core.leases.asked) > 3)
    # In the wait between two looks, and in no other.
    core.sleep = _endless_sleep(waiting := asyncio.Event())
    await waiting.wait()
    attempting.cancel()
    outcome = await asyncio.wait_for(attempting, 10.0)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.attempts, core.providers.made) == ("canceled", (FIRST,), [])


def _endless_sleep(waiting: asyncio.Event) -> Any:
    async def sleep(_: float) -> bool:
        waiting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return False

    return sleep


@pytest.mark.parametrize("after", ["before", "claim"])
async def test_nothing_is_called_for_nobody(after: str) -> None:
    """Who leaves while the call is being claimed gets none either."""
    core = Core()
    claims = 0

    async def claim(_: int) -> bool:
        nonlocal claims
        claims += 1
        return True

    context = replace(await context_of(core), claim=claim)
    outcome = await core.fallbacks.attempt(context, FAILED, plainly, lambda: after == "before" or claims > 0)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.attempts, core.providers.made) == ("canceled", (FIRST,), [])
    assert claims == (after == "claim")


@pytest.mark.parametrize(
    ("models", "asked_s", "wait_s"),
    [((B,), None, 1.0), ((B,), 7.0, 7.0), ((B,), 9_999.0, 60.0), ((B, C), 7.0, 1.0)],
)
async def test_a_failed_attempt_says_when_the_next_is_due(
    models: tuple[Any, ...], asked_s: float | None, wait_s: float
) -> None:
    """Retry-After, at most 60 s, where the next model is the same, else the backoff; the attempt is committed."""
    core = Core()
    core.providers.will(B, [failure("rate_limited", retry_after_s=asked_s)])
    found = await attempted(core, accepted=request(plan(A, *models)), left_ms=120_000.0)
    assert isinstance(found, NextAttempt)
    assert (found.number, found.wait_s, found.failed.error_code) == (1, wait_s, "rate_limited")
    assert set(core.ledger.attempts[HANDED_OVER.key]) == {FALLBACK_SEQ}


@pytest.mark.parametrize(
    ("before", "left_ms", "asked_s"),
    [([("sim/b", "error")], 1_900.0, None), ([], 900.0, None), ([], 59_000.0, 60.0)],
)
async def test_a_wait_that_does_not_fit_is_the_end(
    before: list[tuple[str, Status]], left_ms: float, asked_s: float | None
) -> None:
    """The total time bounds the waits as well: the client hears the provider's error now, not a timeout later."""
    core = Core()
    await core.ledger.record_attempts(HANDED_OVER.key, made(*before))
    core.providers.will(B, [failure("rate_limited", retry_after_s=asked_s)])
    accepted = request(plan(A, B, retry_attempts=9))
    outcome = await attempted(core, accepted=accepted, left_ms=left_ms)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.error_code) == ("failed", "rate_limited")
    assert len(outcome.attempts) == 2 + len(before)


async def test_a_ledger_that_is_away_makes_an_attempt_the_last_one() -> None:
    """It cannot be committed, so nobody may make another one, and what it cost is in the outcome."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(B, [*stream()[:2], gate, failure()])
    attempting = asyncio.create_task(attempted(core))
    await until(lambda: core.providers.models == ["b"])
    core.ledger.down = True
    gate.set()
    outcome = await attempting
    assert isinstance(outcome, Outcome)
    assert (outcome.status, [attempt.seq for attempt in outcome.attempts]) == ("failed", [0, 100])
    assert outcome.attempts[-1].cost_usd


async def test_a_cancellation_while_an_attempt_is_committed_loses_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit goes on without the one who waited for it."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(B, [failure()])
    record, committing = core.ledger.record_attempts, asyncio.Event()

    async def slowly(*given: Any) -> None:
        committing.set()
        await gate.wait()
        await record(*given)

    monkeypatch.setattr(core.ledger, "record_attempts", slowly)
    attempting = asyncio.create_task(attempted(core))
    await committing.wait()
    attempting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempting
    gate.set()
    await settle()
    assert set(core.ledger.attempts[HANDED_OVER.key]) == {FALLBACK_SEQ}


@pytest.mark.parametrize("down", ["ledger", "leases"])
async def test_without_postgres_nothing_is_called(down: str) -> None:
    """Nobody knows what was tried, or who calls."""
    core = Core()
    context = await context_of(core)
    getattr(core, down).down = True
    with pytest.raises(DependencyUnavailable):
        await core.fallbacks.attempt(context, FAILED, plainly, stays)
    assert core.providers.made == []


# All of them in one process, where Temporal is away.


async def all_of_them(core: Core, accepted: RouteRequestInput = HANDED_OVER) -> Outcome:
    """Every attempt."""
    context = await context_of(core, accepted, 120_000.0)
    return await core.fallbacks.all(context, FAILED, plainly, stays)


async def test_all_attempts_wait_as_temporal_would() -> None:
    """The first at once, then 1 s and 2 s; each model in its turn, each attempt claimed and committed."""
    core = Core()
    waited: list[float] = []

    async def sleep(wait_s: float) -> bool:
        waited.append(wait_s)
        return True

    core.sleep = sleep
    for model in (B, C):
        core.providers.will(model, [failure()])
    outcome = await all_of_them(core)
    assert (outcome.status, outcome.error_code) == ("failed", "server_error")
    assert (core.providers.models, waited) == (["b", "c", "b"], [1.0, 2.0])
    assert [attempt.seq for attempt in outcome.attempts] == [0, 100, 101, 102]
    assert core.leases.asked == [(HANDED_OVER.key, seq) for seq in (100, 101, 102)]
    assert set(core.ledger.attempts[HANDED_OVER.key]) == {100, 101}, "the last one comes with the row"


async def test_an_answer_ends_them() -> None:
    """No further model is called."""
    core = Core()
    core.sleep = _no_sleep
    core.providers.will(B, [failure()])
    outcome = await all_of_them(core)
    assert (outcome.status, outcome.model, core.providers.models) == ("completed", "sim/c", ["b", "c"])


async def _no_sleep(_: float) -> bool:
    return True


async def test_a_ledger_that_goes_away_between_them_ends_them_with_all_that_was_spent() -> None:
    """The failure so far, with the attempts that were made."""
    core = Core()
    core.providers.will(B, [*stream()[:2], failure("stream_cut")])

    async def sleep(_: float) -> bool:
        core.ledger.down = True
        return True

    core.sleep = sleep
    outcome = await all_of_them(core)
    assert (outcome.status, outcome.error_code, core.providers.models) == ("failed", "stream_cut", ["b"])
    assert [attempt.seq for attempt in outcome.attempts] == [0, 100]
    assert outcome.cost_usd == pytest.approx(0.5 + (outcome.attempts[1].cost_usd or 0.0))
    assert outcome.attempts[1].cost_usd
